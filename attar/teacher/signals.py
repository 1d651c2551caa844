"""What a teacher said about the rows of a data set, row by row."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from attar.data.outputs import logits_of_probabilities, probabilities


class Signals(Protocol):
    """Teacher outputs addressed by row number."""

    width: int

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return float32 (M, width): one line a text, or the lines of all words of the rows, in order."""


class ShardSignals:
    """Rows found in memory-mapped shards.

    Args:
        shards: flat arrays (n, W).
        shard, start, count: for every row, the shard and the lines in it.
        columns: which columns of a shard to return, in this order.
    """

    def __init__(
        self,
        shards: Sequence[np.ndarray],
        shard: np.ndarray,
        start: np.ndarray,
        count: np.ndarray,
        columns: Sequence[int] | None = None,
    ) -> None:
        self.shards, self.shard, self.start, self.count = shards, shard, start, count
        self.columns = list(columns if columns is not None else range(shards[0].shape[1]))
        self.width = len(self.columns)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return float32 (M, width)."""
        found = [self.shards[s][a : a + n] for s, a, n in self._places(rows)]
        return np.concatenate(found).astype(np.float32)[:, self.columns]

    def _places(self, rows: np.ndarray) -> zip:
        return zip(self.shard[rows], self.start[rows], self.count[rows], strict=True)


class ArraySignals:
    """One line a row, from a user's own score columns."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values.astype(np.float32)
        self.width = values.shape[1]

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return float32 (M, width)."""
        return self.values[rows]


class EnsembleSignals:
    """The mean of several teachers: of their logits, or of their probabilities, given back as logits."""

    def __init__(self, members: Sequence[Signals], kind: str, combine: str) -> None:
        self.members, self.kind, self.combine = members, kind, combine
        self.width = members[0].width

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return float32 (M, width)."""
        each = np.stack([member.take(rows) for member in self.members])
        if self.combine == "logits" or self.kind == "regression":
            return each.mean(0)
        return logits_of_probabilities(probabilities(each, self.kind).mean(0), self.kind)

"""Labels of several splits as arrays beside their token ids."""

from collections.abc import Sequence

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from attar.data.encoding import Encoded
from attar.data.task import Task

#: Class label of a row without one: what PyTorch's cross-entropy ignores. Missing float labels are NaN.
MISSING = -100


class Labels:
    """Labels by row; rows of unlabelled splits hold the missing mark (-100, or NaN).

    ``values`` is (N,) int64 for single-label, (N, C) float32 for multi-label and regression. For token
    classification it is flat over the words that survived truncation, row i at ``offsets[i]:offsets[i + 1]``.
    """

    def __init__(self, values: np.ndarray, offsets: np.ndarray | None = None) -> None:
        self.values = values
        self.offsets = offsets

    def take(self, rows: np.ndarray) -> Tensor:
        """Return labels in the layout that objectives expect: one row a text, or one a word."""
        if self.offsets is None:
            return torch.from_numpy(self.values[rows])
        found = [self.values[self.offsets[r] : self.offsets[r + 1]] for r in rows]
        return torch.from_numpy(np.concatenate(found))


def collect_labels(parts: Sequence[tuple[Dataset, bool]], task: Task, encoded: Encoded) -> Labels:
    """Gather the labels of several splits.

    Args:
        parts: splits in the order in which they were encoded, each with whether its labels count.
        task: what the labels are.
        encoded: the encoded splits, needed for tokens: words cut off by the length limit lose their label.
    """
    if task.kind == "token":
        return _token_labels(parts, encoded)
    if task.kind == "single-label":
        columns = [_column(d, np.int64) if known else np.full(len(d), MISSING) for d, known in parts]
        return Labels(np.concatenate(columns))
    width = task.n_outputs
    rows = [
        _column(d, np.float32).reshape(len(d), width) if known else np.full((len(d), width), np.nan, np.float32)
        for d, known in parts
    ]
    return Labels(np.concatenate(rows).astype(np.float32))


def count_known(labels: Tensor) -> int:
    """Return how many rows of what :meth:`Labels.take` returns have a label."""
    if labels.is_floating_point():
        return int((~labels.isnan().any(-1)).sum())
    return int((labels != MISSING).sum())


def plain_labels(split: Dataset, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Return (labels, counts) of a labelled split as it stands, before any length limit: a row a text or a word."""
    if task.kind == "token":
        tags = split["label"]
        return np.concatenate([np.asarray(row, np.int64) for row in tags]), np.array([len(row) for row in tags])
    dtype = np.int64 if task.kind == "single-label" else np.float32
    return _column(split, dtype), np.ones(len(split), np.int64)


def _column(split: Dataset, dtype: type[np.generic]) -> np.ndarray:
    return np.asarray(split.with_format(None)["label"][:], dtype=dtype)


def _token_labels(parts: Sequence[tuple[Dataset, bool]], encoded: Encoded) -> Labels:
    rows: list[np.ndarray] = []
    for split, known in parts:
        for tags in split["label"] if known else [None] * len(split):
            words = encoded.words(len(rows))
            rows.append(np.full(len(words), MISSING) if tags is None else np.asarray(tags, np.int64)[words])
    return Labels(np.concatenate(rows), np.cumsum([0, *map(len, rows)]))

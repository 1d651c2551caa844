"""Run a batch whose rows belong to different tasks: what they have in common once, the rest by row."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from attar.nets.first_token import reads_first_token
from attar.nets.mixed.changes import Changes
from attar.nets.mixed.rows import Rows, computing
from attar.nets.mixed.tree import MixedTree
from attar.nets.scoring import model_inputs


@dataclass(frozen=True, eq=False)
class _Row:
    """A text and what a task makes of it."""

    number: int
    text: int
    task: Changes
    rank: int
    """Of the task in this batch. Tasks with modules of their own come last, those with most of them at the end."""

    def key(self, layer: int) -> tuple[int, int]:
        """Return what decides the states that layer ``layer`` reads or changes: (task or none so far, text)."""
        return (self.rank if self.task.first <= layer else -1, self.text)


def mixed_logits(
    tree: MixedTree, batch: Mapping[str, Tensor], texts: Sequence[int], tasks: Sequence[Changes], max_tokens: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (row number, logits float32) for every row, in any order; (C,) or (T, C) where the task is about words.

    Below the first layer that a task changes its rows are the encoder's own, and equal texts are one row: one text for
    many tasks runs once as far as they agree.

    Args:
        tree: of the encoder.
        batch: the texts, padded tensors (U, T) on the encoder's device.
        texts: the text of every row.
        tasks: the task of every row.
        max_tokens: most rows x T that run at a time where rows of one text part.
    """
    ranks = {id(task): i for i, task in enumerate(sorted(dict.fromkeys(tasks), key=lambda task: -task.own_from))}
    rows = [_Row(i, text, task, ranks[id(task)]) for i, (text, task) in enumerate(zip(texts, tasks, strict=True))]
    inner = {task.first for task in tasks} - {0, tree.depth}
    most = max(1, max_tokens // batch["attention_mask"].shape[1])
    yield from _above(tree, batch, rows, [0, *sorted(inner), tree.depth], most, None)


@dataclass(frozen=True, eq=False)
class _States:
    """What the rows have come to so far."""

    hidden: Tensor
    """(B, T, W)."""
    layer: int
    """The first layer of the segment that made it."""
    places: dict[tuple[int, int], int]
    """The place in ``hidden`` by the rows' keys there."""

    def of(self, rows: Sequence[_Row]) -> Tensor:
        """Return the states of rows, without a copy where they lie so already."""
        index = [self.places[row.key(self.layer)] for row in rows]
        if index == list(range(len(self.hidden))):
            return self.hidden
        return self.hidden[torch.tensor(index, device=self.hidden.device)]


def _above(
    tree: MixedTree,
    batch: Mapping[str, Tensor],
    rows: list[_Row],
    bounds: list[int],
    most: int,
    states: _States | None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Run rows from the first bound to the end; every bound but the last is the bottom of a segment of layers."""
    layer = bounds[0]
    for same in _portions(rows, layer, most):
        first = [those[0] for those in same.values()]
        texts = [row.text for row in first]
        if layer == tree.depth:
            assert states is not None
            yield from _answers(tree, batch["attention_mask"], list(same.values()), states)
            continue
        inputs = model_inputs(batch) if texts == list(range(len(batch["attention_mask"]))) else _take(batch, texts)
        if states is not None:
            inputs = {"inputs_embeds": states.of(first), "attention_mask": inputs["attention_mask"]}
        changed = [(row.task if row.key(layer)[0] >= 0 else None) for row in first]
        # The last segment, where no row has a head on every word.
        alone = bounds[1] == tree.depth and all(
            reads_first_token(row.task.head) for those in same.values() for row in those
        )
        with computing(Rows(_groups(changed))):
            hidden = tree.segment(layer, bounds[1], inputs, first_token=alone)
        here = _States(hidden, layer, {key: i for i, key in enumerate(same)})
        yield from _above(tree, batch, [row for those in same.values() for row in those], bounds[1:], most, here)


def _answers(
    tree: MixedTree, mask: Tensor, same: list[list[_Row]], states: _States
) -> Iterator[tuple[int, np.ndarray]]:
    """Run the heads, all of one class at a time. Rows that are equal to the end get one answer."""
    for kind in dict.fromkeys(those[0].task.head for those in same):
        mine = [those for those in same if those[0].task.head is kind]
        rows = [those[0] for those in mine]
        index = torch.tensor([row.text for row in rows], device=mask.device)
        with computing(Rows(_groups([row.task for row in rows]))):
            logits = tree.head(kind, states.of(rows), mask[index]).float().cpu().numpy()
        for those, values in zip(mine, logits, strict=True):
            for row in those:
                yield row.number, values[..., : row.task.outputs]


def _portions(rows: Sequence[_Row], layer: int, most: int) -> Iterator[dict[tuple[int, int], list[_Row]]]:
    """Yield rows by what is one row of the batch at a layer, those of a task together, at most ``most`` at a time."""
    same: dict[tuple[int, int], list[_Row]] = {}
    for row in rows:
        same.setdefault(row.key(layer), []).append(row)
    keys = sorted(same)
    for start in range(0, len(keys), most):
        yield {key: same[key] for key in keys[start : start + most]}


def _groups(tasks: Sequence[Changes | None]) -> list[tuple[Changes | None, int]]:
    return [(task, len(list(rows))) for task, rows in groupby(tasks)]


def _take(batch: Mapping[str, Tensor], texts: list[int]) -> dict[str, Tensor]:
    index = torch.tensor(texts, device=batch["attention_mask"].device)
    return {name: tensor[index] for name, tensor in model_inputs(batch).items()}

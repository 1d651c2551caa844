"""Which run comes next: the first seed of every method before the others, the cheapest first, within the budget."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from attar.compare.grid import Cell
from attar.config import RunConfig
from attar.recipe import config_of

#: Work a text and epoch, in forwards of the whole encoder: a forward is 1, a backward 2, half of the layers half of
#: that; frozen weights save their share of the backward. Serves for the order before anything is measured.
_WORK = {
    "bilstm-soft": 0.1,
    "logits": 1.5,
    "distilbert": 1.5,
    "tinybert": 1.5,
    "freezing": 1.0,
    "bitfit": 2.0,
    "adapters": 2.0,
    "lora": 2.0,
    "full": 3.0,
}


@dataclass(frozen=True)
class Spent:
    """What a finished run took."""

    cell: Cell
    seconds: float


def next_cell(waiting: Sequence[Cell], ready: Sequence[Cell], spent: Sequence[Spent]) -> Cell:
    """Return which of the ``ready`` runs comes next; ``waiting`` are all that have not run.

    A method comes before another's second seed as long as none of its own runs is done. The ``full`` runs that a
    waiting distillation learns from count as such.
    """
    blocked = [cell for cell in waiting if cell not in ready]
    begun = {s.cell.label for s in spent}

    def order(cell: Cell) -> tuple[bool, float]:
        first = cell.label not in begun or (bool(blocked) and cell.method == "full")
        return not first, estimate(cell, spent) or guess(cell)

    return min(ready, key=order)


def estimate(cell: Cell, spent: Sequence[Spent]) -> float | None:
    """Return the seconds that a run will take, by the same method's runs or else by the others; None before any."""
    own = [s.seconds for s in spent if s.cell.label == cell.label]
    if own:
        return statistics.mean(own)
    if not spent:
        return None
    scaled = statistics.median(s.seconds / guess(s.cell) for s in spent) * guess(cell)
    # Starting up and measuring take their time whatever the method.
    return max(scaled, min(s.seconds for s in spent))


def guess(cell: Cell) -> float:
    """Return the work of a run, in forwards of the encoder over the training texts."""
    config = config_of(cell.table)
    assert isinstance(config, RunConfig)
    return _WORK.get(cell.method, 3.0) * config.train.epochs

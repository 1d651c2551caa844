"""Which rows of the batch that is being computed belong to which task."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from attar.nets.mixed.changes import Change, Changes


class Span(NamedTuple):
    """Neighbouring rows that compute the same at a place."""

    start: int
    stop: int
    change: Change | None
    """None: as the encoder."""
    task: Changes | None


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one forward pass, those of a task together."""

    groups: Sequence[tuple[Changes | None, int]]
    """Tasks and how many rows of each there are, in order; None for rows that no task has changed so far."""
    kept: dict[Any, Any] = field(default_factory=dict)
    """What is computed once a pass."""

    def at(self, place: str) -> list[Span] | None:
        """Return the spans of all rows at a place; None where all compute as the encoder."""
        changes = [None if task is None else task.at.get(place) for task, _ in self.groups]
        if not any(changes):
            return None
        spans: list[Span] = []
        start = 0
        for change, (task, count) in zip(changes, self.groups, strict=True):
            if change is None and spans and spans[-1].change is None:
                spans[-1] = Span(spans[-1].start, start + count, None, None)
            else:
                spans.append(Span(start, start + count, change, task))
            start += count
        return spans


#: Of this thread's pass. Threads share the modules and differ in this alone.
_current: ContextVar[Rows] = ContextVar("rows")


def current() -> Rows:
    """Return the rows of the pass that runs in this thread."""
    return _current.get()


@contextmanager
def computing(rows: Rows) -> Iterator[None]:
    """Say which rows the passes within are about."""
    token = _current.set(rows)
    try:
        yield
    finally:
        _current.reset(token)

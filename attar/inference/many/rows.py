"""Rows of several tasks over one encoder, checked."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from attar.errors import ConfigError, DataError, nearest
from attar.inference.predictor import Predictor
from attar.nets.mixed.changes import Changes

#: A delta's name and a text (a list of words for token classification), and the second text of a task of pairs.
Row = tuple[str, Any] | tuple[str, Any, str | None]


class Member(NamedTuple):
    """One task of a set."""

    predictor: Predictor
    changes: Changes | None
    """None: its rows are run through its own model."""


class Asked(NamedTuple):
    """A row, checked."""

    member: Member
    text: Any
    pair: str | None


def check_rows(rows: Sequence[Row], members: Mapping[str, Member]) -> list[Asked]:
    """Return the rows with their tasks.

    Raises:
        ConfigError: for a delta that is not there.
        DataError: for a row of another form, with its number.
    """
    if isinstance(rows, str):
        raise DataError("expected a list of rows (delta, text) or (delta, text, second text), found one string")
    return [_check(i + 1, row, members) for i, row in enumerate(rows)]


def _check(number: int, row: Any, members: Mapping[str, Member]) -> Asked:
    if not isinstance(row, tuple | list) or len(row) not in (2, 3):
        found = f"{len(row)} entries" if isinstance(row, tuple | list) else type(row).__name__
        raise DataError(f"row {number}: expected (delta, text) or (delta, text, second text), found {found}")
    name, text, pair = row if len(row) == 3 else (*row, None)
    if name not in members:
        there = ", ".join(members) or "none"
        raise ConfigError(f"row {number}: no delta is named {name!r}{nearest(str(name), members)} (there are: {there})")
    task = members[name].predictor.task
    if not isinstance(text, list | tuple if task.kind == "token" else str):
        wanted = "a list of words" if task.kind == "token" else "a string"
        raise DataError(f"row {number}: {name!r} expects {wanted}, found {type(text).__name__}")
    if task.kind == "token" and not all(isinstance(word, str) for word in text):
        raise DataError(f"row {number}: {name!r} expects a list of words, found one that is no string")
    if not isinstance(pair, str | None):
        raise DataError(f"row {number}: expected a second text, found {type(pair).__name__}")
    if task.pair is not None and pair is None:
        raise DataError(f"row {number}: {name!r} labels pairs of texts; give the second text too")
    return Asked(members[name], text, pair)

"""Objects out of JSON text, one at a time, each with the line it begins on."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from attar.data.formats.raw import open_text
from attar.errors import DataError

_EXAMPLE = '{"text": "...", "label": "..."}'
_SPACE = re.compile(r"[ \t\r\n]*")
_STEP = 1 << 20
#: Where a value or a line is longer than this many characters, something else is wrong.
_LONGEST_VALUE = 1 << 28
_LONGEST_LINE = 1 << 24
#: Columns are decoded whole; files of rows have no such bound.
_LARGEST_COLUMNS = 1 << 29


class Row(NamedTuple):
    """One object of the file."""

    line: int
    values: dict[str, Any]
    size: int
    """Characters it took, for the size of batches."""


def is_json_lines(file: Path) -> bool:
    """Tell whether a ``.json`` file holds one object a line, as many tools write it."""
    with open_text(file) as stream:
        first = stream.readline(_LONGEST_LINE)
        while first and first.isspace():
            first = stream.readline(_LONGEST_LINE)
        if not first.startswith("{"):
            return False
        try:
            json.loads(first)
        except (ValueError, RecursionError):
            return False
        return any(not line.isspace() for line in iter(lambda: stream.readline(_LONGEST_LINE), ""))


def line_rows(file: Path, *, skip_bad_rows: bool = False) -> Iterator[Row]:
    """Read JSON Lines; blank lines are skipped, and with ``skip_bad_rows`` a line without an object has no values."""
    with open_text(file) as stream:
        for number, line in enumerate(stream, 1):
            if line.isspace():
                continue
            try:
                values = _line_object(file, number, line)
            except DataError:
                if not skip_bad_rows:
                    raise
                values = {}
            yield Row(number, values, len(line))


def _line_object(file: Path, number: int, line: str) -> dict[str, Any]:
    try:
        return _object(file, number, json.loads(line))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{file}, line {number}: expected one JSON object such as {_EXAMPLE}, found text that is not "
            f"JSON ({error.msg} at column {error.colno}); mend the line"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}, line {number}: {_unreadable(error)}; mend the line") from error


def _unreadable(error: Exception) -> str:
    """Say what is wrong with JSON that Python's decoder gives up on."""
    found = "values nested too deeply" if isinstance(error, RecursionError) else "a number with too many digits"
    return f"expected JSON such as {_EXAMPLE}, found {found}"


def document_rows(file: Path) -> Iterator[Row]:
    """Read an array of objects, an object with one list of objects, or an object of columns."""
    with open_text(file) as stream:
        window = _Window(file, stream)
        first = window.peek()
        if not first:
            return
        if first == "[":
            window.take("[")
            yield from _rows(window)
        elif first == "{":
            yield from _rows_inside_object(window)
        else:
            raise window.fault(f"expected a list of objects such as [{_EXAMPLE}], found {first!r}")
        if window.peek():
            raise window.fault("expected the end of the file after the list of rows, found more text")


def _rows(window: "_Window") -> Iterator[Row]:
    for line, values, size in _items(window):
        yield Row(line, _object(window.file, line, values), size)


def _rows_inside_object(window: "_Window") -> Iterator[Row]:
    """Yield the rows of the object's one list of objects; where it has none, turn its lists into rows."""
    columns: dict[str, list[Any] | dict[str, Any]] = {}
    rows_key = None
    more = window.take("{") == "{" and window.peek() != "}"
    while more:
        key, _ = window.value()
        window.take(":")
        if window.peek() != "[":
            value, _ = window.value()
            if isinstance(value, dict):
                columns[str(key)] = value
        elif window.take("[") and window.peek() != "{":
            _check_fits(window.file)
            columns[str(key)] = [value for _, value, _ in _items(window)]
        elif rows_key is not None:
            raise window.fault(f"expected one list of objects, found two: {rows_key!r} and {key!r}")
        else:
            rows_key = str(key)
            yield from _rows(window)
        more = window.take(",}") == ","
    if rows_key is None:
        yield from _column_rows(window.file, columns)


def _check_fits(file: Path) -> None:
    if file.stat().st_size > _LARGEST_COLUMNS:
        raise DataError(
            f"{file}: expected a list of objects, found columns of more than {_LARGEST_COLUMNS >> 20} MiB; "
            "convert the file to JSON Lines"
        )


def _column_rows(file: Path, columns: dict[str, list[Any] | dict[str, Any]]) -> Iterator[Row]:
    if not columns:
        raise DataError(f"{file}: expected a list of objects such as [{_EXAMPLE}], found none; mend the file")
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"{file}: expected a list of objects or columns of one length, found columns of: {found}")
    by_key = [values for values in columns.values() if isinstance(values, dict)]
    keys = list(by_key[0]) if by_key else []  # as pandas writes a table: every column by the rows' index
    if any(values.keys() != by_key[0].keys() for values in by_key):
        raise DataError(f"{file}: expected the same rows in all columns, found different keys in {', '.join(columns)}")
    lists = ([values[key] for key in keys] if isinstance(values, dict) else values for values in columns.values())
    for values in zip(*lists, strict=True):
        yield Row(1, dict(zip(columns, values, strict=True)), 100)


def _items(window: "_Window") -> Iterator[tuple[int, Any, int]]:
    """Yield the values of an array whose bracket was taken."""
    if window.peek() == "]":
        window.take("]")
        return
    while True:
        window.peek()
        line = window.line
        value, size = window.value()
        yield line, value, size
        if window.take(",]") == "]":
            return


def _object(file: Path, line: int, values: Any) -> dict[str, Any]:
    if isinstance(values, dict):
        return values
    found = type(values).__name__
    raise DataError(f"{file}, line {line}: expected a JSON object such as {_EXAMPLE}, found a {found}; mend the line")


class _Window:
    """A part of a JSON text that slides forward as values are decoded."""

    def __init__(self, file: Path, stream: TextIO) -> None:
        self.file = file
        self.line = 1
        self._stream = stream
        self._text = ""
        self._at = 0
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """Return the next character that is no space, or an empty string at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._advance(match.end() if match else self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read():
                return ""

    def take(self, expected: str) -> str:
        """Pass over the next character, which must be one of ``expected``."""
        found = self.peek()
        if not found or found not in expected:
            wanted = " or ".join(map(repr, expected))
            raise self.fault(f"expected {wanted}, found {repr(found) if found else 'the end of the file'}")
        self._advance(self._at + 1)
        return found

    def value(self) -> tuple[Any, int]:
        """Decode the next value; return it with the number of characters it took."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                # A value that the window cuts off fails at its very end, or is a string without an end.
                cut = error.pos > len(self._text) - 32 or error.msg.startswith("Unterminated string")
                if cut and len(self._text) - self._at < _LONGEST_VALUE and self._read():
                    continue
                self._advance(error.pos)
                raise self.fault(f"expected JSON, found something else ({error.msg})") from error
            except (ValueError, RecursionError) as error:
                raise self.fault(_unreadable(error)) from error
            if end == len(self._text) and self._read():
                continue
            size = end - self._at
            self._advance(end)
            return value, size

    def fault(self, what: str) -> DataError:
        """Return an error at the current line."""
        return DataError(f"{self.file}, line {self.line}: {what}; mend the file")

    def _advance(self, to: int) -> None:
        self.line += self._text.count("\n", self._at, to)
        self._at = to

    def _read(self) -> bool:
        # As much again as is pending, so that a long value is not decoded from its start too often.
        chunk = self._stream.read(max(_STEP, len(self._text) - self._at))
        self._text = self._text[self._at :] + chunk
        self._at = 0
        return bool(chunk)

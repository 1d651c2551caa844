"""JSON and JSON Lines as batches of typed columns, decoded object by object so that no file need fit in memory."""

import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from attar.data.formats.json_stream import Row, document_rows, is_json_lines, line_rows
from attar.data.formats.raw import BATCH_CHARS, BATCH_ROWS, Source, TryNext
from attar.errors import DataError


def json_sources(file: Path, *, lines: bool, skip_bad_rows: bool = False) -> list[Source]:
    """List the ways to read a JSON file, or a JSON Lines file where ``lines``.

    The first takes the types of the columns from the first rows. Where later rows have others
    (a float after integers), the second looks at all rows before it writes one.
    """
    by_line = lines or is_json_lines(file)
    rows = partial(line_rows, file, skip_bad_rows=skip_bad_rows) if by_line else partial(document_rows, file)
    return [
        lambda: _conformed(_batches(file, rows()), None),
        lambda: _conformed(_batches(file, rows()), _scan_schema(file, rows)),
    ]


def _conformed(batches: Iterator[pa.RecordBatch], schema: pa.Schema | None) -> Iterator[pa.RecordBatch]:
    """Bring every batch to one schema: the given one, or that of the first batch for as long as it holds."""
    for batch in batches:
        if schema is None:
            schema = batch.schema
        elif batch.schema != schema:
            try:
                merged = pa.unify_schemas([schema, batch.schema], promote_options="permissive")
            except pa.ArrowException as error:
                raise TryNext from error
            if merged != schema:
                raise TryNext
            columns = [_cast(batch, field) for field in schema]
            batch = pa.record_batch(columns, schema=schema)
        yield batch


def _cast(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    if field.name not in batch.schema.names:
        return pa.nulls(len(batch), field.type)
    # Integers past 2**53 lose digits as floats, which no label or score minds.
    return batch.column(field.name).cast(field.type, safe=False)


def _scan_schema(file: Path, rows: partial[Iterator[Row]]) -> pa.Schema:
    """Read all rows for the types that hold every one of them."""
    schema = pa.schema([])
    for batch in _batches(file, rows()):
        try:
            schema = pa.unify_schemas([schema, batch.schema], promote_options="permissive")
        except pa.ArrowException as error:
            raise _type_clash(file, rows(), error) from error
    return schema


def _batches(file: Path, rows: Iterable[Row]) -> Iterator[pa.RecordBatch]:
    chunk: list[Row] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += row.size
        if len(chunk) == BATCH_ROWS or size > BATCH_CHARS:
            yield _to_batch(file, chunk)
            chunk, size = [], 0
    if chunk:
        yield _to_batch(file, chunk)


def _to_batch(file: Path, chunk: list[Row]) -> pa.RecordBatch:
    names = dict.fromkeys(name for row in chunk for name in row.values)
    try:
        return pa.record_batch({name: _to_array([row.values.get(name) for row in chunk]) for name in names})
    except (pa.ArrowException, OverflowError, UnicodeError) as error:
        raise _type_clash(file, chunk, error) from error


def _to_array(values: list[Any]) -> pa.Array:
    """Make a column. Nested objects are kept as JSON text: no task reads them, and their types seldom agree."""
    if any(isinstance(value, dict) or (isinstance(value, list) and _holds_containers(value)) for value in values):
        values = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
    return pa.array(values)


def _holds_containers(values: list[Any]) -> bool:
    return any(isinstance(value, dict | list) for value in values)


def _type_clash(file: Path, rows: Iterable[Row], error: Exception) -> DataError:
    """Return the error for the first value that is of another kind than the column's values before it."""
    kinds: dict[str, str] = {}
    for row in rows:
        for name, value in row.values.items():
            kind = _kind(value)
            if kind and kinds.setdefault(name, kind) != kind:
                return DataError(
                    f"{file}, line {row.line}: expected {kinds[name]} in column {name!r} as in the rows before, "
                    f"found {kind}: {_shorten(value)}; give the column one type"
                )
            try:
                _to_array([value])
            except (pa.ArrowException, OverflowError, UnicodeError) as fault:
                return DataError(
                    f"{file}, line {row.line}: column {name!r} holds a value that cannot be stored "
                    f"({_shorten(str(fault))}); mend or remove it"
                )
    return DataError(f"{file}: expected one type in every column, found several ({_shorten(str(error))}); mend them")


def _kind(value: Any) -> str | None:
    if isinstance(value, list):
        inner = next((kind for kind in map(_kind, value) if kind), None)
        return f"a list of {inner.removeprefix('a ')}s" if inner else None
    if value is None:
        return None
    if isinstance(value, bool):
        return "a boolean"
    return {"str": "a string", "int": "a number", "float": "a number"}.get(type(value).__name__, "an object")


def _shorten(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."

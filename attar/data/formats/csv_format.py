"""CSV and TSV as batches of string columns.

pyarrow reads the file. Where it gives up, Python's own reader goes through it once more: slower, and exact
about the line.
"""

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from attar.data.formats.raw import BATCH_CHARS, BATCH_ROWS, Source, TryNext, open_text
from attar.errors import DataError

_BLOCK = 1 << 22
_LONGEST_CELL = 1 << 26


def csv_sources(file: Path, *, tabs: bool, skip_bad_rows: bool = False) -> list[Source]:
    """List the ways to read a CSV file, or a TSV file where ``tabs``.

    With ``skip_bad_rows`` the last of them empties all cells of a row that has too many or too few. A quote that is
    never closed is refused even so: nobody knows where the rows after it begin.
    """
    delimiter = "\t" if tabs else _sniff_delimiter(file)
    names = _read_header(file, delimiter)
    quoted = partial(_read_fast, file, names, delimiter, quoted=True)
    careful = partial(_read_exact, file, names, delimiter, skip_bad_rows=skip_bad_rows)
    if not tabs:
        return [quoted, careful]
    # Half of the world's TSV files quote nothing, and a lone quote mark there must not swallow the lines after it.
    return [partial(_read_fast, file, names, delimiter, quoted=False), quoted, careful]


def _sniff_delimiter(file: Path) -> str:
    """Return the comma, or what spreadsheets of many countries write in its place."""
    with open_text(file) as stream:
        header = stream.readline(_BLOCK)
    if "," in header:
        return ","
    return next((mark for mark in ";\t" if mark in header), ",")


def _read_header(file: Path, delimiter: str) -> list[str]:
    with open_text(file) as stream:
        try:
            header = next(csv.reader(stream, delimiter=delimiter), [])
        except csv.Error as error:
            raise DataError(f"{file}, line 1: expected column names, found {error}; mend the header") from error
    names = [name.strip() or f"column_{i}" for i, name in enumerate(header, 1)]
    if not any(name.strip() for name in header):
        raise DataError(f"{file}, line 1: expected a header with column names, found an empty file or line; add one")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{file}, line 1: expected different column names, found {twice[0]!r} twice; rename one")
    return names


def _read_fast(file: Path, names: list[str], delimiter: str, *, quoted: bool) -> Iterator[pa.RecordBatch]:
    compression = "gzip" if file.suffix.lower() == ".gz" else None
    last = None
    try:
        with pa.input_stream(str(file), compression=compression) as stream:
            # The header row is skipped rather than used, because the names were cleaned.
            reader = pa.csv.open_csv(
                stream,
                read_options=pa.csv.ReadOptions(block_size=_BLOCK, column_names=names, skip_rows_after_names=1),
                parse_options=pa.csv.ParseOptions(
                    delimiter=delimiter, quote_char='"' if quoted else False, newlines_in_values=quoted
                ),
                convert_options=pa.csv.ConvertOptions(
                    column_types={name: pa.string() for name in names}, strings_can_be_null=False
                ),
            )
            for batch in reader:
                last = batch if len(batch) else last
                yield batch if quoted else _unquote(batch)
    except (pa.ArrowException, OSError) as error:
        raise TryNext from error
    # pyarrow closes a quote that is still open at the end of the file; then the last cell holds lines.
    if quoted and last is not None and "\n" in last.column(len(names) - 1)[-1].as_py():
        raise TryNext


def _unquote(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Undo the quoting of cells that were read as they stand."""
    columns = []
    for column in batch.columns:
        inner = pc.replace_substring(pc.utf8_slice_codeunits(column, 1, -1), '""', '"')
        columns.append(pc.if_else(pc.match_substring_regex(column, r'^"([^"]|"")*"$'), inner, column))
    return pa.record_batch(columns, names=batch.schema.names)


def _read_exact(file: Path, names: list[str], delimiter: str, *, skip_bad_rows: bool) -> Iterator[pa.RecordBatch]:
    rows: list[list[str]] = []
    size = 0
    for row in _exact_rows(file, names, delimiter, skip_bad_rows=skip_bad_rows):
        rows.append(row)
        size += sum(map(len, row))
        if len(rows) == BATCH_ROWS or size > BATCH_CHARS:
            yield _to_batch(rows, names)
            rows, size = [], 0
    if rows:
        yield _to_batch(rows, names)


def _exact_rows(file: Path, names: list[str], delimiter: str, *, skip_bad_rows: bool) -> Iterator[list[str]]:
    limit = csv.field_size_limit(_LONGEST_CELL)
    line = 1
    try:
        with open_text(file) as stream:
            reader = csv.reader(stream, delimiter=delimiter, strict=True)
            next(reader, None)
            line = reader.line_num + 1
            for row in reader:
                if row and len(row) != len(names):
                    if not skip_bad_rows:
                        raise _ragged(f"{file}, line {line}", names, row, several_lines=reader.line_num > line)
                    row = [""] * len(names)
                if row:
                    yield row
                line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{file}, line {line}: expected balanced quotes, found a quoted cell that does not end where it should "
            f"({error}); close it, or double the quote marks inside it"
        ) from error
    finally:
        csv.field_size_limit(limit)


def _ragged(where: str, names: list[str], row: list[str], *, several_lines: bool) -> DataError:
    hint = "see whether the quote that opens here is closed" if several_lines else "quote texts that hold the delimiter"
    return DataError(f"{where}: expected {len(names)} columns ({', '.join(names)}), found {len(row)}; {hint}")


def _to_batch(rows: list[list[str]], names: list[str]) -> pa.RecordBatch:
    return pa.record_batch([pa.array(column, pa.string()) for column in zip(*rows, strict=True)], names=names)

"""Tables to one file: Parquet, CSV or JSON Lines, the last two also gzipped."""

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from attar.errors import ConfigError

#: Rows and bytes after which a row group of Parquet is written.
_GROUP_ROWS = 65_536
_GROUP_BYTES = 1 << 26


def format_to_write(out: Path) -> str:
    """Return the suffix that decides on the format.

    Raises:
        ConfigError: for a name that stands for no format.
    """
    name = out.name.lower()
    endings = (".csv.gz", ".jsonl.gz", *_WRITERS)
    found = next((ending for ending in endings if name.endswith(ending)), None)
    if found is None:
        raise ConfigError(f"--out expects a name that ends in {', '.join(sorted(endings))}; found {str(out)!r}")
    return found


def write_tables(tables: Iterable[pa.Table], schema: pa.Schema, ending: str, out: Path) -> None:
    """Write tables one after another.

    Args:
        tables: of this schema, in order.
        schema: the columns.
        ending: as :func:`format_to_write` returned it.
        out: the file.
    """
    _WRITERS[ending.removesuffix(".gz")](tables, schema, ending, out)


def _write_parquet(tables: Iterable[pa.Table], schema: pa.Schema, _: str, out: Path) -> None:
    with pq.ParquetWriter(out, schema) as writer:
        held: list[pa.Table] = []
        for table in tables:
            held.append(table)
            if sum(map(len, held)) >= _GROUP_ROWS or sum(part.nbytes for part in held) >= _GROUP_BYTES:
                writer.write_table(pa.concat_tables(held))
                held = []
        if held:
            writer.write_table(pa.concat_tables(held))


def _write_csv(tables: Iterable[pa.Table], schema: pa.Schema, ending: str, out: Path) -> None:
    with _open(out, ending) as file:
        writer = csv.writer(file)
        writer.writerow(schema.names)
        for columns in _chunks(tables):
            writer.writerows(zip(*(map(_cell, column) for column in columns.values()), strict=True))


def _write_jsonl(tables: Iterable[pa.Table], schema: pa.Schema, ending: str, out: Path) -> None:
    with _open(out, ending) as file:
        for columns in _chunks(tables):
            for row in zip(*columns.values(), strict=True):
                values = dict(zip(schema.names, row, strict=True))
                file.write(json.dumps(values, ensure_ascii=False, default=str) + "\n")


_WRITERS: dict[str, Callable[[Iterable[pa.Table], pa.Schema, str, Path], None]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
}


def _chunks(tables: Iterable[pa.Table]) -> Iterator[dict[str, list[Any]]]:
    for table in tables:
        yield table.to_pydict()


@contextmanager
def _open(out: Path, ending: str) -> Iterator[TextIO]:
    if not ending.endswith(".gz"):
        with out.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    # No name and no time in the header, so that equal rows make equal files.
    with (
        out.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0, compresslevel=6) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as file,
    ):
        yield file


def _cell(value: Any) -> Any:
    """A CSV cell has no lists; they are written as JSON."""
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list) else value

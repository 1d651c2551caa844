"""Any data file as a memory-mapped dataset.

A file is converted once, batch by batch, into an Arrow stream in the cache folder, so that it may be larger than
memory. The copy gets its final name only when it is whole; several processes may convert the same file at once.
"""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from attar.data.formats.csv_format import csv_sources
from attar.data.formats.json_format import json_sources
from attar.data.formats.raw import BATCH_CHARS, BATCH_ROWS, Source, TryNext, text_lines
from attar.data.paths import cache_root
from attar.errors import CacheError, DataError

_FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".txt": "text",
}
KNOWN_FORMATS = "CSV, TSV, JSON, JSON Lines (also .gz) or Parquet"
#: Part of a converted file's name: raise it when the conversion changes.
_VERSION = 1


def format_of(file: Path) -> str | None:
    """Return the format that a file name stands for, or None."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        found = _FORMATS.get(suffixes[-2]) if len(suffixes) > 1 else None
        return None if found == "parquet" else found
    return _FORMATS.get(suffixes[-1]) if suffixes else None


def open_file(file: Path, *, skip_bad_rows: bool = False) -> Dataset:
    """Return the rows of a data file, memory-mapped.

    Args:
        file: in any of the formats.
        skip_bad_rows: read a line that is not JSON, and a row of CSV with too many or too few cells, as one without
            values, in its place.

    Raises:
        DataError: where the file is malformed (by line) or empty.
        CacheError: where the converted copy cannot be written.
    """
    stat = file.stat()
    identity = f"{file.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\0{_VERSION}"
    identity += "\0skip-bad-rows" if skip_bad_rows else ""
    target = cache_root() / "data" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.arrow"
    if not target.exists():
        if stat.st_size == 0:
            raise DataError(f"{file}: expected a header and rows, found an empty file; check how it was made")
        _check_readable(file)
        try:
            _convert(file, target, skip_bad_rows=skip_bad_rows)
        except OSError as error:
            raise CacheError(
                f"cannot write the converted copy of {file} to {target.parent}: {error.strerror or error}; "
                "free some space there or set ATTAR_CACHE to another folder"
            ) from error
    return Dataset.from_file(str(target))


def _check_readable(file: Path) -> None:
    try:
        file.open("rb").close()
    except OSError as error:
        raise DataError(f"{file}: expected a file that can be read, found: {error.strerror}") from error


def _convert(file: Path, target: Path, *, skip_bad_rows: bool) -> None:
    """Write the Arrow copy by the first way of reading that succeeds."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=target.stem, suffix=".tmp", delete=False) as handle:
        temporary = Path(handle.name)
    try:
        for source in _sources(file, skip_bad_rows=skip_bad_rows):
            try:
                rows = _write(source(), temporary)
                break
            except TryNext:
                continue
        if rows == 0:
            raise DataError(f"{file}: expected rows, found none; check how the file was made")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _write(batches: Iterator[pa.RecordBatch], out: Path) -> int:
    """Write the batches as an Arrow stream; return the number of rows."""
    rows = 0
    writer = None
    try:
        for batch in batches:
            writer = writer or pa.ipc.new_stream(str(out), batch.schema)
            writer.write_batch(batch)
            rows += len(batch)
    finally:
        if writer is not None:
            writer.close()
    return rows


def _sources(file: Path, *, skip_bad_rows: bool) -> list[Source]:
    """List the ways to read a file, from the fastest to the most careful."""
    kind = format_of(file)
    if kind in ("csv", "tsv"):
        return csv_sources(file, tabs=kind == "tsv", skip_bad_rows=skip_bad_rows)
    if kind in ("json", "jsonl"):
        return json_sources(file, lines=kind == "jsonl", skip_bad_rows=skip_bad_rows)
    if kind == "parquet":
        return [partial(_read_parquet, file)]
    return [partial(text_lines, file)]


def _read_parquet(file: Path) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(file, pre_buffer=False) as parquet:
            metadata = parquet.metadata
            columns = _readable_columns(file, parquet.schema_arrow)
            schema = _plain_schema(parquet.schema_arrow, columns)
            size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
            fitting = BATCH_CHARS * max(metadata.num_rows, 1) // max(size, 1)
            for batch in parquet.iter_batches(batch_size=max(1, min(BATCH_ROWS, fitting)), columns=columns):
                yield pa.record_batch([batch[field.name].cast(field.type) for field in schema], schema=schema)
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{file}: expected a whole Parquet file, found a damaged one ({reason}); fetch it again"
        ) from error


def _readable_columns(file: Path, schema: pa.Schema) -> list[str]:
    """Return the columns that a dataset can hold; maps and the like are neither texts nor labels."""
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise DataError(f"{file}: expected columns of different names, found {', '.join(twice)} twice; rename them")
    return [field.name for field in schema if not pa.types.is_map(field.type) and not pa.types.is_union(field.type)]


def _plain_schema(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    """Replace the encodings of one type by that type, so that splits from different writers have the same."""
    # What the datasets library noted about its label names is kept, everything else of the writer's is not.
    noted = {key: value for key, value in (schema.metadata or {}).items() if key == b"huggingface"}
    fields = [pa.field(name, _plain_type(schema.field(name).type)) for name in columns]
    return pa.schema(fields, metadata=noted or None)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain_type(kind.value_type))
    return pa.float64() if pa.types.is_decimal(kind) or pa.types.is_float16(kind) else kind

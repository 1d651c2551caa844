"""A data set's rows in order, a window at a time, without mapping them into memory."""

from collections.abc import Iterator
from contextlib import closing

import pyarrow as pa
from datasets import Dataset


def windows(rows: Dataset, *, start: int = 0, most_rows: int, most_bytes: int) -> Iterator[pa.Table]:
    """Yield the rows from ``start`` on as tables, in order.

    A window ends at ``most_rows`` rows, or earlier once it holds ``most_bytes`` bytes. Where windows end depends on
    the rows and on ``start`` alone, so reading on from the end of a window gives the same windows as before.

    The Arrow copy is read and not mapped: mapped pages count as resident memory, as many as the file has.
    """
    held: list[pa.RecordBatch] = []
    count = size = 0
    for batch in _batches(rows, start):
        at = 0
        while at < len(batch):
            part = _fitting(batch, at, most_rows - count, most_bytes - size)
            held.append(part)
            at, count, size = at + len(part), count + len(part), size + part.nbytes
            if count >= most_rows or size >= most_bytes:
                yield pa.Table.from_batches(held)
                held, count, size = [], 0, 0
    if held:
        yield pa.Table.from_batches(held)


def _fitting(batch: pa.RecordBatch, at: int, most_rows: int, most_bytes: int) -> pa.RecordBatch:
    """Return the longest slice from ``at`` on within both limits, halving while it is too large; at least one row."""
    part = batch.slice(at, min(most_rows, len(batch) - at))
    while part.nbytes > most_bytes and len(part) > 1:
        part = part.slice(0, len(part) // 2)
    return part


def _batches(rows: Dataset, start: int) -> Iterator[pa.RecordBatch]:
    """Yield the record batches as they lie in the files, the rows before ``start`` left out."""
    for batch in _stored(rows):
        if start >= len(batch):
            start -= len(batch)
            continue
        yield batch.slice(start)
        start = 0


def _stored(rows: Dataset) -> Iterator[pa.RecordBatch]:
    for file in rows.cache_files:
        with pa.OSFile(file["filename"]) as stream, closing(pa.ipc.open_stream(stream)) as reader:
            yield from reader
    if not rows.cache_files:  # a hub data set so small that it is held in memory
        yield from rows.data.to_batches()

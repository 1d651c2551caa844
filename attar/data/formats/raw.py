"""Bytes and characters of data files: gzip, UTF-8, and the errors that name the line."""

import codecs
import contextlib
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TextIO, cast

import pyarrow as pa

from attar.errors import DataError

#: One way to read a file. A format lists its ways from the fastest to the most careful.
Source = Callable[[], Iterator[pa.RecordBatch]]

#: Rows and characters after which a batch is handed on, whichever comes first.
BATCH_ROWS = 10_000
BATCH_CHARS = 1 << 24


class TryNext(Exception):
    """A fast way to read a file gave up; the next one either succeeds or says what is wrong."""


@contextlib.contextmanager
def open_bytes(file: Path) -> Iterator[BinaryIO]:
    """Open a file, decompressed where its name ends in ``.gz``."""
    try:
        with gzip.open(file, "rb") if file.suffix.lower() == ".gz" else file.open("rb") as stream:
            yield cast(BinaryIO, stream)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{file}: expected a whole gzip file, found a damaged one ({error}); fetch it again") from error


@contextlib.contextmanager
def open_text(file: Path) -> Iterator[TextIO]:
    """Open a UTF-8 file, with or without a byte order mark; line ends are kept as they are."""
    with open_bytes(file) as stream, io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
        try:
            yield text
        except UnicodeDecodeError as error:
            raise _encoding_fault(file) from error


def text_lines(file: Path) -> Iterator[pa.RecordBatch]:
    """Read plain text, one document a line, into batches with the column ``text``; blank lines are skipped."""
    texts: list[str] = []
    size = 0
    with open_text(file) as stream:
        for line in stream:
            text = line.strip()
            if text:
                texts.append(text)
                size += len(text)
            if len(texts) == BATCH_ROWS or size > BATCH_CHARS:
                yield pa.record_batch({"text": pa.array(texts, pa.string())})
                texts, size = [], 0
    if texts:
        yield pa.record_batch({"text": pa.array(texts, pa.string())})


def _encoding_fault(file: Path) -> DataError:
    """Return the error for the first byte that is not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line = 1
    with open_bytes(file) as stream:
        while chunk := stream.read(1 << 20):
            if line == 1 and chunk[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                return DataError(f"{file}, line 1: expected UTF-8, found UTF-16; convert the file to UTF-8")
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                # error.object begins with the bytes that the previous chunk left over; they hold no line end.
                line += error.object.count(b"\n", 0, error.start)
                found = f"the byte 0x{error.object[error.start]:02x}"
                return DataError(f"{file}, line {line}: expected UTF-8, found {found}; convert the file to UTF-8")
            line += chunk.count(b"\n")
    return DataError(f"{file}, line {line}: expected UTF-8, found half a character; convert the file to UTF-8")

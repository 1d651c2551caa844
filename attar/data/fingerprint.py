"""A hash of what a run learns from, whatever the format of the files and however Arrow cuts them into chunks."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from attar.data.cells import column_of, is_list, is_string, list_lengths

_Streams = defaultdict[str, "hashlib._Hash"]


def fingerprint(parts: Iterable[tuple[str, Dataset, np.ndarray]]) -> str:
    """Return a short hash of texts and labels.

    Args:
        parts: name of the split, all rows of its file in canonical columns, and the numbers of the rows in use
            in ascending order.
    """
    digest = hashlib.sha256()
    for name, rows, kept in parts:
        digest.update(f"{name}\0{len(kept)}\0".encode())
        for column in ("text", "pair", "label"):
            if column in rows.column_names:
                digest.update(f"{column}\0".encode() + _column_digest(column_of(rows, column), kept))
    return digest.hexdigest()[:16]


def _column_digest(column: pa.ChunkedArray, kept: np.ndarray) -> bytes:
    # Lengths and contents are hashed apart; so the borders of the chunks leave no trace.
    streams: _Streams = defaultdict(hashlib.sha256)
    start = 0
    for chunk in column.chunks:
        low, high = np.searchsorted(kept, [start, start + len(chunk)])
        whole = high - low == len(chunk)
        _update(streams, "", chunk if whole else chunk.take(pa.array(kept[low:high] - start)))
        start += len(chunk)
    return b"".join(streams[key].digest() for key in sorted(streams))


def _update(streams: _Streams, path: str, values: pa.Array) -> None:
    streams[path + "null"].update(pc.is_null(values).to_numpy(zero_copy_only=False).tobytes())
    if is_list(values.type):
        streams[path + "length"].update(list_lengths(values).astype(np.int64).tobytes())
        _update(streams, path + "item/", values.flatten())
    elif is_string(values.type):
        lengths = pc.binary_length(values).fill_null(0).to_numpy(zero_copy_only=False)
        streams[path + "length"].update(lengths.astype(np.int64).tobytes())
        _, offsets, content = values.buffers()
        if len(values) and content is not None:
            ends = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1]
            streams[path + "content"].update(memoryview(content)[ends[0] : ends[-1]])
    else:
        streams[path + "content"].update(values.fill_null(0).to_numpy(zero_copy_only=False).tobytes())

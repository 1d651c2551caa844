"""The signal cache: what a frozen model said about a text, kept on disk, text by text.

A cache is a folder of Arrow files ("shards"), each a table of

``digest``  16-byte hash of the text (see :class:`attar.data.texts.TextSource`)
``values``  the signal: a list of lines, each of the signal's width (one line a text, or one a word)

A shard is written under a temporary name, synced, and renamed, so that a killed process leaves whole shards and
at most a temporary file that nobody reads. Several processes may add to one cache: every shard has a name of its
own, and a text that two of them scored at once is merely stored twice.
"""

import os
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa

from attar.errors import CacheError

#: Texts a shard: what a kill can lose.
SHARD_ROWS = 2048


class SignalCache:
    """One folder of shards for one key (model, tokenizer, length limit, signal)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheError(
                f"cannot create the signal cache {folder}: {error}; set ATTAR_CACHE to a folder"
            ) from error
        self._shards: dict[str, pa.Table | None] = {}

    def add(self, digests: np.ndarray, values: np.ndarray, counts: np.ndarray) -> None:
        """Write one shard.

        Args:
            digests: (n,) of 16 bytes.
            values: (sum of counts, W) float32 or float16.
            counts: (n,) lines a text.
        """
        lines = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
        table = pa.table(
            {
                "digest": pa.array([d.ljust(16, b"\0") for d in digests.tolist()], pa.binary(16)),
                "values": pa.LargeListArray.from_arrays(offsets, lines),
            }
        )
        name = self.folder / f"{uuid.uuid4().hex}.arrow"
        temporary = name.with_suffix(".tmp")
        try:
            with temporary.open("wb") as out:
                with pa.ipc.new_file(out, table.schema) as writer:
                    # One batch, so that a reader maps each column as one array.
                    writer.write_table(table, max_chunksize=None)
                out.flush()
                os.fsync(out.fileno())
            temporary.replace(name)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise CacheError(f"cannot write to the signal cache {self.folder}: {error}") from error

    def missing(self, digests: np.ndarray) -> np.ndarray:
        """Return the row numbers of the first occurrence of every digest that is not in the cache, ascending."""
        unique, first = np.unique(digests, return_index=True)
        known, _ = self._index()
        return np.sort(first[~np.isin(unique, known)])

    def find(self, digests: np.ndarray) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
        """Return (values of every shard, and for every digest: shard, first line, number of lines).

        Raises:
            CacheError: where a digest is not in the cache.
        """
        known, owner = self._index()
        order = np.argsort(known, kind="stable")
        place = np.searchsorted(known, digests, sorter=order)
        found = order[np.minimum(place, len(order) - 1)] if len(order) else np.zeros(len(digests), np.int64)
        if not len(order) or (known[found] != digests).any():
            raise CacheError(f"the signal cache {self.folder} lost shards while it was in use; run the command again")
        tables = [t for t in self._shards.values() if t is not None]
        values = [_lines(t) for t in tables]
        offsets = [_offsets(t) for t in tables]
        starts = np.concatenate([o[:-1] for o in offsets])
        counts = np.concatenate([np.diff(o) for o in offsets])
        return values, owner[found], starts[found], counts[found]

    def _index(self) -> tuple[np.ndarray, np.ndarray]:
        """Return all digests (S16) in the order of the shards, and the number of the shard that holds each."""
        for file in sorted(self.folder.glob("*.arrow")):
            if file.name not in self._shards:
                self._shards[file.name] = _open(file)
        tables = [t for t in self._shards.values() if t is not None]
        if not tables:
            return np.empty(0, "S16"), np.empty(0, np.int64)
        digests = [np.frombuffer(t["digest"].chunk(0).buffers()[1], "S16", count=len(t)) for t in tables]
        return np.concatenate(digests), np.repeat(np.arange(len(tables)), list(map(len, tables)))


def _open(file: Path) -> pa.Table | None:
    """Map one shard; None for a file that is damaged, whose texts are then scored again."""
    try:
        table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
        return table if table.num_rows and table.column_names == ["digest", "values"] else None
    except (pa.ArrowException, ValueError, OSError):
        return None


def _offsets(table: pa.Table) -> np.ndarray:
    return table["values"].chunk(0).offsets.to_numpy()


def _lines(table: pa.Table) -> np.ndarray:
    lines = table["values"].chunk(0).values
    return lines.values.to_numpy(zero_copy_only=True).reshape(-1, lines.type.list_size)

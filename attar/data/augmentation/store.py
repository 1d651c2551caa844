"""Synthetic texts on disk: made once for a setting and a set of texts, memory-mapped ever after."""

import hashlib
import itertools
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, Value

from attar.data.paths import cache_root
from attar.data.task import Task
from attar.errors import ConfigError, DataError

_VERSION = 2  # raise it when the same settings make other texts than before
_BATCH = 10_000


def cached(
    examples: Dataset, settings: Mapping[str, Any], make_rows: Callable[[], Iterable[dict[str, Any]]]
) -> Dataset:
    """Return the rows that ``make_rows`` yields, from the cache where it has them.

    Args:
        examples: what the rows are made from; their contents and types are part of the cache's key.
        settings: how they are made; also part of the key.
        make_rows: called only where the cache has no such file.
    """
    path = cache_root() / "augment" / f"{cache_key(examples, settings)}.arrow"
    if not path.exists():
        with _replacing(path) as unfinished:
            _write(make_rows(), Features({**examples.features, "origin": Value("int64")}), unfinished)
    return Dataset.from_file(str(path))


def write_rows(rows: Dataset, task: Task, out: Path) -> None:
    """Write augmented rows for the user: a Parquet file under the user's column names, labels by name.

    Raises:
        ConfigError: for a name that does not end in .parquet.
    """
    if out.suffix != ".parquet":
        raise ConfigError(f"augmented texts are written as .parquet; found {out.name!r}; rename it")
    table = rows.with_format("arrow")[:]
    if task.kind in ("single-label", "token"):
        ids = table["label"].combine_chunks()
        names = pa.array(task.labels).take(ids if task.kind == "single-label" else ids.flatten())
        if task.kind == "token":
            names = pa.ListArray.from_arrays(ids.offsets, names)
        table = table.set_column(table.column_names.index("label"), "label", names)
    label = task.label[0] if len(task.label) == 1 else "label"
    own = {"text": task.text, "pair": task.pair, "label": label}
    with _replacing(out) as unfinished:
        pq.write_table(table.rename_columns([own.get(name) or name for name in table.column_names]), unfinished)


def cache_key(examples: Dataset, settings: Mapping[str, Any]) -> str:
    """Return a key of the settings and of every text and label, not of where or how the examples are stored."""
    head = [_VERSION, dict(settings), examples.features.to_dict()]
    sha = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for batch in examples.with_format(None).iter(_BATCH):
        sha.update(json.dumps(batch, sort_keys=True).encode())
    return sha.hexdigest()[:32]


def _write(rows: Iterable[dict[str, Any]], features: Features, path: Path) -> None:
    schema = features.arrow_schema
    stream: Iterator[dict[str, Any]] = iter(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        while batch := list(itertools.islice(stream, _BATCH)):
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Lend a name beside ``path`` that becomes ``path`` only when all is written, so a torn file is never read."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=path.parent, prefix=".unfinished-")
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}; choose another folder or free some space") from error
    with folder as name:
        yield Path(name) / path.name
        (Path(name) / path.name).replace(path)

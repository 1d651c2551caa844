"""Synthetic texts on disk: made once for a setting and a set of texts, memory-mapped ever after."""

import hashlib
import itertools
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
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
    if task.kind != "regression":
        place = table.column_names.index("label")
        named = _named(table["label"].combine_chunks(), task)
        table = table.remove_column(place)
        for offset, (name, column) in enumerate(named.items()):
            table = table.add_column(place + offset, name, column)
    own = {"text": task.text, "pair": task.pair, "label": task.label[0]}
    with _replacing(out) as unfinished:
        pq.write_table(table.rename_columns([own.get(name) or name for name in table.column_names]), unfinished)


def _named(values: pa.Array, task: Task) -> dict[str, pa.Array]:
    """Return the label columns as the user's file had them: names, lists of names, or a column of 0 and 1 a label."""
    if task.kind == "single-label":
        return {"label": pa.array(task.labels).take(values)}
    if task.kind == "token":
        return {"label": pa.ListArray.from_arrays(values.offsets, pa.array(task.labels).take(values.flatten()))}
    matrix = values.flatten().to_numpy(zero_copy_only=False).reshape(len(values), task.n_outputs) > 0.5
    if task.label == task.labels:
        return {name: pa.array(matrix[:, i].astype(np.int8)) for i, name in enumerate(task.labels)}
    lists = [[name for name, on in zip(task.labels, row, strict=True) if on] for row in matrix]
    return {"label": pa.array(lists, pa.list_(pa.string()))}


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

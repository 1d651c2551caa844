"""Predict over a file: a window of texts at a time, so that memory stays bounded."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from attar.data.cells import column_of, empty_rows
from attar.data.columns import require_column
from attar.data.readers import read_texts
from attar.data.task import Task
from attar.errors import BundleError, ConfigError, DataError
from attar.inference.predictor import Prediction, Predictor, load
from attar.progress import progress

_WINDOW = 4096
_FORMATS = (".parquet", ".csv", ".jsonl")


def predict_file(
    bundle: str, data: str, out: str, *, text: str | None = None, pair: str | None = None, overwrite: bool = False
) -> dict[str, Any]:
    """Label every row of a file, in order, and write the rows with ``prediction`` and ``confidence`` beside the texts.

    Args:
        bundle: the model.
        data: any file that training reads, or plain text with one document a line.
        out: ``.parquet``, ``.csv`` or ``.jsonl``; written under a temporary name and moved into place.
        text: column of the text, by default the one that the model was trained on.
        pair: column of the second text.
        overwrite: replace ``out``.

    Raises:
        BundleError: where ``out`` exists.
        DataError: for a file without the columns, or with an empty text.
    """
    target = Path(out)
    if target.suffix not in _FORMATS:
        raise ConfigError(f"--out expects a name that ends in {', '.join(_FORMATS)}; found {out!r}")
    if target.exists() and not overwrite:
        raise BundleError(f"{out} exists already; choose another --out, or --overwrite to replace it")
    rows = read_texts(data)
    model = load(bundle)
    columns = _columns(rows, model.task, text, pair, data)
    temporary = target.with_name(f".{target.stem}.tmp{target.suffix}")
    try:
        with progress("predict", len(rows), unit=" texts") as bar:
            _write(_windows(model, rows, columns, bar), temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return {"out": out, "rows": len(rows), "model": bundle}


def _columns(rows: Dataset, task: Task, text: str | None, pair: str | None, data: str) -> list[str]:
    plain = rows.column_names == ["text"] and text is None
    names = ["text" if plain else text or task.text, *([pair or task.pair] if task.pair else [])]
    for name in filter(None, names):
        require_column(rows, name, data)
        empty = empty_rows(column_of(rows, name))
        if empty.any():
            raise DataError(f"{data}, row {int(empty.argmax()) + 1}: expected a text in column {name!r}, found none")
    return [name for name in names if name]


def _windows(model: Predictor, rows: Dataset, columns: list[str], bar: Any) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(rows), _WINDOW):
        window = rows[start : start + _WINDOW]
        found = model.predict(*(window[name] for name in columns))
        texts = zip(*(window[name] for name in columns), strict=True)
        yield [_row(columns, given, one) for given, one in zip(texts, found, strict=True)]
        bar.update(len(found))


def _row(columns: list[str], texts: tuple[Any, ...], found: Prediction) -> dict[str, Any]:
    return {**dict(zip(columns, texts, strict=True)), "prediction": found.label, "confidence": found.confidence}


def _write(windows: Iterator[list[dict[str, Any]]], out: Path) -> None:
    {".parquet": _write_parquet, ".csv": _write_csv, ".jsonl": _write_jsonl}[out.suffix](windows, out)


def _write_parquet(windows: Iterator[list[dict[str, Any]]], out: Path) -> None:
    writer = None
    for window in windows:
        table = pa.Table.from_pylist(window)
        writer = writer or pq.ParquetWriter(out, table.schema)
        writer.write_table(table.cast(writer.schema))
    assert writer is not None, "a file has at least one row"
    writer.close()


def _write_csv(windows: Iterator[list[dict[str, Any]]], out: Path) -> None:
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        for i, window in enumerate(windows):
            if i == 0:
                writer.writerow(window[0])
            writer.writerows([_cell(v) for v in row.values()] for row in window)


def _write_jsonl(windows: Iterator[list[dict[str, Any]]], out: Path) -> None:
    with out.open("w", encoding="utf-8") as file:
        for window in windows:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in window)


def _cell(value: Any) -> Any:
    """A CSV cell has no lists; they are written as JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value

"""The quality gate: an exported model against its source on validation texts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from datasets import Dataset, List

from attar.config import DataConfig
from attar.data.encoding import Encoded, encode
from attar.data.labels import collect_labels
from attar.data.prepare import load_split
from attar.data.readers import read_splits, read_texts
from attar.data.task import Task
from attar.errors import BundleError, DataError
from attar.inference.predictor import Predictor
from attar.records import PREDICTIONS_FILE
from attar.training.metrics import agreement, evaluate_logits

#: Texts of those kept with a bundle that are compared.
_KEPT = 1000


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Encoded texts, what the source says of them, and their labels where there are any."""

    where: str
    task: Task
    encoded: Encoded
    reference: np.ndarray
    labels: np.ndarray | None

    def compare(self, model: Predictor) -> dict[str, Any]:
        """Run an exported model over the texts and return what became of the source's answers.

        Returns:
            ``max_difference`` and ``mean_difference`` of logits (None where some are not finite), ``agreement``,
            ``metric`` with its value for ``source`` and ``exported`` (None without labels), and ``drop`` in points:
            of the metric, or without labels the share of texts with another answer.
        """
        logits = model.engine.score(self.encoded)
        finite = bool(np.isfinite(logits).all())
        gap = np.abs(logits - self.reference)
        same = agreement(np.nan_to_num(logits), self.reference, self.task.kind)
        before, after = (self._metric(values) for values in (self.reference, np.nan_to_num(logits)))
        drop = 1 - same if before is None or after is None else before - after
        return {
            "max_difference": float(gap.max()) if finite else None,
            "mean_difference": float(gap.mean()) if finite else None,
            "agreement": same,
            "metric": None if before is None else self.task.headline,
            "source": before,
            "exported": after,
            "drop": 100 * drop if finite else 100.0,
        }

    def _metric(self, logits: np.ndarray) -> float | None:
        if self.labels is None:
            return None
        return evaluate_logits(logits, self.labels, self.task, self.encoded.counts)[self.task.headline]


def open_validation(source: Predictor, data: str | None) -> Validation:
    """Read the texts that an export of a model is judged by, and have the model answer them.

    Args:
        source: the model before its export.
        data: file, or folder of splits (its dev split, else test, else train); None for the texts that the run left
            with the bundle.

    Raises:
        BundleError: where no data is given and none is kept.
        DataError: for data that does not fit the model's task.
    """
    task = source.task
    rows, where = (_kept(source.bundle.path, task)) if data is None else _given(data, task)
    encoded = encode(rows, source.bundle.tokenizer, source.bundle.max_length, long=source.bundle.long)
    labels = collect_labels([(rows, True)], task, encoded).values if "label" in rows.column_names else None
    return Validation(where=where, task=task, encoded=encoded, reference=source.engine.score(encoded), labels=labels)


def _given(data: str, task: Task) -> tuple[Dataset, str]:
    if Path(data).is_file():
        name, rows = "all", read_texts(data)
    else:
        splits = read_splits(data)
        name = next((n for n in ("dev", "test") if n in splits), "train")
        rows = splits[name]
    if all(column in rows.column_names for column in task.label):
        found = load_split(DataConfig(path=data), task, name)
        return found, f"{len(found):,} rows of {data} ({name})"
    plain = rows.column_names == ["text"]  # a file of plain text
    columns = {"text": "text" if plain else task.text, **({"pair": task.pair} if task.pair else {})}
    for column in columns.values():
        if column not in rows.column_names:
            raise DataError(f"{data} ({name}): expected a column {column!r}; found {', '.join(rows.column_names)}")
    words = isinstance(rows.features[columns["text"]], List)
    if words != (task.kind == "token"):
        wanted, there = ("lists of words", "texts") if task.kind == "token" else ("texts", "lists")
        raise DataError(f"{data} ({name}): expected {wanted} in column {columns['text']!r}, found {there}")
    found = Dataset.from_dict({name: rows[column][:] for name, column in columns.items()})
    return found, f"{len(found):,} unlabelled rows of {data} ({name})"


def _kept(folder: str, task: Task) -> tuple[Dataset, str]:
    file = Path(folder) / PREDICTIONS_FILE
    if not file.exists():
        raise BundleError(
            f"{folder} holds no {PREDICTIONS_FILE}, so there are no texts to check its export on; "
            "give some with --data FILE, with labels where you have them"
        )
    table = pq.read_table(file)
    every = np.linspace(0, len(table) - 1, min(len(table), _KEPT)).astype(int)
    kept = table.take(every).to_pydict()
    columns: dict[str, list] = {"text": kept["text"]}
    if task.pair is not None:
        columns["pair"] = kept["pair"]
    where = f"{len(every):,} of the {len(table):,} texts kept with the bundle ({PREDICTIONS_FILE})"
    columns["label"] = [_label(value, task) for value in kept["label"]]
    return Dataset.from_dict(columns), where


def _label(value: Any, task: Task) -> Any:
    """Read a label as :func:`attar.comparison.write_predictions` wrote it."""
    numbers = task.label2id
    if task.kind == "regression":
        return float(value)
    if task.kind == "multi-label":
        return [float(name in value) for name in task.labels]
    return [numbers[name] for name in value] if task.kind == "token" else numbers[value]

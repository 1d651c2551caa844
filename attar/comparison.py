"""The models of a run side by side: quality on dev and test, size, speed, and what each said of every test text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from attar.bench.speed import measure_speed
from attar.bundle import delta_bytes, folder_bytes, load_bundle
from attar.data.labels import plain_labels
from attar.data.outputs import decode
from attar.data.task import Task, TaskData
from attar.inference.predictor import Predictor
from attar.nets.loading import load_tokenizer
from attar.nets.parameters import count_parameters
from attar.records import PREDICTIONS_FILE
from attar.teacher.open import Teacher
from attar.training.evaluation import Outputs, eval_split, signal_outputs
from attar.training.linear import LinearModel
from attar.training.metrics import agreement

#: Texts that speed is measured on.
_SPEED_TEXTS = 2000


@dataclass(frozen=True)
class Compared:
    """One model of the comparison: its entry in the record, and its outputs by split."""

    entry: dict[str, Any]
    outputs: dict[str, Outputs]


def compare_bundle(role: str, path: str, data: TaskData, *, speed: bool = True, name: str | None = None) -> Compared:
    """Evaluate a bundle on dev and test and measure its size and speed."""
    bundle = load_bundle(path)
    predictor = Predictor(bundle)
    outputs = {
        split: eval_split(rows, bundle.tokenizer, bundle.max_length, data.task, long=bundle.long).outputs(
            bundle.model, bundle.precision
        )
        for split, rows in _labelled_splits(data).items()
    }
    total, without = count_parameters(bundle.model)
    entry = _entry(role, name or path, outputs, data.task)
    entry.update(parameters=total, parameters_without_embeddings=without, bytes=folder_bytes(path))
    entry["delta_bytes"] = delta_bytes(path)
    entry["speed"] = measure_speed(predictor, *_speed_texts(data)) if speed else None
    return Compared(entry, outputs)


def compare_teacher(teacher: Teacher, bundles: Sequence[str], data: TaskData, *, cost: bool = True) -> Compared:
    """Evaluate a teacher through its cached signals; with ``cost``, size and speed are sums over its bundles."""
    outputs = {}
    for split, rows in _labelled_splits(data).items():
        if not teacher.answers(rows):
            continue
        labels, counts = plain_labels(rows, data.task)
        if data.task.kind == "token":
            assert teacher.max_length is not None, "score columns do not teach tokens"
            encoded = eval_split(rows, load_tokenizer(bundles[0]), teacher.max_length, data.task)
            outputs[split] = signal_outputs(teacher.logits([rows], f"teacher on {split}"), encoded)
        else:
            logits = teacher.logits([rows], f"teacher on {split}").take(np.arange(len(rows)))
            outputs[split] = Outputs(logits, labels, counts)
    entry = _entry("teacher", teacher.name, outputs, data.task)
    if bundles and cost:
        entry.update(_sum_of(bundles, data))
    return Compared(entry, outputs)


def compare_linear(model: LinearModel, data: TaskData) -> Compared:
    """Evaluate the linear baseline."""
    outputs = {}
    for split, rows in _labelled_splits(data).items():
        outputs[split] = Outputs(model.logits(rows), *plain_labels(rows, data.task))
    entry = _entry("linear", "TF-IDF + linear model", outputs, data.task)
    rows = data.test if data.test is not None else data.dev
    entry.update(parameters=model.size, parameters_without_embeddings=model.size, speed=model.speed(rows))
    return Compared(entry, outputs)


def add_agreement(models: Sequence[Compared], task: Task) -> None:
    """Write into every entry how far it agrees with the teacher, on test where there is one."""
    teacher = next((m for m in models if m.entry["role"] == "teacher"), None)
    if teacher is None or not teacher.outputs:
        return
    split = "test" if "test" in teacher.outputs else "dev"
    reference = teacher.outputs[split].logits
    for model in models:
        found = model.outputs[split].logits
        if found.shape == reference.shape:
            model.entry["agreement"] = agreement(found, reference, task.kind)


def write_predictions(models: Sequence[Compared], data: TaskData, folder: Path) -> None:
    """Write what every model said of the test split (dev, where there is none) as a Parquet file."""
    split = "test" if data.test is not None else "dev"
    rows = data.test if data.test is not None else data.dev
    columns: dict[str, Any] = {"text": rows["text"][:]}
    if "pair" in rows.column_names:
        columns["pair"] = rows["pair"][:]
    columns["label"] = _true_labels(rows, data.task)
    for model in models:
        if split not in model.outputs:
            continue
        labels, confidences = _per_text(model.outputs[split], data.task, rows)
        columns[model.entry["role"]] = labels
        columns[f"{model.entry['role']}_confidence"] = confidences
    if data.task.kind in ("multi-label", "token"):  # the type of lists cannot be seen where all are empty
        lists = ("label", *(m.entry["role"] for m in models))
        columns |= {name: pa.array(columns[name], pa.list_(pa.string())) for name in lists if name in columns}
    temporary = folder / f".{PREDICTIONS_FILE}.tmp"
    pq.write_table(pa.table(columns), temporary)
    temporary.replace(folder / PREDICTIONS_FILE)


def _labelled_splits(data: TaskData) -> dict[str, Dataset]:
    splits = {"dev": data.dev, "test": data.test}
    return {name: rows for name, rows in splits.items() if rows is not None}


def _entry(role: str, name: str, outputs: dict[str, Outputs], task: Task) -> dict[str, Any]:
    return {
        "role": role,
        "name": name,
        "parameters": None,
        "parameters_without_embeddings": None,
        "bytes": None,
        "metrics": {split: found.metrics(task) for split, found in outputs.items()},
        "agreement": None,
        "speed": None,
    }


def _sum_of(bundles: Sequence[str], data: TaskData) -> dict[str, Any]:
    """Return size and speed of running all bundles one after another."""
    total, without, size, speeds = 0, 0, 0, []
    for path in bundles:
        bundle = load_bundle(path)
        counts = count_parameters(bundle.model)
        total, without, size = total + counts[0], without + counts[1], size + folder_bytes(path)
        speeds.append(measure_speed(Predictor(bundle), *_speed_texts(data)))
    speed = dict(speeds[0])
    speed["texts_per_second"] = round(1 / sum(1 / s["texts_per_second"] for s in speeds), 1)
    speed["ms_per_text"] = round(sum(s["ms_per_text"] for s in speeds), 3)
    return {"parameters": total, "parameters_without_embeddings": without, "bytes": size, "speed": speed}


def _speed_texts(data: TaskData) -> tuple[list, list | None]:
    rows = data.test if data.test is not None else data.dev
    # Drawn, since a file's first texts may be longer than the others.
    rows = rows.select(np.random.default_rng(0).permutation(len(rows))[:_SPEED_TEXTS])
    return rows["text"][:], rows["pair"][:] if "pair" in rows.column_names else None


def _true_labels(rows: Dataset, task: Task) -> list[Any]:
    if task.kind == "regression":
        return [float(np.asarray(value).reshape(-1)[0]) for value in rows["label"]]
    if task.kind == "single-label":
        return [task.labels[i] for i in rows["label"]]
    if task.kind == "multi-label":
        return [[n for n, on in zip(task.labels, row, strict=True) if on] for row in rows["label"]]
    return [[task.labels[i] for i in row] for row in rows["label"]]


def _per_text(outputs: Outputs, task: Task, rows: Dataset) -> tuple[list[Any], list[float | None]]:
    """Return a label (for tokens: one a word, None for a word that the model did not see) and a confidence a text."""
    labels, confidences = decode(outputs.logits, task)
    if task.kind != "token":
        return labels, confidences
    ends = np.cumsum(outputs.counts)
    spans = [(end - n, end) for n, end in zip(outputs.counts, ends, strict=True)]
    sure = [float(np.mean(confidences[a:b])) if b > a else None for a, b in spans]  # type: ignore[arg-type]
    said: list[list[str | None]] = [[None] * len(words) for words in rows["text"]]
    for words, (a, b) in zip(said, spans, strict=True):
        numbers = range(b - a) if outputs.words is None else outputs.words[a:b]
        for number, label in zip(numbers, labels[a:b], strict=True):
            words[number] = label
    return said, sure

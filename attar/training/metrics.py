"""Quality of predictions against true labels, by kind of task."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats
from sklearn import metrics as sk

from attar.data.labels import MISSING
from attar.data.outputs import probabilities
from attar.data.task import Task

_BINS = 10


def evaluate_logits(
    logits: np.ndarray, labels: np.ndarray, task: Task, counts: Sequence[int] | np.ndarray | None = None
) -> dict:
    """Return the metrics of the task's kind; names and layout are those of :mod:`attar.records`.

    Args:
        logits: (N, C), a row a text or a word.
        labels: (N,) ids, (N, C) of 0 and 1, or (N,)/(N, 1) values.
        task: what the outputs mean.
        counts: words a text, for token tasks with BIO tags, whose entities end with the text.
    """
    if task.kind == "regression":
        return _regression(logits[:, 0], labels.reshape(-1))
    if task.kind == "multi-label":
        return _multi_label(logits, labels, task)
    return _classes(logits, labels, task, counts)


def agreement(logits: np.ndarray, other: np.ndarray, kind: str) -> float:
    """Return how far two models say the same: share of equal predictions, or Pearson's r for regression."""
    if kind == "regression":
        return _correlation(stats.pearsonr, logits[:, 0], other[:, 0])
    if kind == "multi-label":
        return float(((logits > 0) == (other > 0)).mean())
    return float((logits.argmax(-1) == other.argmax(-1)).mean())


def _classes(
    logits: np.ndarray, labels: np.ndarray, task: Task, counts: Sequence[int] | np.ndarray | None
) -> dict[str, Any]:
    predicted = logits.argmax(-1)
    ids = np.arange(task.n_outputs)
    found: dict[str, Any] = {
        "accuracy": float((predicted == labels).mean()),
        "macro_f1": float(sk.f1_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0)),
        "mcc": float(sk.matthews_corrcoef(labels, predicted)),
    }
    chosen = probabilities(logits, task.kind).max(-1)
    found["calibration"], found["ece"] = _calibration(chosen, predicted == labels)
    found["per_class"] = _per_class(labels, predicted, task)
    if task.kind == "single-label":
        found["confusion"] = sk.confusion_matrix(labels, predicted, labels=ids).tolist()
    elif counts is not None and _is_bio(task.labels):
        found["entity_f1"] = entity_f1(_names(labels, task, counts), _names(predicted, task, counts))
    return found


def _multi_label(logits: np.ndarray, labels: np.ndarray, task: Task) -> dict[str, Any]:
    predicted, labels = logits > 0, labels > 0.5
    # A further column that is never set: scikit-learn takes one column alone for two classes.
    wide, ids = [np.pad(values, ((0, 0), (0, 1))) for values in (labels, predicted)], np.arange(task.n_outputs)
    found = {
        "micro_f1": float(sk.f1_score(*wide, labels=ids, average="micro", zero_division=0)),
        "macro_f1": float(sk.f1_score(*wide, labels=ids, average="macro", zero_division=0)),
        "subset_accuracy": float((predicted == labels).all(-1).mean()),
    }
    chances = probabilities(logits, task.kind)
    confidence = np.where(predicted, chances, 1 - chances)
    calibration, ece = _calibration(confidence.reshape(-1), (predicted == labels).reshape(-1))
    return {**found, "ece": ece, "calibration": calibration, "per_class": _per_class(wide[0], wide[1], task)}


def _regression(predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    error = predicted - labels
    return {
        "pearson": _correlation(stats.pearsonr, predicted, labels),
        "spearman": _correlation(stats.spearmanr, predicted, labels),
        "mse": float(np.square(error).mean()),
        "mae": float(np.abs(error).mean()),
    }


def _correlation(measure: Callable[..., Any], one: np.ndarray, two: np.ndarray) -> float:
    """Correlations of a constant or of one row are undefined; they count as none: a dead student ranks last."""
    value = measure(one, two).statistic if len(one) > 1 else 0.0
    return float(value) if np.isfinite(value) else 0.0


def _per_class(labels: np.ndarray, predicted: np.ndarray, task: Task) -> dict[str, dict[str, float]]:
    columns = sk.precision_recall_fscore_support(labels, predicted, labels=np.arange(task.n_outputs), zero_division=0)
    return {
        name: {
            "precision": float(columns[0][i]),
            "recall": float(columns[1][i]),
            "f1": float(columns[2][i]),
            "support": int(columns[3][i]),
        }
        for i, name in enumerate(task.labels)
    }


def _calibration(confidence: np.ndarray, correct: np.ndarray) -> tuple[list[dict[str, float]], float]:
    """Return those of ten equal bins of confidence that have rows, and the expected calibration error.

    Guo et al. 2017, eq. 3.
    """
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    found = []
    for b in np.unique(bins):
        inside = bins == b
        found.append(
            {
                "confidence": float(confidence[inside].mean()),
                "accuracy": float(correct[inside].mean()),
                "count": int(inside.sum()),
            }
        )
    ece = sum(abs(b["confidence"] - b["accuracy"]) * b["count"] for b in found) / max(1, len(confidence))
    return found, float(ece)


def _is_bio(labels: Sequence[str]) -> bool:
    return any(n.startswith("B-") for n in labels) and all(n == "O" or n[:2] in ("B-", "I-") for n in labels)


def _names(ids: np.ndarray, task: Task, counts: Sequence[int] | np.ndarray) -> list[list[str]]:
    ends = np.cumsum(counts)
    return [[task.labels[i] for i in ids[end - n : end] if i != MISSING] for n, end in zip(counts, ends, strict=True)]


def entity_f1(true: list[list[str]], predicted: list[list[str]]) -> float:
    """Return micro F1 of whole entities under BIO tags, exact span and type (CoNLL 2003's rule).

    An I- tag that follows another type or O begins an entity, as in the official script.
    """
    truth = {(i, *span) for i, tags in enumerate(true) for span in _spans(tags)}
    found = {(i, *span) for i, tags in enumerate(predicted) for span in _spans(tags)}
    hits = len(truth & found)
    return 2 * hits / (len(truth) + len(found)) if truth or found else 0.0


def _spans(tags: list[str]) -> list[tuple[int, int, str]]:
    spans: list[tuple[int, int, str]] = []
    start, kind = 0, ""
    for i, tag in enumerate([*tags, "O"]):
        if kind and (tag == "O" or tag[0] == "B" or tag[2:] != kind):
            spans.append((start, i, kind))
            kind = ""
        if tag != "O" and not kind:
            start, kind = i, tag[2:]
    return spans

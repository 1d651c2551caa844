"""From a model's logits to what a person reads: probabilities, labels, confidences."""

from typing import Any

import numpy as np

from attar.data.task import Task


def probabilities(logits: np.ndarray, kind: str) -> np.ndarray:
    """Return softmax (or sigmoid, for multi-label) of the logits in float64; values as they are for regression."""
    logits = logits.astype(np.float64)
    if kind == "regression":
        return logits
    if kind == "multi-label":
        return 1 / (1 + np.exp(-logits))
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def logits_of_probabilities(chances: np.ndarray, kind: str) -> np.ndarray:
    """Return logits whose softmax (or sigmoid, for multi-label) gives the probabilities back.

    Softmax fixes logits only up to a constant; the ones of mean zero are returned, so that a squared loss on
    raw logits has a definite target. Probabilities are kept 1e-6 away from 0 and 1.
    """
    p = np.clip(chances.astype(np.float64), 1e-6, 1 - 1e-6)
    if kind == "multi-label":
        return np.log(p / (1 - p)).astype(np.float32)
    logs = np.log(p)
    return (logs - logs.mean(-1, keepdims=True)).astype(np.float32)


def decode(logits: np.ndarray, task: Task) -> tuple[list[Any], list[float | None]]:
    """Return for each row of logits (N, C) the label and the confidence in it.

    A label is a name, a list of names (multi-label) or a value (regression). The confidence is the probability of
    the label, the probability of the least certain of all decisions (multi-label), or None (regression).
    """
    chances = probabilities(logits, task.kind)
    if task.kind == "regression":
        return chances[:, 0].tolist(), [None] * len(chances)
    if task.kind == "multi-label":
        labels = [[name for name, p in zip(task.labels, row, strict=True) if p > 0.5] for row in chances]
        return labels, np.maximum(chances, 1 - chances).min(-1).tolist()
    return [task.labels[i] for i in chances.argmax(-1)], chances.max(-1).tolist()

"""The loss of the task itself, against true labels, where rows may have none."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def task_loss(logits: Tensor, labels: Tensor, kind: str) -> Tensor:
    """Mean loss over the rows that have a label; 0 (with a graph) where none has.

    Args:
        logits: (N, C); N runs over texts, or over words for ``kind="token"``.
        labels: single-label and token: (N,) int, -100 (PyTorch's ``ignore_index``) where unknown.
            Multi-label: (N, C) of 0.0 and 1.0; regression: (N,) or (N, 1) float; NaN where unknown.
        kind: the task's kind. Cross-entropy for classes, one sigmoid a label for multi-label, squared error
            for regression.
    """
    if kind in ("single-label", "token"):
        known = labels != -100
        return F.cross_entropy(logits[known], labels[known]) if known.any() else logits.sum() * 0.0
    labels = labels.reshape(logits.shape)
    known = ~torch.isnan(labels).any(-1)
    if not known.any():
        return logits.sum() * 0.0
    if kind == "multi-label":
        return F.binary_cross_entropy_with_logits(logits[known], labels[known])
    return F.mse_loss(logits[known], labels[known])


def weighted(parts: Mapping[str, Tensor], alpha: float) -> Tensor:
    """Return alpha x ``label_loss`` + (1 - alpha) x ``teacher_loss``; a part of weight 0 may be left out."""
    weights = {"label_loss": alpha, "teacher_loss": 1 - alpha}
    return torch.stack([weights[name] * part for name, part in parts.items()]).sum()

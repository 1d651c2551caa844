"""The loss of Tang et al. 2019, eq. 4: alpha x cross-entropy + (1 - alpha) x squared distance of raw logits."""

from collections.abc import Mapping

import torch
from torch import Tensor

from attar.objectives.logits import logit_mse
from attar.objectives.task import task_loss, weighted
from attar.training.stage import LogitLoss


def soft_loss(*, alpha: float, kind: str, has_teacher: bool) -> LogitLoss:
    """Return the objective of the stage.

    Args:
        alpha: weight of the labels.
        kind: the task's kind.
        has_teacher: where True, a text without a label counts as labelled with the teacher's answer, as in the paper.
    """

    def loss_of(logits: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = {}
        if alpha > 0:
            labels = filled_labels(batch, kind) if has_teacher else batch["labels"]
            parts["label_loss"] = task_loss(logits, labels, kind)
        if alpha < 1:
            parts["teacher_loss"] = logit_mse(logits, batch["teacher_logits"])
        return {"loss": weighted(parts, alpha), **parts}

    return loss_of


def filled_labels(batch: Mapping[str, Tensor], kind: str) -> Tensor:
    """Return the labels, the missing ones replaced by what the teacher answers (its argmax for classes)."""
    labels, teacher = batch["labels"], batch["teacher_logits"]
    if kind == "single-label":
        return torch.where(labels == -100, teacher.argmax(-1), labels)
    answer = (teacher > 0).float() if kind == "multi-label" else teacher
    return torch.where(labels.isnan(), answer, labels)

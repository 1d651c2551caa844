"""The loss of distilling on a task: alpha x labels + (1 - alpha) x teacher, each on its own in the log."""

from collections.abc import Callable, Mapping

from torch import Tensor

from attar.objectives.logits import (
    binary_kl_divergence,
    binary_soft_cross_entropy,
    kl_divergence,
    logit_mse,
    soft_cross_entropy,
)
from attar.objectives.task import task_loss, weighted

_SOFTENED: dict[tuple[str, bool], Callable[..., Tensor]] = {
    ("kl", False): kl_divergence,
    ("kl", True): binary_kl_divergence,
    ("soft-ce", False): soft_cross_entropy,
    ("soft-ce", True): binary_soft_cross_entropy,
}


def teacher_loss(student: Tensor, teacher: Tensor, *, loss: str, temperature: float, kind: str) -> Tensor:
    """Return the distance of the student's outputs from the teacher's, (N, C) each, for a kind of task.

    ``loss`` is "kl", "soft-ce" or "mse"; multi-label tasks take one sigmoid a label, regression always takes "mse".
    """
    if loss == "mse" or kind == "regression":
        return logit_mse(student, teacher)
    return _SOFTENED[loss, kind == "multi-label"](student, teacher, temperature=temperature)


def distillation_loss(
    *, loss: str, temperature: float, alpha: float, kind: str
) -> Callable[[Tensor, Mapping[str, Tensor]], dict[str, Tensor]]:
    """Return a loss of (N, C) logits and a batch with ``labels`` and ``teacher_logits`` (Hinton et al. 2015).

    A part of weight 0 is not computed: at ``alpha`` 1 no teacher is looked at. Where a batch comes in pieces, a piece's
    ``label_weight`` makes up for its own share of the labels (:mod:`attar.training.examples`).
    """

    def loss_of(logits: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = {}
        if alpha > 0:
            parts["label_loss"] = batch.get("label_weight", 1.0) * task_loss(logits, batch["labels"], kind)
        if alpha < 1:
            soft = teacher_loss(logits, batch["teacher_logits"], loss=loss, temperature=temperature, kind=kind)
            parts["teacher_loss"] = soft
        return {"loss": weighted(parts, alpha), **parts}

    return loss_of

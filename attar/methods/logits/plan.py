"""Logit distillation: the student reads texts with its own tokenizer and learns the teacher's answers."""

import torch

from attar.methods.contract import Context
from attar.methods.logits.config import Logits
from attar.methods.students import build_student, distil_stage, require_same_pieces
from attar.objectives.distillation import distillation_loss
from attar.training.stage import Stage


def plan(config: Logits, ctx: Context) -> list[Stage]:
    """Build the student and distil into it; without a teacher in ``ctx``, train it on the labels alone."""
    torch.manual_seed(ctx.train.seed)  # a student by name gets a new head
    student, tokenizer, note = build_student(config.student, ctx)
    require_same_pieces(ctx, tokenizer)
    alpha = config.alpha if ctx.teacher is not None else 1.0
    loss = distillation_loss(loss=config.loss, temperature=config.temperature, alpha=alpha, kind=ctx.task.kind)
    return [distil_stage("distil", ctx, student, tokenizer, loss, note)]

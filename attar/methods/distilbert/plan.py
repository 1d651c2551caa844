"""DistilBERT on a task (Sanh et al. 2019, section 3.1): the teacher's softened probabilities and the labels."""

import torch

from attar.methods.contract import Context
from attar.methods.distilbert.config import DistilBert
from attar.methods.students import build_student, distil_stage, require_same_pieces
from attar.objectives.distillation import distillation_loss
from attar.training.stage import Stage


def plan(config: DistilBert, ctx: Context) -> list[Stage]:
    """Build the student and distil into it; without a teacher in ``ctx``, train it on the labels alone."""
    torch.manual_seed(ctx.train.seed)  # a pre-trained student gets a new head
    student, tokenizer, note = build_student(config.student, ctx)
    require_same_pieces(ctx, tokenizer)
    alpha = config.alpha if ctx.teacher is not None else 1.0
    loss = distillation_loss(loss="kl", temperature=config.temperature, alpha=alpha, kind=ctx.task.kind)
    return [distil_stage("distil", ctx, student, tokenizer, loss, note)]

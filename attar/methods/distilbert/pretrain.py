"""DistilBERT's pre-training (Sanh et al. 2019): half of the layers learn from the whole, on texts alone."""

import torch
from transformers import PreTrainedModel

from attar.data.masking import masking_of
from attar.methods.contract import PretrainContext
from attar.methods.distilbert.config import DistilBertPretraining
from attar.methods.distilbert.objective import pretraining_objective
from attar.methods.students import chosen_layers
from attar.nets.anatomy import anatomy, require_positions
from attar.nets.hardware import pick_device
from attar.nets.loading import load_tokenizer, require_masked_lm
from attar.nets.parameters import count_parameters
from attar.nets.surgery import distilbert_student
from attar.training.stage import Stage


def plan(config: DistilBertPretraining, ctx: PretrainContext) -> list[Stage]:
    """Cut the student from the teacher, encode the texts, and train with the three losses."""
    torch.manual_seed(ctx.train.seed)
    teacher = require_masked_lm(ctx.teacher).eval().requires_grad_(False)
    require_positions(teacher, ctx.train.max_length)
    tokenizer = load_tokenizer(ctx.teacher)
    depth = len(anatomy(teacher).layers)
    layers = chosen_layers(config.student, depth)
    student = build_student(teacher, layers, config.init)
    corpus = ctx.corpus(tokenizer)
    device = pick_device()
    objective = pretraining_objective(
        student=student,
        teacher=teacher.to(device),
        masking=masking_of(tokenizer, corpus.counts, smoothing=config.smoothing).to(device),
        alpha_ce=config.alpha_ce,
        alpha_mlm=config.alpha_mlm,
        alpha_cos=config.alpha_cos,
        temperature=config.temperature,
        soft_tokens=config.soft_tokens,
        mask_share=config.mask_share,
    )
    sizes = f"{count_parameters(student)[0]:,} parameters of the teacher's {count_parameters(teacher)[0]:,}"
    return [
        Stage(
            name="distil",
            model=student,
            tokenizer=tokenizer,
            objective=objective,
            train=ctx.train,
            task=None,
            learn=corpus.train,
            dev=corpus.dev,
            notes=[f"student: layers {', '.join(map(str, layers))} of the teacher's {depth}, {sizes}", *corpus.notes()],
        )
    ]


def build_student(teacher: PreTrainedModel, layers: tuple[int, ...], init: str) -> PreTrainedModel:
    """Return a masked language model of the given layers of the teacher; with ``init="random"``, of their shape."""
    student = distilbert_student(teacher, layers).requires_grad_(True)
    return type(student)(student.config) if init == "random" else student

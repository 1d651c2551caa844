"""TinyBERT's general distillation (Jiao et al. 2020): a thin encoder learns another's layers, on texts alone."""

import torch

from attar.methods.contract import PretrainContext
from attar.methods.tinybert.config import TinyBertPretraining
from attar.methods.tinybert.student import learn_layers, shaped_student
from attar.nets.loading import load_encoder, load_tokenizer
from attar.training.stage import Stage


def plan(config: TinyBertPretraining, ctx: PretrainContext) -> list[Stage]:
    """Build the thin student, encode the texts, and learn embeddings, hidden states and attention.

    There is no loss on predictions: the paper found that it does not help here.
    """
    torch.manual_seed(ctx.train.seed)
    teacher, tokenizer = load_encoder(ctx.teacher), load_tokenizer(ctx.teacher)
    student, note = shaped_student(teacher, config)
    model, objective, notes = learn_layers(student, teacher, config, ctx.train)
    corpus = ctx.corpus(tokenizer)
    return [
        Stage(
            name="general",
            model=model,
            tokenizer=tokenizer,
            objective=objective,
            train=ctx.train,
            task=None,
            learn=corpus.train,
            dev=corpus.dev,
            notes=[note, *notes, *corpus.notes()],
        )
    ]

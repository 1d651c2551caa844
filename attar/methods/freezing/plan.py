"""Fine-tuning: the task loss on the labelled rows, every weight moving."""

from collections.abc import Mapping

import torch
from torch import Tensor

from attar.errors import ConfigError
from attar.methods.contract import Context
from attar.methods.freezing.config import Full
from attar.nets.loading import load_for_task, load_tokenizer
from attar.objectives.task import task_loss
from attar.training.stage import Stage, on_logits


def plan(config: Full, ctx: Context) -> list[Stage]:
    """Put a new head on the encoder and train all of it."""
    if ctx.encoder is None:
        raise ConfigError("attar finetune needs a pre-trained encoder: --model NAME-OR-FOLDER")
    kind = ctx.task.kind
    torch.manual_seed(ctx.train.seed)  # the new head is drawn here
    model = load_for_task(ctx.encoder, kind, ctx.task.labels)

    def loss(logits: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": task_loss(logits, batch["labels"], kind)}

    return [
        Stage(
            name="fine-tune",
            model=model,
            tokenizer=load_tokenizer(ctx.encoder),
            objective=on_logits(loss),
            train=ctx.train,
            task=ctx.task,
            learn=[(ctx.data.train, True)],
            dev=ctx.data.dev,
        )
    ]

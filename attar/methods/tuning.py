"""What the rooms share that tune a pre-trained encoder on labels."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from attar.errors import ConfigError
from attar.methods.contract import Context
from attar.nets.deltas.format import DeltaSource
from attar.nets.loading import load_tokenizer, load_with_new
from attar.nets.longer import describe_windows, is_windowed
from attar.nets.selection import head_names
from attar.objectives.task import task_loss
from attar.training.stage import OnLogits, Stage


def open_encoder(ctx: Context) -> tuple[PreTrainedModel, set[str]]:
    """Load the encoder with a task head that is drawn with the run's seed.

    Returns:
        The model, and the parameters that every method trains: the head, and what the checkpoint lacked (a pooler, for
        an encoder that was stored without), since those are random numbers.
    """
    torch.manual_seed(ctx.train.seed)
    model, drawn = load_with_new(encoder_name(ctx), ctx.task.kind, ctx.task.labels)
    return model, head_names(model) | drawn


def encoder_name(ctx: Context) -> str:
    """Return the encoder to tune.

    Raises:
        ConfigError: where none is given.
    """
    if ctx.encoder is None:
        raise ConfigError("attar finetune needs a pre-trained encoder: --model NAME-OR-FOLDER")
    return ctx.encoder


def label_stage(
    name: str, ctx: Context, model: PreTrainedModel, *, delta: DeltaSource | None = None, notes: Sequence[str] = ()
) -> Stage:
    """Return the stage that trains what may move of a model on the labelled rows, by the loss of the task.

    Raises:
        ConfigError: for a delta of an encoder that the run itself would make longer.
    """
    if delta is not None and ctx.train.long == "windowed" and not is_windowed(model):
        raise ConfigError(
            f"a delta stands beside a stored encoder: make {delta.encoder} longer first "
            "(attar longer --model … --out LONG) and tune LONG"
        )
    kind = ctx.task.kind

    def loss(logits: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": task_loss(logits, batch["labels"], kind)}

    return Stage(
        name=name,
        model=model,
        tokenizer=load_tokenizer(encoder_name(ctx)),
        objective=OnLogits(loss),
        train=ctx.train,
        task=ctx.task,
        learn=[(ctx.data.train, True)],
        dev=ctx.data.dev,
        delta=delta,
        notes=[*describe_windows(model), *notes],
    )

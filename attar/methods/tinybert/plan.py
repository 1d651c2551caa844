"""TinyBERT on a task (Jiao et al. 2020): first the teacher's layers, from texts alone, then its predictions."""

import dataclasses

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.errors import ConfigError
from attar.methods.contract import Context
from attar.methods.students import build_student, distil_stage, require_same_pieces
from attar.methods.tinybert.config import TinyBert
from attar.methods.tinybert.student import learn_layers, require_readable, shaped_student
from attar.nets.loading import load_for_task, load_tokenizer
from attar.nets.longer import lengthened
from attar.objectives.distillation import distillation_loss
from attar.training.stage import Stage


def plan(config: TinyBert, ctx: Context) -> list[Stage]:
    """Build the student; learn the layers, then the predictions. Without a teacher in ``ctx``: the labels alone."""
    torch.manual_seed(ctx.train.seed)  # thin students, new heads and projections are random
    student, tokenizer, note = make_student(config, ctx)
    student = lengthened(student, ctx.train.long, ctx.train.max_length)
    require_same_pieces(ctx, tokenizer)
    last = prediction_stage(config, ctx, student, tokenizer, note)
    if ctx.teacher is None:
        # As many epochs on the labels as its twin has in all.
        epochs = ctx.train.epochs + (config.intermediate_epochs if config.has_intermediate_stage else 0)
        return [dataclasses.replace(last, name="labels", train=dataclasses.replace(ctx.train, epochs=epochs))]
    if not config.has_intermediate_stage:
        return [last]
    return [intermediate_stage(config, ctx, student, tokenizer), last]


def make_student(config: TinyBert, ctx: Context) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    """Return the student with a head for the task, its tokenizer, and a sentence on what it is."""
    if config.student != "thin":
        return build_student(config.student, ctx)
    path = one_bundle(ctx, "a thin student is shaped after its teacher")
    teacher = load_for_task(path, ctx.task.kind)
    teacher.config.id2label, teacher.config.label2id = ctx.task.id2label, ctx.task.label2id
    student, note = shaped_student(teacher, config)
    return student, load_tokenizer(path), note


def intermediate_stage(
    config: TinyBert, ctx: Context, student: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> Stage:
    """Return the stage that learns embeddings, hidden states and attention: no labels, no logits."""
    path = one_bundle(ctx, "tinybert learns the teacher's layers")
    teacher = load_for_task(path, ctx.task.kind)
    require_readable(tokenizer, load_tokenizer(path), teacher, ctx.train.max_length)
    lr = config.default_rates[0] if config.intermediate_lr is None else config.intermediate_lr
    train = dataclasses.replace(ctx.train, epochs=config.intermediate_epochs, lr=lr, schedule="constant", warmup=0.0)
    model, objective, notes = learn_layers(student, teacher, config, train)
    return Stage(
        name="intermediate",
        model=model,
        tokenizer=tokenizer,
        objective=objective,
        train=train,
        task=None,
        learn=ctx.learn(),
        dev=ctx.data.dev,
        notes=notes,
    )


def prediction_stage(
    config: TinyBert, ctx: Context, student: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, note: str
) -> Stage:
    """Return the stage that learns the teacher's predictions: soft cross-entropy at temperature 1."""
    if config.prediction == "labels":
        ctx = dataclasses.replace(ctx, teacher=None)
    alpha = config.alpha if ctx.teacher is not None else 1.0
    loss = distillation_loss(loss="soft-ce", temperature=1.0, alpha=alpha, kind=ctx.task.kind)
    return distil_stage("prediction", ctx, student, tokenizer, loss, note)


def one_bundle(ctx: Context, why: str) -> str:
    """Return the folder of the one teacher.

    Raises:
        ConfigError: for an ensemble, or answers in a file.
    """
    if len(ctx.teacher_bundles) != 1:
        raise ConfigError(
            f"{why}, which takes one teacher bundle, found {len(ctx.teacher_bundles)}; give one --teacher"
        )
    return ctx.teacher_bundles[0]

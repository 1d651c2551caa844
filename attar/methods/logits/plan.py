"""Logit distillation: the student reads texts with its own tokenizer and learns the teacher's answers."""

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.data.task import align_labels
from attar.errors import ConfigError
from attar.methods.contract import Context
from attar.methods.logits.config import Logits
from attar.methods.logits.objective import logits_loss
from attar.nets.anatomy import anatomy
from attar.nets.deltas.merge import load_whole
from attar.nets.loading import load_for_task, load_tokenizer, output_labels
from attar.nets.surgery import every_other_layer, keep_layers, order_outputs
from attar.training.stage import Stage, on_logits


def plan(config: Logits, ctx: Context) -> list[Stage]:
    """Build the student and distil into it; without a teacher in ``ctx``, train it on the labels alone."""
    torch.manual_seed(ctx.train.seed)  # a student by name gets a new head
    student, tokenizer, note = build_student(config.student, ctx)
    if ctx.task.kind == "token" and ctx.teacher is not None:
        _require_same_pieces(ctx, tokenizer)
    alpha = config.alpha if ctx.teacher is not None else 1.0
    return [
        Stage(
            name="distil",
            model=student,
            tokenizer=tokenizer,
            objective=on_logits(
                logits_loss(loss=config.loss, temperature=config.temperature, alpha=alpha, kind=ctx.task.kind)
            ),
            train=ctx.train,
            task=ctx.task,
            learn=ctx.learn(),
            dev=ctx.data.dev,
            teacher=ctx.teacher,
            notes=[note],
        )
    ]


def build_student(student: str, ctx: Context) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    """Return the student, its tokenizer, and a sentence on what it is.

    A student cut from the teacher keeps the teacher's head, its outputs put into the task's order.

    Raises:
        ConfigError: for a student cut from a teacher that is no single bundle, or a layer list that is none.
    """
    if student != "half" and not student.startswith("layers:"):
        model = load_for_task(student, ctx.task.kind, ctx.task.labels)
        return model, load_tokenizer(student), f"student: {student}"
    if len(ctx.teacher_bundles) != 1:
        raise ConfigError(
            f"--student {student} is cut from one teacher bundle, found {len(ctx.teacher_bundles)}; "
            "name an encoder instead: --student NAME-OR-FOLDER"
        )
    path = ctx.teacher_bundles[0]
    whole = load_whole(path, ctx.task.kind)
    depth = len(anatomy(whole).layers)
    layers = every_other_layer(depth) if student == "half" else parse_layers(student)
    model = keep_layers(whole, layers)
    order_outputs(model, align_labels(output_labels(whole.config), ctx.task), ctx.task.labels)
    return model, load_tokenizer(path), f"student: layers {', '.join(map(str, layers))} of the teacher's {depth}"


def parse_layers(student: str) -> tuple[int, ...]:
    """Read ``layers:0,2,4``."""
    try:
        return tuple(int(part) for part in student.removeprefix("layers:").split(","))
    except ValueError as error:
        raise ConfigError(f"--student expects layer numbers such as layers:0,2,4; found {student!r}") from error


def _require_same_pieces(ctx: Context, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a student that cuts words into other pieces than the teacher."""
    if ctx.teacher is not None and ctx.teacher.max_length != ctx.train.max_length:
        raise ConfigError(
            f"token classification distils word by word and needs the teacher's length limit: it reads "
            f"{ctx.teacher.max_length} tokens, the student {ctx.train.max_length}; "
            f"set train.max_length={ctx.teacher.max_length}"
        )
    own = tokenizer.backend_tokenizer.to_str()
    for path in ctx.teacher_bundles:
        if load_tokenizer(path).backend_tokenizer.to_str() != own:
            raise ConfigError(
                "token classification distils word by word from the same word pieces, and this student's tokenizer "
                f"differs from the teacher's ({path}); cut the student from the teacher (--student layers:0,2,4) "
                "or choose one that shares its tokenizer"
            )

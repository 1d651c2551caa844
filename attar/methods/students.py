"""Students that several rooms build, and the stage that distils a teacher's answers into one."""

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.data.task import align_labels
from attar.errors import ConfigError
from attar.methods.contract import Context
from attar.methods.cut import cut_from_teacher
from attar.nets.anatomy import anatomy
from attar.nets.deltas.merge import load_whole
from attar.nets.loading import load_for_task, load_tokenizer, output_labels, same_pieces
from attar.nets.longer import describe_windows, lengthened
from attar.nets.surgery import every_other_layer, keep_layers, order_outputs
from attar.training.stage import LogitLoss, OnLogits, Stage


def build_student(student: str, ctx: Context) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    """Return the student, its tokenizer, and a sentence on what it is.

    Args:
        student: ``half`` of the teacher's layers, ``layers:0,2,4``, or a folder or hub name.
        ctx: the context of the plan.

    A student cut from the teacher keeps the teacher's head, its outputs put into the task's order.

    Raises:
        ConfigError: for a student cut from a teacher that is no single bundle, or a layer list that is none.
    """
    if not cut_from_teacher(student):
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
    layers = chosen_layers(student, depth)
    model = keep_layers(whole, layers)
    order_outputs(model, align_labels(output_labels(whole.config), ctx.task), ctx.task.labels)
    return model, load_tokenizer(path), f"student: layers {', '.join(map(str, layers))} of the teacher's {depth}"


def chosen_layers(student: str, depth: int) -> tuple[int, ...]:
    """Return the layers that ``half`` or ``layers:0,2,4`` stands for in a teacher of ``depth`` layers.

    Raises:
        ConfigError: for anything else.
    """
    if student == "half":
        return every_other_layer(depth)
    try:
        return tuple(int(part) for part in student.removeprefix("layers:").split(","))
    except ValueError as error:
        raise ConfigError(f"--student expects layer numbers such as layers:0,2,4; found {student!r}") from error


def require_same_pieces(ctx: Context, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse, for token classification, a student that cuts words into other pieces than the teacher."""
    if ctx.task.kind != "token" or ctx.teacher is None:
        return
    if ctx.teacher.max_length != ctx.train.max_length:
        raise ConfigError(
            f"token classification distils word by word and needs the teacher's length limit: it reads "
            f"{ctx.teacher.max_length} tokens, the student {ctx.train.max_length}; "
            f"set train.max_length={ctx.teacher.max_length}"
        )
    for path in ctx.teacher_bundles:
        if not same_pieces(tokenizer, load_tokenizer(path)):
            raise ConfigError(
                "token classification distils word by word from the same word pieces, and this student's tokenizer "
                f"differs from the teacher's ({path}); cut the student from the teacher (--student layers:0,2,4) "
                "or choose one that shares its tokenizer"
            )


def distil_stage(
    name: str, ctx: Context, student: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, loss: LogitLoss, note: str
) -> Stage:
    """Return the stage in which a student learns the teacher's answers (or, without a teacher, the labels).

    The student is made longer where the run asks for it (``train.long``).
    """
    student = lengthened(student, ctx.train.long, ctx.train.max_length)
    return Stage(
        name=name,
        model=student,
        tokenizer=tokenizer,
        objective=OnLogits(loss),
        train=ctx.train,
        task=ctx.task,
        learn=ctx.learn(),
        dev=ctx.data.dev,
        teacher=ctx.teacher,
        notes=[note, *describe_windows(student)],
    )

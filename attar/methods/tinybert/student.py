"""Students of TinyBERT, and what has to agree between a student and the teacher whose layers it learns."""

from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.config import TrainConfig
from attar.errors import ConfigError
from attar.methods.tinybert.layers import layer_map, layer_table
from attar.methods.tinybert.objective import ProjectedStudent, layer_objective
from attar.nets.anatomy import anatomy, position_limit
from attar.nets.hardware import pick_device
from attar.nets.loading import same_pieces
from attar.nets.parameters import count_parameters
from attar.nets.surgery import thin_student
from attar.sizes import show_size
from attar.teacher.layers import layers_limit
from attar.training.stage import Objective


def shaped_student(
    teacher: PreTrainedModel, *, layers: int, width: int, heads: int | None, feed_forward: int
) -> PreTrainedModel:
    """Return a thin student of the teacher's class; ``heads`` None stands for the teacher's number."""
    heads = heads or anatomy(teacher).heads
    return thin_student(teacher, layers=layers, width=width, heads=heads, feed_forward=feed_forward)


def learn_layers(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    *,
    attention: str,
    projections: str,
    embedding_weight: float,
    hidden_weight: float,
    attention_weight: float,
    train: TrainConfig,
) -> tuple[ProjectedStudent, Objective, list[str]]:
    """Return the model and the objective of a stage that learns layers, and what it does in sentences.

    ``train`` is that of the stage; the other settings are :class:`attar.methods.tinybert.config.TinyBert`'s.

    Raises:
        ConfigError: for a student that is deeper than its teacher, or has another number of heads where heads are
            compared one to one.
    """
    mine, theirs = anatomy(student), anatomy(teacher)
    layers = layer_map(len(mine.layers), len(theirs.layers))
    if attention_weight and attention != "relations" and mine.heads != theirs.heads:
        raise ConfigError(
            f"attention is compared head by head, and the student has {mine.heads} heads, the teacher {theirs.heads}; "
            "give the student as many, or compare relations, which any heads have: --set method.attention=relations"
        )
    limit = layers_limit(train)
    relation_heads = shared_heads(mine.width, theirs.width, theirs.heads)
    model = ProjectedStudent(
        student,
        theirs.width,
        projections=projections,
        hidden=hidden_weight > 0,
        scores=attention_weight > 0 and attention != "relations",
        relations=attention_weight > 0 and attention == "relations",
    )
    objective = layer_objective(
        teacher.to(pick_device()),  # type: ignore[arg-type]
        layers,
        attention=attention,
        relation_heads=relation_heads,
        embedding_weight=embedding_weight,
        hidden_weight=hidden_weight,
        attention_weight=attention_weight,
        precision=train.precision,
        limit=limit,
    )
    compared = f"relations of {relation_heads} heads" if attention == "relations" else attention
    notes = [
        *layer_table(layers),
        f"compared: embeddings x {embedding_weight:g}, hidden states x {hidden_weight:g}, "
        f"attention ({compared}) x {attention_weight:g}",
        f"projections: {_describe(model, projections)}; they are not saved with the student",
    ]
    if limit:
        notes.append(
            f"the teacher's layers run once a text, and are kept in a temporary file of up to {show_size(limit)}"
        )
    return model, objective, notes


def shared_heads(student_width: int, teacher_width: int, heads: int) -> int:
    """Return the largest number of relation heads, at most ``heads``, that both widths divide by."""
    return next(n for n in range(heads, 0, -1) if student_width % n == 0 and teacher_width % n == 0)


def require_readable(
    student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase, model: PreTrainedModel, max_length: int
) -> None:
    """Refuse a teacher that does not read the very tokens of its student.

    Args:
        student: the student's tokenizer.
        teacher: the teacher's.
        model: the teacher.
        max_length: the student's length limit.

    Raises:
        ConfigError: for another tokenizer, or fewer positions.
    """
    if not same_pieces(student, teacher):
        raise ConfigError(
            "layers are compared token by token, and this student's tokenizer differs from the teacher's; "
            "give a student that shares it: --student thin, half, or what attar pretrain made from the same encoder"
        )
    limit = position_limit(model)
    if limit is not None and max_length > limit:
        raise ConfigError(f"train.max_length is {max_length}, and the teacher reads at most {limit} tokens")


def describe(student: PreTrainedModel, teacher: PreTrainedModel) -> str:
    """Return a thin student's sizes in a sentence."""
    parts, sizes = anatomy(student), [count_parameters(model)[0] for model in (student, teacher)]
    return (
        f"student: {len(parts.layers)} layers, width {parts.width}, {parts.heads} heads; "
        f"{sizes[0]:,} parameters of the teacher's {sizes[1]:,}"
    )


def _describe(model: ProjectedStudent, projections: str) -> str:
    maps: Any = model.project_embeddings
    if not count_parameters(maps)[0]:
        return "none, the widths are equal"
    kind = "one for all" if projections == "shared" else "one for embeddings, one for hidden states"
    return f"{kind}, {maps.in_features} to {maps.out_features}"

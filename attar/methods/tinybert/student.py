"""Students of TinyBERT, and what has to agree between a student and the teacher whose layers it learns."""

from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.config import TrainConfig
from attar.errors import ConfigError
from attar.methods.tinybert.config import TinyBert, TinyBertPretraining
from attar.methods.tinybert.layers import layer_map, layer_table
from attar.methods.tinybert.objective import ProjectedStudent, layer_objective
from attar.nets.anatomy import anatomy, position_limit
from attar.nets.hardware import pick_device
from attar.nets.loading import same_pieces
from attar.nets.parameters import count_parameters
from attar.nets.surgery import inherit_embeddings, thin_student
from attar.sizes import show_size
from attar.teacher.layers import layers_limit
from attar.training.stage import Objective


def shaped_student(teacher: PreTrainedModel, config: TinyBert | TinyBertPretraining) -> tuple[PreTrainedModel, str]:
    """Return a thin student of the teacher's class, and what it is in a sentence."""
    student = thin_student(
        teacher,
        layers=config.layers,
        width=config.width,
        heads=config.heads or anatomy(teacher).heads,
        feed_forward=config.feed_forward,
    )
    if config.embeddings == "teacher":
        inherit_embeddings(student, teacher)
    return student, _describe_student(student, teacher, config.embeddings)


def learn_layers(
    student: PreTrainedModel, teacher: PreTrainedModel, config: TinyBert | TinyBertPretraining, train: TrainConfig
) -> tuple[ProjectedStudent, Objective, list[str]]:
    """Return the model and the objective of a stage that learns layers, and what it does in sentences.

    ``train`` is that of the stage.

    Raises:
        ConfigError: for a student that is deeper than its teacher, or has another number of heads where heads are
            compared one to one.
    """
    mine, theirs = anatomy(student), anatomy(teacher)
    layers = layer_map(len(mine.layers), len(theirs.layers))
    related = config.attention == "relations"
    if config.attention_weight and not related and mine.heads != theirs.heads:
        raise ConfigError(
            f"attention is compared head by head, and the student has {mine.heads} heads, the teacher {theirs.heads}; "
            "give the student as many, or compare relations, which any heads have: --set method.attention=relations"
        )
    limit = layers_limit(train)
    relation_heads = shared_heads(mine.width, theirs.width, theirs.heads)
    model = ProjectedStudent(
        student,
        theirs.width,
        projections=config.projections,
        hidden=config.hidden_weight > 0,
        scores=config.attention_weight > 0 and not related,
        relations=config.attention_weight > 0 and related,
    )
    objective = layer_objective(
        teacher.to(pick_device()),  # type: ignore[arg-type]
        layers,
        attention=config.attention,
        relation_heads=relation_heads,
        embedding_weight=config.embedding_weight,
        hidden_weight=config.hidden_weight,
        attention_weight=config.attention_weight,
        precision=train.precision,
        limit=limit,
    )
    compared = f"relations of {relation_heads} heads" if related else config.attention
    notes = [
        *layer_table(layers),
        f"compared: embeddings x {config.embedding_weight:g}, hidden states x {config.hidden_weight:g}, "
        f"attention ({compared}) x {config.attention_weight:g}",
        f"projections: {_describe_maps(model, config.projections)}; they are not saved with the student",
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


def _describe_student(student: PreTrainedModel, teacher: PreTrainedModel, embeddings: str) -> str:
    """Return a thin student's sizes, and what its embeddings start from, in a sentence."""
    parts, sizes = anatomy(student), [count_parameters(model)[0] for model in (student, teacher)]
    return (
        f"student: {len(parts.layers)} layers, width {parts.width}, {parts.heads} heads; "
        f"{sizes[0]:,} parameters of the teacher's {sizes[1]:,}; embeddings: "
        + ("principal axes of the teacher's" if embeddings == "teacher" else embeddings)
    )


def _describe_maps(model: ProjectedStudent, projections: str) -> str:
    maps: Any = model.project_embeddings
    if not count_parameters(maps)[0]:
        return "none, the widths are equal"
    kind = "one for all" if projections == "shared" else "one for embeddings, one for hidden states"
    return f"{kind}, {maps.in_features} to {maps.out_features}"

"""The loss of the layers: embeddings, hidden states and attention, each on its own in the log."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attar.nets.anatomy import anatomy
from attar.nets.scoring import model_inputs
from attar.nets.taps import Tapped, taps
from attar.objectives.attention import probability_mse, score_mse
from attar.objectives.hidden import hidden_mse
from attar.objectives.relations import minilm_v2_loss
from attar.teacher.layers import TeacherLayers
from attar.training.stage import Objective


class ProjectedStudent(nn.Module):
    """A student with the maps to its teacher's width, which train beside it and stay behind when it is saved.

    Its forward runs the encoder and compares what was seen inside, embeddings and hidden states in the teacher's width.
    """

    def __init__(self, student: PreTrainedModel, teacher_width: int, *, projections: str, **wanted: bool) -> None:
        """Put maps beside the student where the widths differ.

        Args:
            student: an encoder, with or without a head; only what lies below the head runs here.
            teacher_width: W of the teacher.
            projections: "separate" maps for embeddings and hidden states, or one that is "shared".
            wanted: whether ``hidden``, ``scores`` and ``relations`` are read.
        """
        super().__init__()
        parts = anatomy(student)
        self.student = student
        self.watched = {name: range(len(parts.layers)) for name, on in wanted.items() if on}
        self.project_embeddings: nn.Module = nn.Identity()
        self.project_hidden: nn.Module = nn.Identity()
        if parts.width != teacher_width:
            self.project_embeddings = _projection(parts.width, teacher_width)
            shared = projections == "shared"
            self.project_hidden = self.project_embeddings if shared else _projection(parts.width, teacher_width)

    def forward(self, compare: Callable[[Tapped], dict[str, Tensor]], **inputs: Tensor) -> dict[str, Tensor]:
        """Run the encoder on ids and masks, (B, T), and return what ``compare`` makes of what was seen."""
        with taps(self.student, **self.watched) as seen:
            self.student.base_model(**inputs)
            found = seen.read()
        projected = {i: self.project_hidden(states) for i, states in found.hidden.items()}
        embeddings = self.project_embeddings(found.embeddings)
        return compare(dataclasses.replace(found, embeddings=embeddings, hidden=projected))

    def save_pretrained(self, folder: str) -> None:
        """Save the student alone."""
        self.student.save_pretrained(folder)


def layer_objective(
    teacher: PreTrainedModel,
    layers: Sequence[int],
    *,
    attention: str = "scores",
    relation_heads: int = 1,
    embedding_weight: float = 1.0,
    hidden_weight: float = 1.0,
    attention_weight: float = 1.0,
    precision: str = "auto",
    limit: int = 0,
) -> Objective:
    """Return the loss of a :class:`ProjectedStudent` against its teacher (Jiao et al. 2020, L_embd, L_hidn and L_attn).

    Hidden states and attention are summed over the student's layers; all are means over real tokens. The teacher reads
    the same batch, in eval mode and without gradients, whether it is wanted in training or on dev.

    Args:
        teacher: the encoder to learn from, on the device of the training, with or without a head.
        layers: for every layer of the student, the teacher's that it learns, 0-based.
        attention: "scores", "probabilities" or "relations".
        relation_heads: heads that the relations are split into.
        embedding_weight: 0 leaves the loss out, and saves its cost.
        hidden_weight: the same.
        attention_weight: the same.
        precision: that of the training.
        limit: bytes of disk for what the teacher's layers did, which then run once a text; 0 runs them every time.
    """
    weights = {"embedding_loss": embedding_weight, "hidden_loss": hidden_weight, "attention_loss": attention_weight}
    seen_as = "relations" if attention == "relations" else "scores"
    watched = {"hidden": layers if hidden_weight else (), seen_as: layers if attention_weight else ()}
    look = TeacherLayers(teacher, **watched, precision=precision, limit=limit)

    @torch.autocast("cuda", enabled=False)
    @torch.autocast("cpu", enabled=False)
    def losses(student: Tapped, wanted: Tapped, mask: Tensor) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = {}
        if embedding_weight:
            parts["embedding_loss"] = hidden_mse(student.embeddings.float(), wanted.embeddings.float(), mask)
        if hidden_weight:
            pairs = ((student.hidden[i], wanted.hidden[layer]) for i, layer in enumerate(layers))
            parts["hidden_loss"] = _sum(hidden_mse(mine.float(), theirs.float(), mask) for mine, theirs in pairs)
        if attention_weight:
            compare = partial(_attention_loss, student, wanted, mask, attention, relation_heads)
            parts["attention_loss"] = _sum(compare(i, layer) for i, layer in enumerate(layers))
        return parts

    def objective(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        compare = partial(losses, wanted=look(batch), mask=batch["attention_mask"])
        parts = model(compare=compare, **model_inputs(batch))
        return {"loss": _sum(weights[name] * part for name, part in parts.items()), **parts}

    return objective


def _attention_loss(
    student: Tapped, teacher: Tapped, mask: Tensor, attention: str, relation_heads: int, mine: int, theirs: int
) -> Tensor:
    """Return the distance of one layer's attention from its teacher layer's."""
    if attention == "relations":
        own, wanted = (
            {"query": seen.query[layer].float(), "key": seen.key[layer].float(), "value": seen.value[layer].float()}
            for seen, layer in ((student, mine), (teacher, theirs))
        )
        return _sum(minilm_v2_loss(own, wanted, mask, heads=relation_heads).values())
    loss = score_mse if attention == "scores" else probability_mse
    return loss(student.scores[mine].float(), teacher.scores[theirs].float(), mask)


def _projection(width: int, teacher_width: int) -> nn.Linear:
    """Return a new linear map, drawn as the released code draws all of BERT's."""
    projection = nn.Linear(width, teacher_width)
    nn.init.normal_(projection.weight, std=0.02)
    nn.init.zeros_(projection.bias)
    return projection


def _sum(losses: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(losses)).sum()

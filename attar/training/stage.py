"""A stage: one training run inside a method. Rooms make stages; the loop runs them and knows nothing of papers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from attar.config import TrainConfig
from attar.data.encoding import Encoded
from attar.data.task import Task
from attar.nets.deltas.format import DeltaSource
from attar.nets.scoring import head_logits, model_inputs
from attar.teacher.open import Teacher


class Objective(Protocol):
    """What a stage minimises."""

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the model on a batch; return ``loss`` and, for the log, the parts that it is made of.

        Args:
            model: the stage's model, possibly wrapped for distributed training: call it, do not reach into it.
            batch: ``input_ids``, ``attention_mask`` and what else the tokenizer gives, (B, T); ``labels`` where the
                stage has a task (see :class:`attar.data.labels.Labels`); ``teacher_logits`` (N, C) where it has
                a teacher.
        """


class LogitLoss(Protocol):
    """A loss of the model's answers: what most objectives are."""

    def __call__(self, logits: Tensor, batch: Mapping[str, Tensor], /) -> dict[str, Tensor]:
        """Return ``loss`` and its parts, from (N, C) logits: one row a text, or one a word for token classification."""


@dataclass(frozen=True)
class OnLogits:
    """The objective that runs the model and compares its logits, in float32, by ``loss``: nothing else is looked at."""

    loss: LogitLoss

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss and its parts (:class:`Objective`)."""
        return self.loss(head_logits(model(**model_inputs(batch)), batch).float(), batch)


@dataclass(kw_only=True)
class Stage:
    """One training run: which model, which loss, what it learns from, what the teacher supplies.

    What may move is what requires gradients in ``model``; the room has set that.
    """

    name: str
    model: nn.Module
    """The last stage's is a transformers model, and what the run leaves; others may wrap it."""
    tokenizer: PreTrainedTokenizerBase
    objective: Objective
    train: TrainConfig
    task: Task | None
    """None for a stage that reads texts alone; it is then judged by its own loss on dev."""
    learn: Sequence[tuple[Dataset, bool]] | Encoded
    """Splits to learn from, each with whether its labels count; or texts that are encoded already (a corpus)."""
    dev: Dataset | Encoded
    teacher: Teacher | None = None
    """Its logits enter every batch as ``teacher_logits``."""
    delta: DeltaSource | None = None
    """What the run leaves is this delta of a frozen encoder, not a whole model."""
    notes: list[str] = field(default_factory=list)
    """Sentences for the terminal and the record: what was built and what moves."""

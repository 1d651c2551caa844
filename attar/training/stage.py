"""A stage: one training run inside a method. Rooms make stages; the loop runs them and knows nothing of papers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.config import TrainConfig
from attar.data.task import Task
from attar.teacher.open import Teacher


class Objective(Protocol):
    """What a stage minimises."""

    def __call__(self, logits: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``loss`` and, for the log, the parts that it is made of.

        Args:
            logits: (N, C) of the student, one row a text, or one a word for token classification.
            batch: ``labels`` in the same rows (see :class:`attar.data.labels.Labels`), and ``teacher_logits``
                (N, C) where the stage has a teacher.
        """


@dataclass(kw_only=True)
class Stage:
    """One training run: which model, which loss, what it learns from, what the teacher supplies.

    What may move is what requires gradients in ``model``; the room has set that.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    objective: Objective
    train: TrainConfig
    task: Task
    learn: Sequence[tuple[Dataset, bool]]
    """Splits to learn from, each with whether its labels count."""
    dev: Dataset
    teacher: Teacher | None = None
    """Its logits enter every batch as ``teacher_logits``."""
    notes: list[str] = field(default_factory=list)
    """Sentences for the terminal and the record: what was built and what moves."""

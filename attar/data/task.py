"""The task: what is predicted from which columns.

Everything past the readers sees a :class:`Task` and splits with canonical columns:

``text``
    a string, or a list of tokens for token classification;
``pair``
    the second string, for pairs only;
``label``
    single-label: int id · multi-label: list of 0.0/1.0 · regression: float · token: list of int ids.

Rows whose label is not known (unlabelled text) hold None.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from datasets import Dataset

from attar.config import TaskKind
from attar.errors import ModelError

#: How transformers names the three losses of a sequence classification head.
PROBLEM_TYPES: dict[str, str] = {
    "single-label": "single_label_classification",
    "multi-label": "multi_label_classification",
    "regression": "regression",
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is predicted, from which columns of the user's file, under which label names."""

    kind: TaskKind
    text: str
    """The user's column name of the text (or of the tokens)."""
    pair: str | None = None
    label: tuple[str, ...]
    """The user's column name of the label, or several for a multi-label task."""
    labels: tuple[str, ...]
    """Label names in the order of the model's outputs; for regression the name of the target."""

    @property
    def n_outputs(self) -> int:
        """Width of the model's logits."""
        return len(self.labels)

    @property
    def headline(self) -> str:
        """The one metric that decides between epochs and leads every table."""
        return {"single-label": "accuracy", "multi-label": "micro_f1", "regression": "pearson", "token": "accuracy"}[
            self.kind
        ]

    @property
    def id2label(self) -> dict[int, str]:
        """Label names by output index, as transformers stores them."""
        return dict(enumerate(self.labels))

    @property
    def label2id(self) -> dict[str, int]:
        """Output index by label name."""
        return {name: i for i, name in enumerate(self.labels)}

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready table; :meth:`from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> "Task":
        """Rebuild a task from :meth:`to_dict`, or from its JSON."""
        lists = {key: tuple(table[key]) for key in ("label", "labels")}
        return cls(**{**table, **lists})


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """A task with its splits, canonical columns, memory-mapped."""

    task: Task
    source: str
    """What the user gave: path or name."""
    fingerprint: str
    """Hash of the texts and labels of all splits."""
    train: Dataset
    dev: Dataset
    test: Dataset | None
    unlabelled: Dataset | None
    notes: tuple[str, ...] = ()
    """What was inferred, cut or dropped, one sentence each, for the terminal and the record."""


def align_labels(teacher_labels: Sequence[str], task: Task) -> list[int]:
    """Return for each of the task's labels the teacher's output index.

    A teacher without label names (``LABEL_0``, …) is taken to be in the task's order.

    Raises:
        ModelError: where the teacher's labels are others than the task's.
    """
    if len(teacher_labels) == task.n_outputs and all(name == f"LABEL_{i}" for i, name in enumerate(teacher_labels)):
        return list(range(task.n_outputs))
    if task.kind == "regression" and len(teacher_labels) == 1:
        return [0]
    if set(teacher_labels) != set(task.labels):
        raise ModelError(
            f"the teacher's labels are {list(teacher_labels)}, the data's are {list(task.labels)}; "
            "distil from a teacher that was fine-tuned on these labels"
        )
    return [list(teacher_labels).index(name) for name in task.labels]

"""Score columns as a teacher: an LLM's or any black box's answers, in the user's own files."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from datasets import Dataset

from attar.data.outputs import logits_of_probabilities
from attar.data.task import Task
from attar.errors import ConfigError, DataError, nearest
from attar.teacher.signals import ArraySignals

_FORM = "probs:LABEL=COLUMN,LABEL=COLUMN or logits:… or value:COLUMN"


@dataclass(frozen=True)
class Scores:
    """What the columns hold, and which column belongs to which label, in the task's order."""

    what: str
    columns: tuple[str, ...]


def score_columns(text: str) -> tuple[str, ...]:
    """Return the column names in a ``--teacher-scores`` value, before the task is known."""
    _, sign, rest = text.partition(":")
    columns = tuple(item.rpartition("=")[2].strip() for item in rest.split(","))
    if not sign or not all(columns):
        raise ConfigError(f"--teacher-scores expects {_FORM}; found {text!r}")
    return columns


def parse_scores(text: str, task: Task) -> Scores:
    """Read a ``--teacher-scores`` value against a task.

    Raises:
        ConfigError: for another form than ``probs:…``, ``logits:…`` or ``value:…``, or labels that do not match.
    """
    what, _, rest = text.partition(":")
    columns = score_columns(text)
    wanted = ("value",) if task.kind == "regression" else ("probs", "logits")
    if what not in wanted:
        raise ConfigError(f"--teacher-scores of a {task.kind} task starts with {' or '.join(wanted)}; found {what!r}")
    if task.kind == "token":
        raise ConfigError("--teacher-scores gives one score a text; token classification needs a teacher bundle")
    if what == "value":
        if len(columns) > 1:
            raise ConfigError(f"--teacher-scores of a regression task names one column; found {', '.join(columns)}")
        return Scores(what, columns[:1])
    by_label = {item.rpartition("=")[0].strip(): item.rpartition("=")[2].strip() for item in rest.split(",")}
    for label in by_label:
        if label not in task.labels:
            raise ConfigError(f"--teacher-scores names the label {label!r}{nearest(label, task.labels)}")
    items = rest.split(",")
    if len(by_label) < len(items) or len(set(columns)) < len(columns):
        raise ConfigError(f"--teacher-scores expects one column of its own for every label; found {text!r}")
    absent = [label for label in task.labels if label not in by_label]
    if absent:
        raise ConfigError(f"--teacher-scores has no column for the label {absent[0]!r}; expected {_FORM}")
    return Scores(what, tuple(by_label[label] for label in task.labels))


class ScoreColumns:
    """A teacher that has already answered."""

    max_length = None

    def __init__(self, scores: Scores, task: Task) -> None:
        self.name = "score columns " + ", ".join(scores.columns)
        self._scores, self._task = scores, task

    def answers(self, split: Dataset) -> bool:
        """Return whether a split has the columns."""
        return all(column in split.column_names for column in self._scores.columns)

    def logits(self, parts: Sequence[Dataset], title: str = "") -> ArraySignals:
        """Return the scores of every row as logits.

        Raises:
            DataError: for a split without the columns, and for scores that are missing or no probabilities.
        """
        return ArraySignals(np.concatenate([self._read(part) for part in parts]))

    def _read(self, part: Dataset) -> np.ndarray:
        absent = [c for c in self._scores.columns if c not in part.column_names]
        if absent:
            raise DataError(
                f"the teacher's score column {absent[0]!r} is not in all of the texts to learn from "
                f"(columns there: {', '.join(part.column_names)}); score columns cannot answer for new text"
            )
        values = np.stack([np.asarray(part[c][:], np.float64) for c in self._scores.columns], -1)
        bad = np.flatnonzero(~np.isfinite(values).all(-1))
        if len(bad):
            raise DataError(f"{self.name}: expected numbers, found an empty or non-finite score in row {bad[0] + 1}")
        if self._scores.what != "probs":
            return values
        outside = np.flatnonzero(((values < 0) | (values > 1)).any(-1))
        if len(outside):
            raise DataError(
                f"{self.name}: expected probabilities from 0 to 1, found {values[outside[0]].tolist()} "
                f"in row {outside[0] + 1}; give raw scores as logits:…"
            )
        return logits_of_probabilities(values, self._task.kind)

"""What a room is given and what it gives back.

A room's whole contract is one function::

    def plan(config, ctx: Context) -> list[Stage]

where ``config`` is the room's frozen dataclass of settings. A distilling room plans for ``ctx.teacher`` None too: then
the same student learns from the labels alone, which is what it is compared with. Its settings have ``alpha``, the
weight of the labels against the teacher; at 1 the runner hands it no teacher.

A room that pre-trains has, in its ``pretrain.py``, the same function with a :class:`PretrainContext`; the model of its
last stage is what the run leaves, whatever head it has.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from attar.config import TrainConfig
from attar.data.corpus import Corpus
from attar.data.task import Task, TaskData
from attar.teacher.open import Teacher


@dataclass(frozen=True, kw_only=True)
class Context:
    """Everything that a plan may build on."""

    data: TaskData
    train: TrainConfig
    encoder: str | None = None
    """Pre-trained encoder to fine-tune; None when distilling."""
    teacher: Teacher | None = None
    """None when fine-tuning, and when the student learns from labels alone."""
    teacher_bundles: tuple[str, ...] = ()
    """Folders of the teachers, for students that are built from them."""
    synthetic: Dataset | None = None
    """Augmented texts."""

    @property
    def task(self) -> Task:
        """The task of the data."""
        return self.data.task

    def texts(self) -> list[Dataset]:
        """Return the splits that a student may learn from, labelled or not."""
        return [split for split in (self.data.train, self.data.unlabelled, self.synthetic) if split is not None]

    def learn(self) -> Sequence[tuple[Dataset, bool]]:
        """Return the splits of a stage, each with whether its labels count.

        With a teacher, text without a true label is text for the teacher to answer. Without one, unlabelled
        text is of no use, and a synthetic text has the label of the text that it was made from.
        """
        if self.teacher is None:
            splits = [(self.data.train, True), (self.synthetic, True)]
        else:
            splits = [(self.data.train, True), (self.data.unlabelled, False), (self.synthetic, False)]
        return [(split, known) for split, known in splits if split is not None]


@dataclass(frozen=True, kw_only=True)
class PretrainContext:
    """Everything that the plan of a pre-training may build on."""

    teacher: str
    """Folder or hub name of the encoder to learn from."""
    train: TrainConfig
    corpus: Callable[[PreTrainedTokenizerBase], Corpus]
    """Encodes the texts with a tokenizer into windows of at most ``train.max_length`` tokens. That may take long:
    check the teacher first. A stage takes ``corpus.train`` to learn from and ``corpus.dev`` as dev."""

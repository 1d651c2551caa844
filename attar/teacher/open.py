"""Teachers: one thing that answers for every text of a data set, whatever stands behind it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.config import TeacherConfig
from attar.data.task import Task, align_labels
from attar.engines.contract import Engine
from attar.engines.exported import load_exported
from attar.errors import ConfigError, ModelError
from attar.nets.loading import (
    fingerprint,
    has_head,
    hash_files,
    length_limit,
    load_config,
    load_for_task,
    load_tokenizer,
    output_labels,
    same_pieces,
)
from attar.records import read_manifest
from attar.teacher.scores import ScoreColumns, parse_scores
from attar.teacher.scoring import Scorer
from attar.teacher.signals import EnsembleSignals, ShardSignals, Signals


class Teacher(Protocol):
    """What distillation asks of a teacher."""

    name: str

    @property
    def max_length(self) -> int | None:
        """Its length limit in tokens; None for answers in a file."""

    def answers(self, split: Dataset) -> bool:
        """Return whether it can answer for a split; a model always can, a file only where it has scores."""

    def logits(self, parts: Sequence[Dataset], title: str) -> Signals:
        """Return the logits of every row of the splits, scoring what is not yet in the cache."""


class BundleTeacher:
    """A fine-tuned transformers model, in eval mode, with its own tokenizer and head.

    Args:
        path: its folder.
        task: what it is asked.
        export: folder of an export of it, which then answers in its place.
    """

    def __init__(self, path: str, task: Task, export: str | None = None) -> None:
        if not has_head(path, task.kind):
            wanted = "token" if task.kind == "token" else "sequence"
            raise ModelError(
                f"the teacher {path} has no {wanted} classification head; fine-tune it first: "
                f"attar finetune --model {path} --data … --out teacher/"
            )
        self.name = path
        self._task = task
        manifest = read_manifest(path)
        self.max_length = manifest.get("max_length") or length_limit(load_tokenizer(path))
        self._long = manifest.get("long", "truncate")
        self._columns = align_labels(output_labels(load_config(path)), task)
        self.fingerprint = fingerprint(path)
        self._export = export
        if export is not None:
            self.fingerprint = _export_fingerprint(export, path, self.fingerprint)

    def answers(self, split: Dataset) -> bool:
        """Return True."""
        return True

    def logits(self, parts: Sequence[Dataset], title: str = "score teacher") -> ShardSignals:
        """Return the logits of every row, in the order of the task's labels."""
        scorer = Scorer(
            load=self._load,
            fingerprint=self.fingerprint,
            signal="logits",
            max_length=self.max_length,
            words=self._task.kind == "token",
            long=self._long,
        )
        found = scorer.score(parts, title)
        found.columns, found.width = self._columns, len(self._columns)
        return found

    def _load(self) -> tuple[PreTrainedModel | Engine, PreTrainedTokenizerBase]:
        if self._export is not None:
            exported, engine = load_exported(self._export)
            return engine, exported.tokenizer
        return load_for_task(self.name, self._task.kind), load_tokenizer(self.name)


class Ensemble:
    """Several teachers, averaged."""

    def __init__(self, members: Sequence[BundleTeacher], task: Task, combine: str) -> None:
        limits = {member.max_length for member in members}
        if task.kind == "token" and len(limits) > 1:
            raise ConfigError(
                f"an ensemble for token classification needs teachers of one length limit, found {sorted(limits)}; "
                "their answers would be for different words"
            )
        if task.kind == "token":
            first, *others = (member.name for member in members)
            differing = [name for name in others if not same_pieces(load_tokenizer(first), load_tokenizer(name))]
            if differing:
                raise ConfigError(
                    f"an ensemble for token classification needs teachers of one tokenizer, and that of {differing[0]} "
                    f"cuts words into other pieces than that of {first}"
                )
        self.members, self._task, self._combine = members, task, combine
        self.name = " + ".join(member.name for member in members)
        self.max_length = members[0].max_length

    def answers(self, split: Dataset) -> bool:
        """Return True."""
        return True

    def logits(self, parts: Sequence[Dataset], title: str = "score teacher") -> EnsembleSignals:
        """Return the combined logits of every row."""
        scored = [m.logits(parts, f"{title} {i + 1}/{len(self.members)}") for i, m in enumerate(self.members)]
        return EnsembleSignals(scored, self._task.kind, self._combine)


def open_teacher(config: TeacherConfig, task: Task) -> Teacher:
    """Return the teacher that a configuration names.

    Raises:
        ConfigError: where it names none, or bundles and score columns at once, or not an export for every bundle.
        ModelError: where a bundle cannot be loaded, has no head, or other labels than the data.
    """
    if bool(config.bundles) == bool(config.scores):
        found = "both" if config.scores else "neither"
        raise ConfigError(f"a teacher is either bundles (--teacher) or score columns (--teacher-scores); found {found}")
    if config.scores:
        return ScoreColumns(parse_scores(config.scores, task), task)
    if config.exports and len(config.exports) != len(config.bundles):
        raise ConfigError(
            f"expected one --teacher-export for every --teacher; found {len(config.exports)} for {len(config.bundles)}"
        )
    exports = config.exports or [None] * len(config.bundles)
    members = [BundleTeacher(path, task, export) for path, export in zip(config.bundles, exports, strict=True)]
    return members[0] if len(members) == 1 else Ensemble(members, task, config.combine)


def _export_fingerprint(export: str, path: str, source: str) -> str:
    """Return the fingerprint of a teacher's export.

    Raises:
        ModelError: where the folder is no export, or one of another model.
    """
    found = read_manifest(export).get("export")
    if found is None:
        raise ModelError(
            f"{export} is not what attar export writes; make one of the teacher: "
            f"attar export {path} --format openvino-int8 --out …"
        )
    if found.get("source") != source:
        raise ModelError(f"{export} was exported from another model than the teacher {path}; export that one again")
    files = sorted(Path(export).glob(f"{Path(found['file']).stem}.*"))
    return f"{source}-{hash_files(files)}"

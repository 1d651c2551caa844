"""Bundles: finished models on disk.

A bundle is a normal transformers folder (weights, configuration, tokenizer) with four files beside it:
``attar.json`` (the task and what prediction needs to know), ``recipe.toml`` (makes it again), ``record.json`` and
``predictions.parquet`` (see :mod:`attar.records`), and ``README.md``, its model card.
"""

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.config import TaskKind
from attar.data.task import PROBLEM_TYPES, Task
from attar.nets.loading import length_limit, load_config, load_for_task, load_tokenizer, output_labels
from attar.records import MANIFEST_FILE, read_manifest, write_json


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A loaded model with its tokenizer and task, ready to predict."""

    path: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    task: Task
    max_length: int
    precision: str


def save_bundle(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    max_length: int,
    precision: str,
) -> None:
    """Write model, tokenizer and manifest into a folder that the caller moves into place when it is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    if task.kind in PROBLEM_TYPES:
        model.config.problem_type = PROBLEM_TYPES[task.kind]  # type: ignore[assignment]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    manifest = {"format": 1, "task": task.to_dict(), "max_length": max_length, "precision": precision}
    write_json(manifest, folder / MANIFEST_FILE)


def load_bundle(path: str) -> Bundle:
    """Load a bundle, or any fine-tuned transformers folder or hub name.

    Raises:
        BundleError: for a manifest that cannot be read.
        ModelError: for a model that cannot be loaded.
    """
    manifest = read_manifest(path)
    task = Task.from_dict(manifest["task"]) if manifest else _guess_task(path)
    tokenizer = load_tokenizer(path)
    model = load_for_task(path, task.kind).eval()
    limit = manifest.get("max_length") or length_limit(tokenizer)
    precision = manifest.get("precision", "auto")
    return Bundle(path=path, model=model, tokenizer=tokenizer, task=task, max_length=limit, precision=precision)


def folder_bytes(path: str | Path) -> int:
    """Return the size of what prediction needs: weights, configuration and tokenizer, not records."""
    names = ("*.safetensors", "*.bin", "config.json", "tokenizer*", "vocab*", "merges.txt", "*.model")
    files = {file for pattern in names for file in Path(path).glob(pattern)}
    return sum(file.stat().st_size for file in files)


def _guess_task(path: str) -> Task:
    """Read the task off a model that attar did not make."""
    config = load_config(path)
    labels = tuple(output_labels(config))
    kinds: dict[str, TaskKind] = {"multi_label_classification": "multi-label", "regression": "regression"}
    kind: TaskKind = kinds.get(config.problem_type or "", "single-label")
    if any("ForTokenClassification" in a for a in config.architectures or []):
        kind = "token"
    elif len(labels) == 1:
        kind = "regression"
    return Task(kind=kind, text="tokens" if kind == "token" else "text", label=("label",), labels=labels)

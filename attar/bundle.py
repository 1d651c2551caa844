"""Bundles: finished models on disk.

A bundle is a normal transformers folder (weights, configuration, tokenizer) with four files beside it:
``attar.json`` (the task and what prediction needs to know), ``recipe.toml`` (makes it again), ``record.json`` and
``predictions.parquet`` (see :mod:`attar.records`), and ``README.md``, its model card. The bundle of a delta has the
delta's files (:mod:`attar.nets.deltas.format`) instead of the folder's: weights, configuration and tokenizer are the
encoder's, which is stored once.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from attar.config import TaskKind
from attar.data.task import PROBLEM_TYPES, Task
from attar.errors import BundleError
from attar.nets.deltas.extract import extract_delta
from attar.nets.deltas.format import DeltaSource, copy_delta, is_delta, read_header, write_delta
from attar.nets.deltas.load import encoder_of, load_delta_model
from attar.nets.deltas.merge import merge_insertion
from attar.nets.loading import length_limit, load_config, load_for_task, load_tokenizer, local_folder, output_labels
from attar.nets.saving import save_model
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
    long: str = "truncate"
    """How texts beyond the limit are read, see :mod:`attar.data.long_texts`."""


def save_bundle(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    max_length: int,
    precision: str,
    long: str = "truncate",
    delta: DeltaSource | None = None,
) -> None:
    """Write model, tokenizer and manifest into a folder that the caller moves into place when it is complete.

    With ``delta``, what differs from its encoder is written in the place of model and tokenizer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if delta is not None:
        write_delta(extract_delta(model, delta, task.kind, task.labels), folder)
    else:
        if task.kind in PROBLEM_TYPES:
            model.config.problem_type = PROBLEM_TYPES[task.kind]  # type: ignore[assignment]
        save_model(model, tokenizer, folder)
    write_json(manifest_of(task, max_length, precision, long), folder / MANIFEST_FILE)


def load_bundle(path: str, *, encoder: str | None = None, over: PreTrainedModel | None = None) -> Bundle:
    """Load a bundle, any fine-tuned transformers folder or hub name, or a delta.

    Args:
        path: folder or hub name.
        encoder: for a delta, where its encoder is now; by default where the delta says.
        over: for a delta, its encoder in memory, to build upon (:func:`attar.nets.deltas.load.load_delta_model`).

    Raises:
        BundleError: for a manifest or a delta that cannot be read, and an encoder for what is no delta.
        ModelError: for a model that cannot be loaded.
    """
    manifest = read_manifest(path)
    if "export" in manifest:
        raise BundleError(
            f"{path} was exported for prediction and holds no weights to work on; give the bundle that it was made of"
        )
    if is_delta(path):
        encoder = encoder_of(path, encoder)
        task = Task.from_dict(manifest["task"]) if manifest else _task_of_delta(path)
        model, tokenizer = load_delta_model(path, encoder, over=over), load_tokenizer(encoder)
    elif encoder is not None:
        raise BundleError(f"{path} is no delta, so it needs no encoder; found {encoder}")
    else:
        task = Task.from_dict(manifest["task"]) if manifest else _guess_task(load_config(path))
        tokenizer = load_tokenizer(path)
        model = load_for_task(path, task.kind).eval()
    limit = manifest.get("max_length") or length_limit(tokenizer)
    precision = manifest.get("precision", "auto")
    return Bundle(
        path=path,
        model=model,
        tokenizer=tokenizer,
        task=task,
        max_length=limit,
        precision=precision,
        long=manifest.get("long", "truncate"),
    )


def folder_bytes(path: str | Path) -> int:
    """Return the size of what prediction needs: weights, configuration, tokenizer; for a delta its encoder too.

    Of an exported model, the model file and the tokenizer.
    """
    return _own_bytes(path) + (folder_bytes(local_folder(encoder_of(path))) if is_delta(path) else 0)


def delta_bytes(path: str | Path) -> int | None:
    """Return the size of a delta without its encoder, which is stored once for many; None for a whole model."""
    return _own_bytes(path) if is_delta(path) else None


def _own_bytes(path: str | Path) -> int:
    weights, settings = (
        ("*.safetensors", "*.bin", "*.onnx", "*.onnx.data", "*.xml"),
        ("config.json", "delta.json", "adapter_config.json"),
    )
    names = (*weights, *settings, "tokenizer*", "vocab*", "merges.txt", "*.model")
    files = {file for pattern in names for file in Path(path).glob(pattern)}
    return sum(file.stat().st_size for file in files)


def copy_bundle(bundle: Bundle, folder: Path) -> None:
    """Write a loaded bundle to another folder, without its record."""
    if is_delta(bundle.path):
        copy_delta(bundle.path, folder)
        write_json(manifest_of(bundle.task, bundle.max_length, bundle.precision, bundle.long), folder / MANIFEST_FILE)
        return
    b = bundle
    save_bundle(folder, b.model, b.tokenizer, b.task, max_length=b.max_length, precision=b.precision, long=b.long)


def merge_bundle(path: str, out: str, *, encoder: str | None = None, overwrite: bool = False) -> str:
    """Make a plain transformers folder of a delta and its encoder, and return the folder.

    Args:
        path: the delta.
        out: folder to write; it appears complete or not at all.
        encoder: where the delta's encoder is now; by default where the delta says.
        overwrite: replace what is at ``out``.

    Raises:
        BundleError: where there is no delta, or something is in the way.
        ModelError: for a delta of adapters, which cannot be merged, and as :func:`load_bundle`.
    """
    target = Path(out)
    if not is_delta(path):
        raise BundleError(f"{path} holds no delta; only what attar finetune left as a delta can be merged")
    require_free(target, overwrite=overwrite)
    if target.resolve() in {Path(path).resolve(), Path(encoder or read_header(path).encoder).resolve()}:
        raise BundleError(f"{out} is what would be merged; choose another --out")
    b = load_bundle(path, encoder=encoder)
    model = merge_insertion(b.model, read_header(path))
    with whole_folder(target) as folder:
        save_bundle(folder, model, b.tokenizer, b.task, max_length=b.max_length, precision=b.precision, long=b.long)
    return out


def require_free(target: Path, *, overwrite: bool) -> None:
    """Refuse a folder to write where something is in the way.

    Raises:
        BundleError: for a file, and without ``overwrite`` for a folder.
    """
    if target.is_file():
        raise BundleError(f"--out expects the name of a folder to make; found the file {target}")
    if target.exists() and not overwrite:
        raise BundleError(f"{target} exists already; choose another --out, or --overwrite to replace it")


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give a folder to write into that takes the place of ``target`` at the end; after an error it is gone."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if target.exists():
            shutil.rmtree(target)
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def manifest_of(task: Task, max_length: int, precision: str, long: str) -> dict[str, Any]:
    """Return what prediction needs to know of a model beside its weights, as ``attar.json`` keeps it."""
    found = {"format": 1, "task": task.to_dict(), "max_length": max_length, "precision": precision}
    return found if long == "truncate" else {**found, "long": long}


def _task_of_delta(path: str) -> Task:
    """Read the task off a delta that lacks a manifest, such as a checkpoint of peft's."""
    header = read_header(path)
    text = "tokens" if header.kind == "token" else "text"
    return Task(kind=header.kind, text=text, label=("label",), labels=header.labels)


def _guess_task(config: PreTrainedConfig) -> Task:
    """Read the task off a model that attar did not make."""
    labels = tuple(output_labels(config))
    kinds: dict[str, TaskKind] = {"multi_label_classification": "multi-label", "regression": "regression"}
    kind: TaskKind = kinds.get(config.problem_type or "", "single-label")
    if any("ForTokenClassification" in a for a in config.architectures or []):
        kind = "token"
    elif len(labels) == 1:
        kind = "regression"
    return Task(kind=kind, text="tokens" if kind == "token" else "text", label=("label",), labels=labels)

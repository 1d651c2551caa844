"""Exported models on disk: what :mod:`attar.exporting` writes and :func:`attar.load` reads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from attar.data.task import Task
from attar.engines.contract import Engine
from attar.engines.onnx_engine import OnnxEngine
from attar.engines.openvino_engine import OpenvinoEngine
from attar.errors import BundleError
from attar.nets.loading import load_tokenizer
from attar.records import read_manifest


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An exported model without its weights, which its engine holds: all of a bundle that prediction needs."""

    path: str
    tokenizer: PreTrainedTokenizerBase
    task: Task
    max_length: int
    precision: str
    long: str
    """How texts beyond the limit are read, see :mod:`attar.data.long_texts`."""
    export: dict[str, Any]
    """How it was exported: format, engine, file, opset, inputs, outputs, setting, what the gate found, and ``source``,
    the fingerprint of the model that it was made of."""


def load_exported(folder: str) -> tuple[Exported, Engine]:
    """Load an exported model and start its engine.

    Raises:
        BundleError: where the folder is incomplete.
        MissingExtra: where the engine is not installed.
    """
    manifest = read_manifest(folder)
    export = manifest["export"]
    file = Path(folder) / export["file"]
    if not file.exists():
        raise BundleError(f"{folder} lacks {export['file']}, the model that its attar.json names; export it again")
    precision = manifest["precision"]
    engine: Engine
    if export["engine"] == "onnx":
        engine = OnnxEngine(file, by_batch=export.get("recurrent", False))
    else:
        engine = OpenvinoEngine(file, precision)
    exported = Exported(
        path=folder,
        tokenizer=load_tokenizer(folder),
        task=Task.from_dict(manifest["task"]),
        max_length=manifest["max_length"],
        precision=precision,
        long=manifest.get("long", "truncate"),
        export=export,
    )
    return exported, engine

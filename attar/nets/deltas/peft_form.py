"""The form in which the peft library keeps what it inserted: its files, its names of tensors, its configuration."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from attar.config import TaskKind
from attar.errors import BundleError

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"

#: What stands before every name in a checkpoint: peft's wrapper around the task model.
_PREFIX = "base_model.model."
#: Where the task models keep the layer that makes the logits.
_OUTPUT_LAYERS = ("classifier.weight", "classifier.out_proj.weight", "score.weight")


def is_checkpoint(name: str | Path) -> bool:
    """Return whether a folder holds a checkpoint of peft's and no whole model."""
    return (Path(name) / CONFIG_FILE).is_file() and not (Path(name) / "config.json").is_file()


def configuration(insertion: Mapping[str, Any], encoder: str, kind: TaskKind) -> dict[str, Any]:
    """Return what ``adapter_config.json`` says of an insertion, so that peft makes the same modules again."""
    settings = {key: value for key, value in insertion.items() if key != "kind"}
    task_type = "TOKEN_CLS" if kind == "token" else "SEQ_CLS"
    return {**settings, "base_model_name_or_path": encoder, "task_type": task_type, "inference_mode": True}


def to_peft_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a delta's tensors to the names of a checkpoint."""
    return {_PREFIX + name: tensor for name, tensor in tensors.items()}


def to_model_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo :func:`to_peft_names`.

    With ``bias="all"`` peft also writes what lies inside its wrapper around the head: the head's bias as trained, which
    is the one outside, and as it was before, which is of no use.
    """
    inner = (".modules_to_save.", ".original_module.")
    return {n.removeprefix(_PREFIX): tensor for n, tensor in tensors.items() if not any(part in n for part in inner)}


def read_insertion(folder: str | Path) -> dict[str, Any]:
    """Return the insertion of a checkpoint.

    Raises:
        BundleError: for a configuration that cannot be read.
    """
    file = Path(folder) / CONFIG_FILE
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{file} cannot be read ({error}); copy the delta again, or train again") from error
    if not isinstance(table, dict) or "peft_type" not in table:
        raise BundleError(f"{file} is no configuration of peft's: it lacks 'peft_type'")
    return {"kind": "peft", **table}


def read_header(folder: str | Path) -> dict[str, Any]:
    """Read the header of a checkpoint that the peft library wrote, which says nothing of labels.

    Raises:
        BundleError: for a folder without one, without a head, or for a task that is no classification.
    """
    if not (Path(folder) / CONFIG_FILE).is_file():
        raise BundleError(f"{folder} holds no delta: expected delta.json, or {CONFIG_FILE} of the peft library")
    insertion = read_insertion(folder)
    encoder = insertion.get("base_model_name_or_path")
    if not encoder:
        raise BundleError(
            f"the checkpoint {folder} does not name its encoder; put its folder or hub name "
            f"under {place_of_encoder(folder)}"
        )
    words = _is_token_task(insertion, folder)
    n = _n_outputs(folder)
    kind: TaskKind = "token" if words else "regression" if n == 1 else "single-label"
    return {
        "method": insertion["peft_type"].lower(),
        "settings": {},
        "encoder": encoder,
        "insertion": insertion,
        "kind": kind,
        "labels": tuple(f"LABEL_{i}" for i in range(n)),
        "fingerprint": None,
    }


def place_of_encoder(folder: str | Path) -> str:
    """Return where a checkpoint says which encoder it belongs to, for errors."""
    return f'"base_model_name_or_path" in {Path(folder) / CONFIG_FILE}'


def _is_token_task(insertion: Mapping[str, Any], folder: str | Path) -> bool:
    trained = (insertion.get("auto_mapping") or {}).get("base_model_class", "")
    task = insertion.get("task_type")
    if task == "SEQ_CLS" or "ForSequenceClassification" in trained:
        return False
    if task == "TOKEN_CLS" or "ForTokenClassification" in trained:
        return True
    raise BundleError(
        f"{Path(folder) / CONFIG_FILE}: expected task_type SEQ_CLS or TOKEN_CLS, found {task}; "
        "attar loads checkpoints of classifiers"
    )


def _n_outputs(folder: str | Path) -> int:
    """Return the number of outputs of a checkpoint's head."""
    file = Path(folder) / WEIGHTS_FILE
    try:
        with safe_open(file, "pt") as tensors:
            names = set(tensors.keys())
            head = next((_PREFIX + name for name in _OUTPUT_LAYERS if _PREFIX + name in names), None)
            if head is not None:
                return int(tensors.get_slice(head).get_shape()[0])
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{file} cannot be read ({error}); copy the checkpoint again") from error
    raise BundleError(
        f"{file} holds no head (looked for {', '.join(_OUTPUT_LAYERS)}); save the checkpoint with the head among "
        "modules_to_save, or with task_type SEQ_CLS or TOKEN_CLS"
    )

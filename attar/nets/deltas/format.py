"""What one task adds to or changes in an encoder, and how that lies on disk.

A delta is a folder with ``delta.json`` (what it belongs to and how it is put in) and one safetensors file of tensors. A
delta that the peft library inserted is kept in that library's own form (:mod:`attar.nets.deltas.peft_form`), so that
peft reads the folder as it lies.
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from attar.config import TaskKind
from attar.errors import BundleError
from attar.nets.deltas import peft_form
from attar.nets.saving import give_usual_mode
from attar.records import DELTA_FILE, write_json

#: Version of ``delta.json``.
_FORMAT = 1
_WEIGHTS_FILE = "delta.safetensors"


@dataclass(frozen=True, kw_only=True)
class DeltaSource:
    """What a room says of a stage whose result is a delta: how it came about and what must be put in to load it."""

    method: str
    """The method's name in the registry."""
    settings: dict[str, Any] = field(default_factory=dict)
    """The method's settings as a table, for people; nothing is computed from them."""
    encoder: str
    """The frozen encoder: folder or hub name, as given."""
    insertion: dict[str, Any] | None = None
    """Modules to insert before the tensors fit: None, ``{"kind": "adapters", ...}`` with the keyword arguments of
    :func:`attar.nets.deltas.adapters.insert_adapters`, or ``{"kind": "peft", ...}``, a configuration of peft's."""


@dataclass(frozen=True, kw_only=True)
class DeltaHeader(DeltaSource):
    """A delta without its tensors: what ``delta.json`` says."""

    kind: TaskKind
    labels: tuple[str, ...]
    """Names of the outputs, in order."""
    fingerprint: str | None
    """The encoder's, by :func:`attar.nets.loading.fingerprint`; None in peft's own checkpoints, which do not say."""


@dataclass(frozen=True, kw_only=True)
class Delta(DeltaHeader):
    """Everything that turns an encoder into the model of a task."""

    tensors: dict[str, Tensor]
    """By their names in the task model, modules inserted; those of modules that peft inserted by peft's names, which
    lack the name of the adapter."""


def is_delta(name: str | Path) -> bool:
    """Return whether a folder holds a delta: attar's, or a checkpoint of the peft library."""
    return (Path(name) / DELTA_FILE).is_file() or peft_form.is_checkpoint(name)


def write_delta(delta: Delta, folder: Path) -> None:
    """Write a delta into a folder, ``delta.json`` last: without it the folder holds none."""
    folder.mkdir(parents=True, exist_ok=True)
    table = {f.name: getattr(delta, f.name) for f in dataclasses.fields(DeltaHeader)}
    tensors: Mapping[str, Tensor] = delta.tensors
    weights = _WEIGHTS_FILE
    if (delta.insertion or {}).get("kind") == "peft":
        assert delta.insertion is not None
        tensors, weights = peft_form.to_peft_names(tensors), peft_form.WEIGHTS_FILE
        write_json(peft_form.configuration(delta.insertion, delta.encoder, delta.kind), folder / peft_form.CONFIG_FILE)
        table["insertion"] = {"kind": "peft"}  # the rest is in adapter_config.json, once
    temporary = folder / f".{weights}.{os.getpid()}.tmp"
    save_file(dict(tensors), temporary, metadata={"format": "pt"})
    give_usual_mode(temporary)
    temporary.replace(folder / weights)
    write_json({"format": _FORMAT, **table, "weights": weights}, folder / DELTA_FILE)


def read_header(folder: str | Path) -> DeltaHeader:
    """Read a delta without its tensors.

    Raises:
        BundleError: for a folder without a delta, and for one that is torn, incomplete or of a newer format.
    """
    file = Path(folder) / DELTA_FILE
    if not file.is_file():
        return DeltaHeader(**peft_form.read_header(folder))
    table = _read_table(file)
    del table["weights"]
    if (table["insertion"] or {}).get("kind") == "peft":
        table["insertion"] = peft_form.read_insertion(folder)
    return DeltaHeader(**{**table, "labels": tuple(table["labels"])})


def read_delta(folder: str | Path) -> Delta:
    """Read a delta.

    Raises:
        BundleError: as :func:`read_header`, and where the tensors cannot be read.
    """
    header = read_header(folder)
    file = weights_file(folder)
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise BundleError(
            f"{file} cannot be read ({error}); the delta is torn: copy it again, or train again"
        ) from error
    if (header.insertion or {}).get("kind") == "peft":
        tensors = peft_form.to_model_names(tensors)
    return Delta(**{f.name: getattr(header, f.name) for f in dataclasses.fields(header)}, tensors=tensors)


def weights_file(folder: str | Path) -> Path:
    """Return the file of a delta's tensors."""
    file = Path(folder) / DELTA_FILE
    name = _read_table(file)["weights"] if file.is_file() else peft_form.WEIGHTS_FILE
    return Path(folder) / Path(name).name


def place_of_encoder(folder: str | Path) -> str:
    """Return where a delta says which encoder it belongs to, for errors."""
    file = Path(folder) / DELTA_FILE
    return f'"encoder" in {file}' if file.is_file() else peft_form.place_of_encoder(folder)


def copy_delta(folder: str | Path, target: Path) -> None:
    """Copy a delta's files, and nothing else of its folder, into another."""
    target.mkdir(parents=True)
    for file in (Path(folder) / peft_form.CONFIG_FILE, weights_file(folder), Path(folder) / DELTA_FILE):
        if file.exists():
            shutil.copy2(file, target)


def _read_table(file: Path) -> dict[str, Any]:
    wanted = {"weights", *(f.name for f in dataclasses.fields(DeltaHeader))}
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{file} is not valid JSON ({error}); copy the delta again, or train again") from error
    if not isinstance(table, dict) or table.get("format") != _FORMAT:
        found = table.get("format") if isinstance(table, dict) else type(table).__name__
        raise BundleError(f"{file} has format {found}; this version of attar reads format {_FORMAT}")
    if lacking := sorted(wanted - table.keys()):
        raise BundleError(f"{file} lacks {', '.join(lacking)}; copy the delta again, or train again")
    return {name: table[name] for name in wanted}

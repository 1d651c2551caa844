"""What one task adds to or changes in an encoder, and how that lies on disk.

A delta is a folder with ``delta.json`` (what it belongs to and how it is put in) and one safetensors file of the
tensors, by their names in the task model. A delta that the peft library inserted is kept in that library's own form,
``adapter_config.json`` and ``adapter_model.safetensors``, so that peft reads the folder as it lies.
"""

from dataclasses import dataclass, field
from typing import Any


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
    """Modules to insert before the tensors fit: None, or ``{"kind": "adapters" | "peft", ...}`` with the keyword
    arguments of :func:`attar.nets.deltas.adapters.insert_adapters`, or of
    :func:`attar.nets.deltas.lora.insert_peft`. Both take (model, **arguments) and change the task model in place."""

"""What the peft library's layers compute, read off a layer once."""

from typing import Any

import torch
from torch import Tensor, nn


def read_peft(layer: Any) -> dict[str, Any] | None:
    """Return a layer of peft's around a linear map as entries of :class:`attar.nets.mixed.changes.LinearChange`.

    LoRA (Hu et al. 2022): W x + b + s B A x. DoRA (Liu et al. 2024): m / |W + s B A| (W x + s B A x) + b, the norm by
    rows of the matrix. IA3 (Liu et al. 2022) rescales the output, or the input of the second feed-forward map.

    Returns:
        None for any other layer; it has to be run as it is.
    """
    if type(layer).__name__ != "Linear" or len(layer.active_adapters) != 1 or layer.merged:
        return None
    readers = {"peft.tuners.lora.layer": _read_lora, "peft.tuners.ia3.layer": _read_ia3}
    reader = readers.get(type(layer).__module__)
    return None if reader is None else reader(layer, layer.active_adapters[0], layer.get_base_layer())


@torch.no_grad()
def _read_lora(layer: Any, name: str, base: nn.Linear) -> dict[str, Any] | None:
    down, up, scaling = layer.lora_A[name].weight, layer.lora_B[name], layer.scaling[name]
    variant = type(layer.lora_variant[name]).__name__ if name in layer.lora_variant else None
    found: dict[str, Any] = {"down": down, "up": up.weight, "scaling": scaling}
    if variant is None:
        return found if up.bias is None else {**found, "bias": _plus(base.bias, scaling * up.bias)}
    if variant != "DoraLinearVariant" or up.bias is not None:
        return None
    norm = torch.linalg.norm(base.weight + scaling * (up.weight @ down), dim=1)
    return {**found, "output_scale": layer.lora_magnitude_vector[name].weight / norm}


@torch.no_grad()
def _read_ia3(layer: Any, name: str, base: nn.Linear) -> dict[str, Any]:
    scale = layer.ia3_l[name].flatten()
    if layer.is_feedforward:
        return {"input_scale": scale}
    return {"output_scale": scale} if base.bias is None else {"output_scale": scale, "bias": base.bias * scale}


def _plus(bias: Tensor | None, more: Tensor) -> Tensor:
    return more if bias is None else bias + more

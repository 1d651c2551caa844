"""The frozen bottom of an encoder: how deep it reaches, and how to run it, the rest, or some layers alone."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attar.errors import ModelError
from attar.nets.anatomy import Anatomy, anatomy


def frozen_depth(model: nn.Module) -> int:
    """Return how many of an encoder's first layers compute the same all through a training run.

    These are the layers below the lowest one with a parameter that requires gradients. The number is 0 where anything
    moves that feeds all layers (embeddings, tables of relative positions), and for networks that the anatomy does
    not know.
    """
    if not isinstance(model, PreTrainedModel):
        return 0
    try:
        parts = anatomy(model)
    except ModelError:
        return 0
    above = {id(p) for module in (parts.layers, *parts.top) for p in module.parameters()}
    if any(p.requires_grad for p in parts.base.parameters() if id(p) not in above):
        return 0
    moving = [any(p.requires_grad for p in layer.parameters()) for layer in parts.layers]
    return moving.index(True) if True in moving else len(moving)


@contextmanager
def prefix_in_eval(model: PreTrainedModel, depth: int) -> Iterator[None]:
    """Keep embeddings and the first ``depth`` layers in eval mode, whatever mode the rest of the model is put into."""
    parts = anatomy(model)
    prefix = [*parts.bottom.values(), *list(parts.layers)[:depth]]

    def settle(*_: Any) -> None:
        for module in prefix:
            if module.training:
                module.eval()

    handle = parts.base.register_forward_pre_hook(settle)
    try:
        yield
    finally:
        handle.remove()
        for module in prefix:
            module.train(parts.base.training)


@contextmanager
def only_prefix(model: PreTrainedModel, depth: int) -> Iterator[nn.Module]:
    """Give the base model without what follows layer ``depth``: its last hidden states are that layer's output."""
    parts = anatomy(model)
    with _replaced(parts.base, [(parts.layers_path, parts.layers[:depth]), *_no_top(parts)]):
        yield parts.base


@contextmanager
def without_prefix(model: PreTrainedModel, depth: int) -> Iterator[None]:
    """Have the model start after its first ``depth`` layers: it reads their output, (B, T, W), as ``inputs_embeds``.

    The other layers keep their numbers in the state dict, so that weights saved meanwhile fit the whole model too.
    """
    parts = anatomy(model)
    with _replaced(parts.base, [*_no_bottom(parts), (parts.layers_path, _layers(parts, depth, len(parts.layers)))]):
        yield


def cut(parts: Anatomy, start: int, stop: int, *, top: bool = False) -> nn.Module:
    """Return another base model of the layers ``start`` to ``stop`` of an encoder, whose modules the two share.

    Args:
        parts: of the encoder, which stays as it is.
        start: where above 0 it reads the output of the layers below, (B, T, W), as ``inputs_embeds``.
        stop: its last hidden states are the output of the layers below this one.
        top: keep what follows the last layer.
    """
    base = shallow(parts.base)
    holder, _, _ = parts.layers_path.rpartition(".")
    if holder:
        setattr(base, holder, shallow(base.get_submodule(holder)))
    changes = [*(_no_bottom(parts) if start else []), *([] if top else _no_top(parts))]
    for path, module in [*changes, (parts.layers_path, _layers(parts, start, stop))]:
        parent, _, name = path.rpartition(".")
        setattr(base.get_submodule(parent), name, module)
    return base


def shallow(module: nn.Module) -> nn.Module:
    """Return another module with the same parameters and the same modules below it, which can be replaced in one."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin


def _no_top(parts: Anatomy) -> list[tuple[str, nn.Module | None]]:
    return [(name, nn.Identity()) for name, module in parts.base.named_children() if module in parts.top]


def _no_bottom(parts: Anatomy) -> list[tuple[str, nn.Module | None]]:
    given = _Given(next(parts.embeddings.parameters()).dtype)
    stand_ins = {"embeddings": given, "embeddings_project": nn.Identity(), "encoder.conv": None}
    return [(path, stand_ins[path]) for path in parts.bottom]


def _layers(parts: Anatomy, start: int, stop: int) -> nn.ModuleList:
    upper = nn.ModuleList()
    for i, layer in enumerate(parts.layers):
        if start <= i < stop:
            upper.add_module(str(i), layer)
    if not len(upper) and parts.style == "deberta":
        upper.append(_Through())  # its encoder returns what its last layer made, and has to have one
    return upper


class _Given(nn.Module):
    """In place of embeddings: the states that the caller gives, in the model's own precision."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, input_ids: None = None, inputs_embeds: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        assert inputs_embeds is not None, "a model without its prefix reads inputs_embeds"
        return inputs_embeds.to(self.dtype)


class _Through(nn.Module):
    """In place of a DeBERTa layer: states as they are, and no attention scores."""

    def forward(self, states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
        return states, None


@contextmanager
def _replaced(base: nn.Module, changes: list[tuple[str, nn.Module | None]]) -> Iterator[None]:
    """Put other modules at dotted paths below ``base``, and the old ones back at the end, also after an error."""
    places = [(base.get_submodule(path.rpartition(".")[0]), path.rpartition(".")[2]) for path, _ in changes]
    old = [getattr(parent, name) for parent, name in places]
    try:
        for (parent, name), (_, new) in zip(places, changes, strict=True):
            setattr(parent, name, new)
        yield
    finally:
        for (parent, name), module in zip(places, old, strict=True):
            setattr(parent, name, module)

"""Where the model of a task computes otherwise than its encoder, place by place.

A task's model holds the encoder's own parameters wherever its delta leaves them as they are
(:mod:`attar.nets.deltas.sharing`), so the two trees are compared by the identity of their parameters. A place is the
dotted path of a module below the encoder, or below the task model for the head.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from attar.nets.anatomy import Anatomy, anatomy
from attar.nets.deltas.adapters import Adapter
from attar.nets.mixed.low_rank import read_peft

#: The place of an adapter is that of the module it hangs on, and this.
ADAPTER = ".adapter"
#: What precedes places of the head.
HEAD = "head:"
#: DeBERTa: the LayerNorm of its table of relative positions, which every attention reads.
_TABLE_NORM = "encoder.LayerNorm"


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearChange:
    """A linear map whose matrix W is the encoder's.

    y = (W (x * input_scale) + scaling * up down x) * output_scale + bias
    """

    bias: Tensor | None
    """(out,), the task's own or the encoder's."""
    down: Tensor | None = None
    """(rank, in)."""
    up: Tensor | None = None
    """(out, rank)."""
    scaling: float = 1.0
    input_scale: Tensor | None = None
    """(in,)."""
    output_scale: Tensor | None = None
    """(out,)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NormChange:
    """A LayerNorm with a scale and a bias of the task's."""

    norm: nn.LayerNorm


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnModule:
    """A module of the task's own, run on the task's rows alone."""

    module: nn.Module
    relative: nn.Module | None = None
    """DeBERTa: the task's module that makes the table of relative positions, where it is not the encoder's."""


Change = LinearChange | NormChange | OwnModule


@dataclass(frozen=True, kw_only=True, eq=False)
class Changes:
    """All that one task changes."""

    at: dict[str, Change]
    """By place."""
    first: int
    """The first layer whose output differs from the encoder's; the number of layers where only later parts differ."""
    own_from: int
    """The first layer with modules of the task's own; the number of layers where there is none."""
    outputs: int
    """Width of the logits."""
    head: type[PreTrainedModel]
    """The class of the task model, which says how its head is computed."""


def find_changes(model: PreTrainedModel, encoder: PreTrainedModel) -> Changes | None:
    """Compare a task model with the encoder whose parameters it shares.

    Returns:
        None where the task changes something that rows of a batch cannot differ in, such as tables of embeddings: its
        rows need its whole model.
    """
    parts = anatomy(encoder)
    at: dict[str, Change] = {}
    known = {id(p) for p in encoder.parameters()}
    whole = attention_paths(parts)
    apart = (*(f"{path}." for path in whole), *([_TABLE_NORM] if whole else []))
    for path, module in encoder.named_modules():
        theirs = _find(model.base_model, path)
        if theirs is None or path.startswith(apart):
            continue
        if path in whole:
            change: Change | None = _attention(module, theirs, parts.base, model.base_model)
        else:
            change = _change(module, theirs)
            if isinstance(adapter := theirs._modules.get("adapter"), Adapter):
                at[path + ADAPTER] = OwnModule(module=adapter)
                known |= {id(p) for p in adapter.parameters()}
        if change is not None:
            at[path] = change
            known |= {id(p) for p in theirs.parameters()}
    for path, module in _head(model):
        at[HEAD + path] = NormChange(norm=module) if isinstance(module, nn.LayerNorm) else OwnModule(module=module)
        known |= {id(p) for p in module.parameters()}
    if whole and (table := _find(model.base_model, _TABLE_NORM)) is not None:
        known |= {id(p) for p in table.parameters()}  # a change of it is one of every attention
    if any(id(p) not in known for p in model.parameters()):
        return None
    first, own_from = _depths(at, parts)
    return Changes(at=at, first=first, own_from=own_from, outputs=len(model.config.id2label or {}), head=type(model))


def _change(module: nn.Module, theirs: nn.Module) -> Change | None:
    """Compare two modules' direct parameters; the second may be wrapped by peft."""
    inner: nn.Module = theirs.get_base_layer() if hasattr(theirs, "get_base_layer") else theirs  # type: ignore[operator]
    other = {name for name, p in module._parameters.items() if inner._parameters.get(name) is not p}
    if theirs is inner and not other:
        return None
    if isinstance(inner, nn.Linear) and "weight" not in other:
        update = {} if theirs is inner else read_peft(theirs)
        return OwnModule(module=theirs) if update is None else LinearChange(**{"bias": inner.bias, **update})
    if isinstance(inner, nn.LayerNorm):
        return NormChange(norm=inner)
    return OwnModule(module=theirs) if isinstance(inner, nn.Linear | nn.Conv1d) else None


def attention_paths(parts: Anatomy) -> set[str]:
    """DeBERTa's queries and keys also read a table that has no rows, so its attention is one place."""
    if parts.style != "deberta":
        return set()
    return {f"{parts.layers_path}.{i}.{parts.paths.attention}" for i in range(len(parts.layers))}


def _attention(module: nn.Module, theirs: nn.Module, base: nn.Module, other: Any) -> Change | None:
    ours = {id(p) for p in module.parameters()}
    norm, own = _find(base, _TABLE_NORM), _find(other, _TABLE_NORM)
    table = norm is not None and own is not None and _change(norm, own) is not None
    if table or any(id(p) not in ours for p in theirs.parameters()):
        return OwnModule(module=theirs, relative=other.encoder if table else None)
    return None


def _head(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    base = model.base_model_prefix
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.LayerNorm) and not path.startswith(f"{base}."):
            yield path, module


def _depths(at: dict[str, Change], parts: Anatomy) -> tuple[int, int]:
    depth = len(parts.layers)
    top = tuple(name for name, module in parts.base.named_children() if module in parts.top)
    layers = {path: _layer(path, parts.layers_path, depth, top) for path in at}
    own = [layers[path] for path, c in at.items() if isinstance(c, OwnModule) and not path.endswith(ADAPTER)]
    return min(layers.values(), default=depth), min(own, default=depth)


def _layer(path: str, layers_path: str, depth: int, top: tuple[str, ...]) -> int:
    if path.startswith(f"{layers_path}."):
        return int(path.removeprefix(f"{layers_path}.").partition(".")[0])
    return depth if path.startswith((HEAD, *top)) else 0


def _find(module: nn.Module, path: str) -> nn.Module | None:
    for name in path.split(".") if path else ():
        if (found := module._modules.get(name)) is None:
            return None
        module = found
    return module

"""Taps: what happens inside an encoder during a forward, by hooks. The model's own attention kernel stays as it is."""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attar.errors import ModelError
from attar.nets.anatomy import Anatomy, anatomy
from attar.nets.band import BandBias

#: What a family's attention module is given about positions: the names of its arguments.
_POSITIONS = ("position_bias", "relative_pos", "position_embeddings")


@dataclass(frozen=True, kw_only=True)
class Tapped:
    """What was seen during one forward; the mappings go by layer, 0-based."""

    embeddings: Tensor
    """What enters the first layer, (B, T, W)."""
    hidden: Mapping[int, Tensor]
    """What a layer hands on, (B, T, W); ModernBERT's last is before the final norm."""
    scores: Mapping[int, Tensor]
    """Attention scores before the softmax, (B, H, T, T): scaled, relative positions included, before any mask (of
    padding, or of ModernBERT's local windows). A layer's are made when they are looked up, and not kept: they are the
    largest of all, and losses need one layer at a time."""
    query: Mapping[int, Tensor]
    """(B, H, T, D). For ModernBERT queries and keys are those after the rotary embedding."""
    key: Mapping[int, Tensor]
    value: Mapping[int, Tensor]


class LazyLayers(Mapping[int, Tensor]):
    """Tensors by layer that are made when they are looked up."""

    def __init__(self, layers: Sequence[int], make: Callable[[int], Tensor]) -> None:
        self._layers, self._make = layers, make

    def __getitem__(self, layer: int) -> Tensor:
        if layer not in self._layers:
            raise KeyError(layer)
        return self._make(layer)

    def __iter__(self) -> Iterator[int]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)


@dataclass
class Taps:
    """The hooks' catch. :meth:`read` makes of it what the last forward showed."""

    parts: Anatomy
    hidden: Sequence[int]
    scores: Sequence[int]
    relations: Sequence[int]
    caught: dict[Any, Any] = field(default_factory=dict)

    def read(self) -> Tapped:
        """Return what the last forward showed, as part of its graph where it has one.

        Raises:
            ModelError: where there was no forward since the taps were opened.
        """
        if "embeddings" not in self.caught:
            raise ModelError("nothing has run through the taps: call the model inside the context, then read")
        caught = dict(self.caught)
        layers = sorted({*self.scores, *self.relations})
        states = {i: _heads(self.parts, i, caught) for i in layers}
        return Tapped(
            embeddings=caught["embeddings"],
            hidden={i: caught["hidden", i] for i in self.hidden},
            scores=LazyLayers(self.scores, lambda i: _scores(self.parts, i, states[i], caught)),
            query={i: states[i][0] for i in self.relations},
            key={i: states[i][1] for i in self.relations},
            value={i: states[i][2] for i in self.relations},
        )


@contextmanager
def taps(
    model: PreTrainedModel, *, hidden: Sequence[int] = (), scores: Sequence[int] = (), relations: Sequence[int] = ()
) -> Iterator[Taps]:
    """Watch an encoder; read what was seen inside the context, after a forward.

    >>> with taps(model, hidden=[3], scores=[3]) as seen:      # doctest: +SKIP
    ...     model(**inputs)
    ...     scores = seen.read().scores[3]

    Scores are made from the queries and keys that the model itself computed, so attention kernels that never hold
    them (SDPA) stay in use. Gradients flow as through the model. Where the model runs inside a wrapper, tap the model.

    Args:
        model: a transformers encoder, with or without a head.
        hidden: layers (0-based) to see the output of.
        scores: layers to see the attention scores of.
        relations: layers to see queries, keys and values of.

    Raises:
        ModelError: for an unknown architecture, or layers that it does not have.
    """
    parts = anatomy(model)
    wrong = [i for i in (*hidden, *scores, *relations) if not 0 <= i < len(parts.layers)]
    if wrong:
        raise ModelError(f"{type(model).__name__} has layers 0 to {len(parts.layers) - 1}, asked for layer {wrong[0]}")
    seen = Taps(parts, tuple(hidden), tuple(scores), tuple(relations))
    handles = _watch(seen)
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
        seen.caught.clear()


def _watch(seen: Taps) -> list[Any]:
    """Set the hooks of what is asked for."""
    parts, caught = seen.parts, seen.caught
    first = parts.layers[0]

    def begin(_: nn.Module, args: tuple, kwargs: dict) -> None:
        caught.clear()
        caught["embeddings"] = _argument(first, "hidden_states", args, kwargs)

    handles = [first.register_forward_pre_hook(begin, with_kwargs=True)]
    for i in seen.hidden:
        for module in _ends(parts, i):  # the last that runs has the last word
            handles.append(module.register_forward_hook(_keep(caught, ("hidden", i))))
    for i in {*seen.scores, *seen.relations}:
        attention = parts.part(i, "attention")
        handles.append(attention.register_forward_pre_hook(_keep_positions(caught, i), with_kwargs=True))
        maps = {name: parts.part(i, name) for name in ("query", "key", "value")}
        # DeBERTa maps relative positions too: with maps of their own, or with those of queries and keys.
        maps |= {n: m for n in ("pos_query_proj", "pos_key_proj") if (m := getattr(attention, n, None)) is not None}
        for name, module in maps.items():
            handles.append(module.register_forward_hook(_append(caught, (name, i))))
    return handles


def _ends(parts: Anatomy, layer: int) -> list[nn.Module]:
    """Return the modules whose output a layer hands on: itself, and DeBERTa's convolution beside its first layer."""
    convolution = getattr(parts.base.get_submodule(parts.layers_path.rpartition(".")[0]), "conv", None)
    return [parts.layers[layer], *([convolution] if layer == 0 and convolution is not None else [])]


def _keep(caught: dict, key: Any) -> Callable[..., None]:
    def hook(_: nn.Module, __: Any, output: Any) -> None:
        caught[key] = output[0] if isinstance(output, tuple) else output

    return hook


def _append(caught: dict, key: Any) -> Callable[..., None]:
    def hook(_: nn.Module, __: Any, output: Tensor) -> None:
        caught.setdefault(key, []).append(output)

    return hook


def _keep_positions(caught: dict, layer: int) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
        given = (_argument(module, name, args, kwargs) for name in _POSITIONS)
        caught["positions", layer] = next((value for value in given if value is not None), None)

    return hook


def _argument(module: nn.Module, name: str, args: tuple, kwargs: dict) -> Any:
    """Return an argument of a module's forward by its name, however it was passed; None where it was not."""
    if name in kwargs:
        return kwargs[name]
    names = list(inspect.signature(type(module).forward).parameters)[1:]
    place = names.index(name) if name in names else len(args)
    return args[place] if place < len(args) else None


def _heads(parts: Anatomy, layer: int, caught: Mapping[Any, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values of a layer, (B, H, T, D)."""
    if not parts.paths.fused:
        query, key, value = (_split(caught[name, layer][0], parts.heads) for name in ("query", "key", "value"))
        return query, key, value
    # (B, T, 3·H·D) -> three of (B, H, T, D)
    query, key, value = (_split(x, parts.heads) for x in caught["query", layer][0].chunk(3, -1))
    cosine, sine = caught["positions", layer]
    return _rotate(query, cosine, sine), _rotate(key, cosine, sine), value


def _split(states: Tensor, heads: int) -> Tensor:
    """(B, T, H·D) -> (B, H, T, D)."""
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)


def _rotate(states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Apply the rotary embedding (Su et al. 2021) to (B, H, T, D); cosine and sine are (B or 1, T, D)."""
    first, second = states.float().chunk(2, -1)
    turned = torch.cat([-second, first], -1)
    return (states.float() * cosine[:, None] + turned * sine[:, None]).to(states.dtype)


def _scores(parts: Anatomy, layer: int, states: Sequence[Tensor], caught: Mapping[Any, Any]) -> Tensor:
    """Return a layer's attention scores, (B, H, T, T)."""
    query, key, _ = states
    positions = caught["positions", layer]
    if parts.style == "deberta":
        return _disentangled(parts.part(layer, "attention"), layer, query, key, positions, caught)
    if isinstance(positions, BandBias):
        raise ModelError(
            f"attention scores of a windowed MPNet cannot be compared over {query.shape[2]} tokens: compare relations, "
            "or give a smaller --max-length"
        )
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return scores + positions if parts.style == "mpnet" and positions is not None else scores


def _disentangled(
    attention: Any, layer: int, query: Tensor, key: Tensor, distance: Tensor | None, caught: Mapping[Any, Any]
) -> Tensor:
    """Return DeBERTa's scores: content to content, content to position and position to content (He et al. 2021, eq. 4).

    Args:
        attention: the attention module.
        layer: its number.
        query: (B, H, T, D).
        key: (B, H, T, D).
        distance: bucketed distances of query and key, (1, T, T) or (1, 1, T, T); None without relative positions.
        caught: what the hooks saw.
    """
    kinds = attention.pos_att_type
    scale = 1 / math.sqrt(query.shape[-1] * (1 + ("c2p" in kinds) + ("p2c" in kinds)))
    scores = query @ (key.transpose(-1, -2) * scale)
    if not attention.relative_attention or distance is None:
        return scores
    span, heads = attention.pos_ebd_size, query.shape[1]
    distance = distance.long().reshape(1, 1, *distance.shape[-2:])

    def mapped(shared: str, own: str) -> Tensor:  # (1, H, 2·span, D)
        return _split(caught[shared, layer][1] if attention.share_att_key else caught[own, layer][0], heads)

    def looked_up(states: Tensor, table: Tensor, places: Tensor) -> Tensor:
        return (states @ table.transpose(-1, -2)).gather(-1, places.clamp(0, 2 * span - 1).expand_as(scores)) * scale

    if "c2p" in kinds:
        scores = scores + looked_up(query, mapped("key", "pos_key_proj"), distance + span)
    if "p2c" in kinds:
        turned = looked_up(key, mapped("query", "pos_query_proj"), span - distance)
        scores = scores + turned.transpose(-1, -2)
    return scores

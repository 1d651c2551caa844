"""Choose what moves when an encoder is tuned. Names are those of ``model.named_parameters()``."""

from collections.abc import Collection, Iterable, Iterator

from torch import nn
from transformers import PreTrainedModel

from attar.errors import ConfigError, ModelError, nearest
from attar.nets.anatomy import anatomy

#: Kinds of bias vectors of a layer, as BitFit's released code calls them, and the parts of a layer that hold them.
#: ``output`` is both projections back to the model's width: the code selects by the substring ``output.dense.bias``.
BIASES: dict[str, tuple[str, ...]] = {
    "query": ("query",),
    "key": ("key",),
    "value": ("value",),
    "intermediate": ("feed_forward_in",),
    "output": ("attention_out", "feed_forward_out"),
    "attention_layernorm": ("attention_norm",),
    "output_layernorm": ("output_norm",),
}


def train_only(model: nn.Module, names: Collection[str]) -> None:
    """Let exactly the named parameters move, in place.

    Raises:
        ModelError: for a name that the model does not have.
    """
    known = dict(model.named_parameters())
    for name in names:
        if name not in known:
            raise ModelError(f"{type(model).__name__} has no parameter {name!r}{nearest(name, known)}")
    for name, parameter in known.items():
        parameter.requires_grad_(name in names)


def head_names(model: PreTrainedModel) -> set[str]:
    """Return the task head: everything outside the base model."""
    base = {id(parameter) for parameter in model.base_model.parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) not in base}


def classifier_names(model: PreTrainedModel) -> set[str]:
    """Return the last linear map of the task head, from features to labels; what is before it is left out."""
    head = head_names(model)
    linear = (name for name, module in model.named_modules() if isinstance(module, nn.Linear))
    maps = [name for name in linear if f"{name}.weight" in head]
    return {name for name in head if maps and name.rpartition(".")[0] == maps[-1]}


def top_names(model: PreTrainedModel, layers: int, *, embeddings: bool = False) -> set[str]:
    """Return the last ``layers`` layers and what of the base model runs after them (pooler, final norm).

    All the rest of the base belongs to the frozen bottom: embeddings, the layers below, and what feeds every layer
    (relative position tables). Lee et al. 2019 freeze from the bottom up.

    Args:
        model: an encoder with a task head.
        layers: how many layers move, from the top; 0 for none.
        embeddings: with all layers, the embeddings and what feeds every layer move too.

    Raises:
        ConfigError: for more layers than there are, or embeddings without all layers.
    """
    parts = anatomy(model)
    depth = len(parts.layers)
    if not 0 <= layers <= depth:
        raise ConfigError(f"layers expects 0 to {depth}, the layers of {type(model).__name__}; found {layers}")
    if embeddings and layers < depth:
        raise ConfigError(
            f"embeddings can move only with all {depth} layers: a gradient that reaches them runs through every layer; "
            f"found layers = {layers}"
        )
    if embeddings:
        return _names(model, [parts.base])
    return _names(model, [*parts.layers[depth - layers :], *parts.top])


def bias_names(model: PreTrainedModel, kinds: Collection[str] = ()) -> set[str]:
    """Return the biases of the base model: all, or some kinds of them in every layer.

    All biases include those of the embeddings' LayerNorm and of the pooler. To any subset the pooler's bias is added,
    as BitFit's released code does.

    Args:
        model: an encoder with a task head.
        kinds: keys of :data:`BIASES`; none for all biases.

    Raises:
        ConfigError: for a kind that is unknown.
        ModelError: for an encoder whose layers have no such biases.
    """
    parts = anatomy(model)
    unknown = [kind for kind in kinds if kind not in BIASES]
    if unknown:
        raise ConfigError(f"unknown bias {unknown[0]!r}{nearest(unknown[0], BIASES)} (known: {', '.join(BIASES)})")
    if not _biases(model, parts.layers):
        raise ModelError(
            f"the layers of {type(model).__name__} have no biases, so there is nothing for BitFit to train; "
            "use --method lora, adapters or freezing"
        )
    if not kinds:
        return _biases(model, [parts.base])
    if parts.paths.fused and {"query", "key", "value"} & set(kinds):
        raise ModelError(f"{type(model).__name__} has one bias for queries, keys and values; they cannot be told apart")
    chosen = _biases(model, parts.top)
    for kind in kinds:
        places = [parts.part(i, part) for part in BIASES[kind] for i in range(len(parts.layers))]
        found = _biases(model, places)
        if not found:
            raise ModelError(f"the layers of {type(model).__name__} have no {kind} bias; leave {kind!r} out")
        chosen |= found
    return chosen


def norm_names(model: PreTrainedModel, first: int = 0) -> set[str]:
    """Return the LayerNorm parameters of the base model.

    Args:
        model: an encoder with a task head.
        first: leave out what runs before this layer, so that no gradient is needed there.
    """
    parts = anatomy(model)
    whole = [parts.base] if first == 0 else [*parts.layers[first:], *parts.top]
    norms = [m for place in whole for m in place.modules() if isinstance(m, nn.LayerNorm | nn.RMSNorm)]
    return _names(model, norms)


def _biases(model: nn.Module, places: Iterable[nn.Module]) -> set[str]:
    # By the last part of the name: MPNet's table `relative_attention_bias.weight` is no bias vector.
    return {name for name in _names(model, places) if name.rpartition(".")[2] == "bias"}


def _names(model: nn.Module, places: Iterable[nn.Module]) -> set[str]:
    inside = set(_ids(places))
    return {name for name, parameter in model.named_parameters() if id(parameter) in inside}


def _ids(places: Iterable[nn.Module]) -> Iterator[int]:
    return (id(parameter) for place in places for parameter in place.parameters())

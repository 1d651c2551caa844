"""Where an encoder keeps its parts. The one place that knows architectures; everything else asks it."""

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from attar.errors import ConfigError, ModelError

#: Where families keep their list of layers, below the base model.
_LAYER_LISTS = ("encoder.layer", "transformer.layer", "layers", "encoder.layers")
#: Families whose first position is the padding id plus one.
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer")
#: The configuration keys that count layers, heads and states.
_DEPTH_KEYS = ("num_hidden_layers", "n_layers")
_HEAD_KEYS = ("num_attention_heads", "n_heads")
_WIDTH_KEYS = ("hidden_size", "dim")
#: What of the base model runs after its last layer.
_TOP = ("pooler", "final_norm")
#: What, besides layers, turns ids into the states that the second layer reads: ELECTRA widens its embeddings, DeBERTa
#: has a convolution beside its first layer.
_BOTTOM = ("embeddings", "embeddings_project", "encoder.conv")

#: Where a layer keeps its parts, by the style of the family. The first style whose every path exists is the layer's.
_STYLES: dict[str, dict[str, str]] = {
    "bert": {  # BERT, RoBERTa, XLM-R, CamemBERT, ELECTRA
        "attention": "attention.self",
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attention_out": "attention.output.dense",
        "attention_end": "attention.output.dropout",
        "attention_norm": "attention.output.LayerNorm",
        "feed_forward_in": "intermediate.dense",
        "feed_forward_out": "output.dense",
        "feed_forward_end": "output.dropout",
        "output_norm": "output.LayerNorm",
    },
    "deberta": {
        "attention": "attention.self",
        "query": "attention.self.query_proj",
        "key": "attention.self.key_proj",
        "value": "attention.self.value_proj",
        "attention_out": "attention.output.dense",
        "attention_end": "attention.output.dropout",
        "attention_norm": "attention.output.LayerNorm",
        "feed_forward_in": "intermediate.dense",
        "feed_forward_out": "output.dense",
        "feed_forward_end": "output.dropout",
        "output_norm": "output.LayerNorm",
    },
    "mpnet": {
        "attention": "attention.attn",
        "query": "attention.attn.q",
        "key": "attention.attn.k",
        "value": "attention.attn.v",
        "attention_out": "attention.attn.o",
        "attention_end": "attention.dropout",
        "attention_norm": "attention.LayerNorm",
        "feed_forward_in": "intermediate.dense",
        "feed_forward_out": "output.dense",
        "feed_forward_end": "output.dropout",
        "output_norm": "output.LayerNorm",
    },
    "distilbert": {
        "attention": "attention",
        "query": "attention.q_lin",
        "key": "attention.k_lin",
        "value": "attention.v_lin",
        "attention_out": "attention.out_lin",
        "attention_end": "attention.out_lin",
        "attention_norm": "sa_layer_norm",
        "feed_forward_in": "ffn.lin1",
        "feed_forward_out": "ffn.lin2",
        "feed_forward_end": "ffn.dropout",
        "output_norm": "output_layer_norm",
    },
    "modernbert": {
        "attention": "attn",
        "query": "attn.Wqkv",
        "key": "attn.Wqkv",
        "value": "attn.Wqkv",
        "attention_out": "attn.Wo",
        "attention_end": "attn.out_drop",
        "attention_norm": "attn_norm",
        "feed_forward_in": "mlp.Wi",
        "feed_forward_out": "mlp.Wo",
        "feed_forward_end": "mlp",
        "output_norm": "mlp_norm",
    },
}


@dataclass(frozen=True, kw_only=True)
class LayerPaths:
    """Dotted paths of one layer's parts, below the layer."""

    attention: str
    """The module that computes attention scores."""
    query: str
    """Linear map of the queries; ModernBERT has one map for queries, keys and values (see :attr:`fused`)."""
    key: str
    value: str
    attention_out: str
    """Linear map that joins the heads."""
    attention_end: str
    """Module whose output is the attention sub-layer's, after its dropout, before the residual is added."""
    attention_norm: str
    """LayerNorm after the attention's residual (before the attention in pre-norm families)."""
    feed_forward_in: str
    feed_forward_out: str
    feed_forward_end: str
    """Module whose output is the feed-forward sub-layer's, after its dropout, before the residual is added."""
    output_norm: str
    """LayerNorm after the feed-forward's residual (before the feed-forward in pre-norm families)."""

    @property
    def fused(self) -> bool:
        """Whether one linear map makes queries, keys and values, in this order."""
        return self.query == self.key


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """The parts of one loaded encoder."""

    base: nn.Module
    """The encoder below the task head."""
    embeddings: nn.Module
    layers: nn.ModuleList
    """The Transformer layers, input to output."""
    layers_path: str
    """Dotted path of ``layers`` below ``base``."""
    depth_key: str
    """Name of the configuration entry that holds the number of layers."""
    style: str
    """Which family of layers: ``bert``, ``deberta``, ``mpnet``, ``distilbert`` or ``modernbert``."""
    paths: LayerPaths
    heads: int
    """Attention heads of a layer."""
    width: int
    """Width of the hidden states."""

    def part(self, layer: int, name: str) -> nn.Module:
        """Return a layer's part by its name in :class:`LayerPaths`."""
        return self.layers[layer].get_submodule(getattr(self.paths, name))

    @property
    def top(self) -> list[nn.Module]:
        """What of the base model runs after its last layer: a pooler, or a final norm."""
        return [module for name in _TOP if isinstance(module := getattr(self.base, name, None), nn.Module)]

    @property
    def bottom(self) -> dict[str, nn.Module]:
        """What of the base model runs before its second layer, besides layers, by dotted path."""
        return {path: module for path in _BOTTOM if (module := _find(self.base, path)) is not None}


def anatomy(model: PreTrainedModel) -> Anatomy:
    """Find the parts of a transformers encoder, with or without a task head.

    Raises:
        ModelError: for an architecture that it does not know, with what was looked for.
    """
    base = model.base_model
    path = next((p for p in _LAYER_LISTS if isinstance(_find(base, p), nn.ModuleList)), None)
    key = next((k for k in _DEPTH_KEYS if hasattr(model.config, k)), None)
    embeddings = getattr(base, "embeddings", None)
    if path is None or key is None or embeddings is None:
        raise ModelError(
            f"the architecture {type(model).__name__} is not known: looked for 'embeddings', for a list of layers at "
            f"{', '.join(_LAYER_LISTS)} and for {' or '.join(_DEPTH_KEYS)} in its configuration"
        )
    layers: nn.ModuleList = _find(base, path)  # type: ignore[assignment]
    style = _style(next(iter(layers), nn.Identity()), type(model).__name__)
    return Anatomy(
        base=base,
        embeddings=embeddings,
        layers=layers,
        layers_path=path,
        depth_key=key,
        style=style,
        paths=LayerPaths(**_STYLES[style]),
        heads=_setting(model, _HEAD_KEYS),
        width=_setting(model, _WIDTH_KEYS),
    )


def position_limit(model: PreTrainedModel) -> int | None:
    """Return the longest input in tokens that the position table serves; None for models without a table."""
    table = getattr(model.config, "max_position_embeddings", None)
    if table is None:
        return None
    return table - position_offset(model)


def position_offset(model: PreTrainedModel) -> int:
    """Return how many rows at the beginning of the position table no real token uses.

    RoBERTa's descendants number positions from the padding id on.
    """
    if model.config.model_type.removeprefix("attar-windowed-") not in _OFFSET_POSITIONS:
        return 0
    return getattr(model.base_model.embeddings, "padding_idx", model.config.pad_token_id or 0) + 1


def require_positions(model: PreTrainedModel, max_length: int) -> None:
    """Refuse inputs that are longer than the model has positions for, before any of them is encoded.

    Raises:
        ConfigError: with both lengths.
    """
    limit = position_limit(model)
    if limit is not None and max_length > limit:
        raise ConfigError(
            f"train.max_length is {max_length}, and {type(model).__name__} reads at most {limit} tokens; "
            "give a smaller --max-length, or an encoder that attar longer has made, or --long windowed"
        )


def _style(layer: nn.Module, name: str) -> str:
    for style, paths in _STYLES.items():
        if all(_find(layer, path) is not None for path in paths.values()):
            return style
    wanted = "; ".join(f"{style}: {paths['query']}, {paths['feed_forward_in']}" for style, paths in _STYLES.items())
    raise ModelError(f"the layers of {name} are not known: looked for parts such as {wanted}")


def _setting(model: PreTrainedModel, keys: tuple[str, ...]) -> int:
    return next(int(getattr(model.config, key)) for key in keys if hasattr(model.config, key))


def _find(module: nn.Module, path: str) -> nn.Module | None:
    for name in path.split("."):
        module = getattr(module, name, None)  # type: ignore[assignment]
        if module is None:
            return None
    return module

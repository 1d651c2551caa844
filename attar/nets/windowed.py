"""Encoders whose tokens attend to their neighbourhood and to global tokens: classes of transformers, a band plugged in.

Every class is transformers' own with :func:`attar.nets.band.band_attention` as its attention function, under the
configuration entries ``attention_window`` (tokens on both sides together, as in transformers' Longformer),
``global_tokens`` and ``global_projections``. The file depends on torch, transformers and ``band.py`` alone: both
travel inside bundles, so that ``AutoModel.from_pretrained(folder, trust_remote_code=True)`` works where attar is not
installed. With attar, importing this module registers the classes and no flag is needed.
"""

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder, MPNetSelfAttention

# Relative, since the two files travel together.
from .band import Band, BandBias, band_attention, fused_product, is_traced

#: Families whose attention takes any function of queries, keys and values; MPNet's is given one below.
FAMILIES = ("Bert", "Roberta", "XLMRoberta", "Camembert", "Electra", "DistilBert", "MPNet")
#: What stands before the name of a class, and before the type of its configuration.
PREFIX, TYPE_PREFIX = "Windowed", "attar-windowed-"
#: Name of the attention function in transformers.
ATTENTION = "attar_windowed"
_AUTO = {
    "Model": AutoModel,
    "ForMaskedLM": AutoModelForMaskedLM,
    "ForSequenceClassification": AutoModelForSequenceClassification,
    "ForTokenClassification": AutoModelForTokenClassification,
}
#: Where a layer's attention keeps its maps of queries, keys and values, by family.
PROJECTIONS = {"MPNet": ("q", "k", "v"), "DistilBert": ("q_lin", "k_lin", "v_lin")}
_BERT_PROJECTIONS = ("query", "key", "value")


def band_of(config: PreTrainedConfig) -> Band:
    """Return who attends to whom in an encoder of this configuration."""
    return Band(window=config.attention_window, n_global=config.global_tokens)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_bias: BandBias | Tensor | None = None,
    of_global: tuple[Tensor, Tensor, Tensor] | None = None,
    product: Callable[..., Tensor] = fused_product,
    **_: Any,
) -> tuple[Tensor, None]:
    """Compute attention where transformers asks for it: (B, H, T, D) each, to (B, T, H, D) and no probabilities."""
    found = band_attention(
        query,
        key,
        value,
        attention_mask,
        band_of(module.config),  # type: ignore[arg-type]
        scaling=scaling,
        dropout=dropout,
        bias=position_bias,
        of_global=of_global,
        product=product,
    )
    return found.transpose(1, 2).contiguous(), None


def real_tokens(attention_mask: Tensor | None = None, **_: Any) -> Tensor | None:
    """Return the mask that :func:`attend` reads: (B, T), False on padding; None where there is none."""
    if attention_mask is None:
        return None
    return None if not is_traced() and bool(attention_mask.all()) else attention_mask.bool()


class WindowedMPNetAttention(MPNetSelfAttention):
    """MPNet's attention with the function plugged in that the other families look up themselves."""

    config: PreTrainedConfig

    def forward(  # type: ignore[override]
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, position_bias: Any = None, **kwargs: Any
    ) -> tuple[Tensor]:
        """Return the joined heads, (B, T, W)."""
        query, key, value = (
            projection(hidden_states).unflatten(-1, (self.num_attention_heads, -1)).transpose(1, 2)
            for projection in (self.q, self.k, self.v)
        )
        dropout = self.dropout.p if self.training else 0.0
        given = {"dropout": dropout, "position_bias": position_bias, "of_global": kwargs.get("of_global")}
        function = ALL_ATTENTION_FUNCTIONS[self.config._attn_implementation]
        found, _ = function(self, query, key, value, attention_mask, **given)
        return (self.o(found.flatten(2)),)


class WindowedMPNetEncoder(MPNetEncoder):
    """MPNet's layers, whose bucketed relative positions are scored only where the band reads them."""

    def compute_position_bias(self, x: Tensor, position_ids: None = None, num_buckets: int = 32) -> BandBias | Tensor:
        """Return the scores of all distances that occur, the same for every text of a batch."""
        band, length = band_of(self.config), x.shape[1]
        if not band.in_blocks(length):
            return super().compute_position_bias(x[:1], num_buckets=num_buckets)
        size, n = band.block, band.n_global

        def scores(rows: Tensor, columns: Tensor) -> Tensor:  # (H, rows, columns)
            buckets = self.relative_position_bucket(columns[None, :] - rows[:, None], num_buckets=num_buckets)
            return self.relative_attention_bias(buckets).permute(2, 0, 1)

        places = torch.arange(-size, max(length, 2 * size), device=x.device)
        block, text = places[size : 2 * size], places[size : size + length]
        return BandBias(
            near=scores(block, places[: 3 * size]),
            to_global=scores(text, text[:n]),
            from_global=scores(text[:n], text),
        )


class Windowed:
    """What a windowed encoder has beside transformers' own: its attention function, and global projections."""

    def __init__(self, config: PreTrainedConfig, *args: Any, **kwargs: Any) -> None:
        config._attn_implementation = ATTENTION
        super().__init__(config, *args, **kwargs)  # type: ignore[call-arg]
        for module in self.modules():  # type: ignore[attr-defined]
            if isinstance(module, MPNetEncoder):
                module.__class__ = WindowedMPNetEncoder
            if isinstance(module, MPNetSelfAttention):
                module.__class__ = WindowedMPNetAttention
                module.config = config  # type: ignore[assignment]
            if config.global_projections and (maps := _projections(module)):
                _add_global(module, maps)


def _projections(module: nn.Module) -> tuple[str, ...] | None:
    """Return the names of a module's maps of queries, keys and values, where it is a layer's attention."""
    for names in (_BERT_PROJECTIONS, *PROJECTIONS.values()):
        if all(isinstance(getattr(module, name, None), nn.Linear) for name in names):
            return names
    return None


def _add_global(module: nn.Module, names: tuple[str, ...]) -> None:
    """Give a layer's attention maps of its own for what the global tokens read, at first the local ones."""
    if hasattr(module, f"{names[0]}_global"):
        return  # the base model below a head was built first
    for name in names:
        local = getattr(module, name)
        twin = nn.Linear(local.in_features, local.out_features)
        twin.load_state_dict(local.state_dict())
        setattr(module, f"{name}_global", twin)
    module.maps_of_global = names  # type: ignore[assignment]
    module.register_forward_pre_hook(_read_globally, with_kwargs=True)


def _read_globally(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Hand queries of the global tokens, and the keys and values that they read, to the attention function."""
    hidden = args[0] if args else kwargs["hidden_states"]
    config: Any = module.config
    names: Any = module.maps_of_global  # LoRA may have wrapped the maps since
    heads = config.num_attention_heads
    read = (hidden[:, : config.global_tokens], hidden, hidden)
    found = tuple(
        getattr(module, f"{name}_global")(states).unflatten(-1, (heads, -1)).transpose(1, 2)
        for name, states in zip(names, read, strict=True)
    )
    return args, {**kwargs, "of_global": found}


def _make_family(family: str) -> None:
    """Make and register the classes of a family: a configuration, the encoder, and it with each head."""
    plain: Any = getattr(transformers, f"{family}Config")
    own = {
        "__module__": __name__,
        "__doc__": f"{family}'s, and who attends to whom.",
        "__annotations__": {"attention_window": int, "global_tokens": int, "global_projections": bool},
        "model_type": TYPE_PREFIX + plain.model_type,
        "attention_window": 256,
        "global_tokens": 1,
        "global_projections": False,
    }
    config: Any = type(f"{PREFIX}{family}Config", (plain,), own)
    globals()[config.__name__] = config
    AutoConfig.register(config.model_type, config, exist_ok=True)
    config.register_for_auto_class()
    for suffix, auto in _AUTO.items():
        name = f"{PREFIX}{family}{suffix}"
        told = {"__module__": __name__, "__doc__": f"{family}{suffix} with windowed attention.", "config_class": config}
        model: Any = type(name, (Windowed, getattr(transformers, f"{family}{suffix}")), told)
        globals()[name] = model
        auto.register(config, model, exist_ok=True)
        model.register_for_auto_class(auto.__name__)


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, real_tokens)
for _family in FAMILIES:
    _make_family(_family)

"""Where an encoder keeps its parts. The one place that knows architectures; everything else asks it."""

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from attar.errors import ModelError

#: Where families keep their list of layers, below the base model.
_LAYER_LISTS = ("encoder.layer", "transformer.layer", "layers", "encoder.layers")
#: Families whose first position is the padding id plus one.
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer")
#: The configuration key that counts them.
_DEPTH_KEYS = ("num_hidden_layers", "n_layers")


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
    layers = _find(base, path)
    return Anatomy(base=base, embeddings=embeddings, layers=layers, layers_path=path, depth_key=key)  # type: ignore[arg-type]


def position_limit(model: PreTrainedModel) -> int | None:
    """Return the longest input in tokens that the position table serves; None for models without a table."""
    table = getattr(model.config, "max_position_embeddings", None)
    if table is None:
        return None
    # RoBERTa's descendants number positions from the padding id on, so the first rows are never used.
    offset = (model.config.pad_token_id or 0) + 1 if model.config.model_type in _OFFSET_POSITIONS else 0
    return table - offset


def _find(module: nn.Module, path: str) -> nn.Module | None:
    for name in path.split("."):
        module = getattr(module, name, None)  # type: ignore[assignment]
        if module is None:
            return None
    return module

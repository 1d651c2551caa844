"""What an encoder costs, from its configuration alone: no weights are read."""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoModel, PreTrainedConfig

from attar.nets.anatomy import anatomy, position_limit
from attar.nets.lean_attention import LEAN
from attar.nets.loading import load_config


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of one encoder."""

    name: str
    family: str
    layers: int
    width: int
    feed_forward: int
    heads: int
    parameters: int
    layer_parameters: int
    """Of one layer."""
    biases: int
    """Parameters that BitFit would train; 0 where the layers have none."""
    norms: int
    """Parameters of all LayerNorms."""
    positions: int | None
    """Longest input in tokens; None for models without a position table."""
    score_bytes: int = 1
    """Bytes that training on a CPU keeps of every attention score (:func:`_score_bytes`)."""

    @property
    def table_parameters(self) -> int:
        """Everything outside the layers: embeddings and pooler."""
        return self.parameters - self.layers * self.layer_parameters

    def flops(self, layers: float, length: float) -> float:
        """Return the multiply-adds x 2 of one token in ``layers`` layers, in texts of ``length`` tokens.

        Two for every weight of a layer; attention adds 4 x length x width (scores, and the sum of the values).
        """
        return layers * (2 * self.layer_parameters + 4 * length * self.width)

    def cut(self, layers: int) -> "Shape":
        """Return the sizes with fewer layers of the same kind."""
        whole = self.parameters - (self.layers - layers) * self.layer_parameters
        return Shape(**{**vars(self), "layers": layers, "parameters": whole})

    def thin(self, layers: int, width: int, feed_forward: int) -> "Shape":
        """Return the sizes of a thin student: the vocabulary stays, and rows of tables shrink with the width."""
        layer = 4 * width * width + 2 * width * feed_forward + 9 * width + feed_forward
        table = int(self.table_parameters * width / self.width)
        sizes = {"layers": layers, "width": width, "feed_forward": feed_forward, "layer_parameters": layer}
        return Shape(**{**vars(self), **sizes, "parameters": table + layers * layer})


def read_shape(name: str) -> tuple[Shape, PreTrainedConfig]:
    """Return an encoder's sizes and its configuration.

    Raises:
        ModelError: for what cannot be loaded, or an architecture that attar does not know.
    """
    config = load_config(name)
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    parts = anatomy(model)
    layer = parts.layers[0]
    biased = any(key.endswith("bias") for key, _ in layer.named_parameters())
    norms = [m for m in model.modules() if isinstance(m, nn.LayerNorm | nn.RMSNorm)]
    shape = Shape(
        name=name,
        family=config.model_type,
        layers=len(parts.layers),
        width=parts.width,
        feed_forward=parts.part(0, "feed_forward_in").out_features,  # type: ignore[arg-type]
        heads=parts.heads,
        parameters=_count(model),
        layer_parameters=_count(layer),
        biases=sum(p.numel() for k, p in model.named_parameters() if k.rpartition(".")[2] == "bias") if biased else 0,
        norms=sum(map(_count, norms)),
        positions=position_limit(model),
        score_bytes=_score_bytes(model.config),
    )
    return shape, config


def _score_bytes(config: PreTrainedConfig) -> int:
    """Return what is kept of a score: one byte by :mod:`attar.nets.lean_attention`, nothing by other attention.

    DeBERTa, which computes attention by itself, keeps the softmax and what is left of it after dropout in float32, what
    was dropped, and a copy in half precision.
    """
    if config.model_type.startswith("deberta"):
        return 11
    return 1 if config.model_type == "mpnet" or config._attn_implementation in LEAN else 0


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())

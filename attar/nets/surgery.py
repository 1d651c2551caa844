"""Students cut from a teacher."""

import copy
from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from attar.errors import ConfigError
from attar.nets.anatomy import anatomy


def keep_layers(model: PreTrainedModel, layers: Sequence[int]) -> PreTrainedModel:
    """Return a copy of ``model`` that has only the given layers (0-based), weights copied bit for bit.

    Raises:
        ConfigError: for layers that the model does not have, repeated ones, or none.
    """
    depth = len(anatomy(model).layers)
    wrong = [i for i in layers if not 0 <= i < depth]
    if not layers or wrong or len(set(layers)) != len(layers):
        raise ConfigError(f"student layers expects different layer numbers from 0 to {depth - 1}, found {list(layers)}")
    student = copy.deepcopy(model)
    parts = anatomy(student)
    names = [parts.layers[i].state_dict().keys() for i in range(depth)]
    moved = [i for place, i in enumerate(layers) if names[i] != names[place]]
    if moved:  # ModernBERT's first layer lacks a LayerNorm that the others have
        raise ConfigError(
            f"layer {moved[0]} of {type(model).__name__} cannot stand at another place: it has other parameters "
            "than the layer that it would replace; begin the list with layer 0"
        )
    kept = nn.ModuleList(parts.layers[i] for i in layers)
    parent, _, name = parts.layers_path.rpartition(".")
    setattr(parts.base.get_submodule(parent), name, kept)
    setattr(student.config, parts.depth_key, len(kept))
    if getattr(student.config, "layer_types", None):
        # Families with several kinds of layers (ModernBERT) list the kind of each, by position.
        student.config.layer_types = [student.config.layer_types[i] for i in layers]
    return student


def order_outputs(model: PreTrainedModel, order: Sequence[int], labels: Sequence[str]) -> None:
    """Put the outputs of a task head into another order, in place, and name them.

    Args:
        model: an encoder with a task head, whose last linear layer has one row an output.
        order: for every output of the result, its number now.
        labels: names of the outputs of the result.
    """
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(parameter[list(order)])
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: i for i, label in enumerate(labels)}


def every_other_layer(depth: int) -> tuple[int, ...]:
    """Return half of the layers of a network of ``depth`` layers, spread from the first to the last.

    For 12 layers these are DistilBERT's 0, 2, 4, 7, 9, 11 (Sanh et al. 2019, released code).
    """
    n = max(1, depth // 2)
    if n == 1:
        return (0,)
    # The published choice for 12 is round-half-up of evenly spaced points: 0, 2.2, 4.4, 6.6, 8.8, 11.
    return tuple(int(i * (depth - 1) / (n - 1) + 0.5) for i in range(n))

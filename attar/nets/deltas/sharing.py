"""Several task models over one encoder in memory: module trees of their own, parameters in common."""

from torch import nn
from transformers import PreTrainedModel


def share_parameters(model: PreTrainedModel, encoder: PreTrainedModel) -> None:
    """Let a task model use the parameters of an encoder in the place of its own equal copies, in place.

    Nothing is switched on or off from task to task, so nothing can leak from one into another: a tree says what its
    task computes, and where two trees hold the same parameters they compute the same. (A batch that mixes tasks can
    run once through the layers that its trees have in common, and through each tree above.)

    Args:
        model: loaded from the checkpoint of ``encoder``, nothing inserted yet.
        encoder: without a head.
    """
    prefix = f"{model.base_model_prefix}."
    common = dict(encoder.named_parameters(remove_duplicate=False))
    for name, _ in list(model.named_parameters(remove_duplicate=False)):
        inner = name.removeprefix(prefix)
        if name.startswith(prefix) and inner in common:
            _replace(model, name, common[inner])


def _replace(model: nn.Module, name: str, parameter: nn.Parameter) -> None:
    place, _, last = name.rpartition(".")
    setattr(model.get_submodule(place), last, parameter)

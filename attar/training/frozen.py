"""Frozen matrices in the precision that they multiply in."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from attar.nets.hardware import leave_memory, pick_device, resolve_precision
from attar.training.stage import Stage


@contextmanager
def frozen_in_bfloat16(stage: Stage) -> Iterator[None]:
    """Hold the frozen matrices of a delta's encoder in bfloat16 meanwhile, where the stage multiplies in it.

    Autocast would round them in every step, to the same numbers, beside the float32 ones: a third of what a step of
    BitFit holds. Those wait on the host, where they are pages of the checkpoint's file, which the system may take
    back; at the end the parameters have them again, bit for bit.
    """
    if stage.delta is None or resolve_precision(pick_device(), stage.train.precision) != "bfloat16":
        yield
        return
    waiting = []
    for parameter in _frozen_matrices(stage.model):
        waiting.append((parameter, parameter.device, parameter.data.cpu()))
        parameter.data = parameter.data.bfloat16()
    for _, _, whole in waiting:
        leave_memory(whole)
    try:
        yield
    finally:
        for parameter, device, whole in waiting:
            back, held = whole.to(device), parameter.data
            parameter.data = back if torch.equal(held, back.bfloat16()) else held.float()  # one that moved is found


def _frozen_matrices(model: nn.Module) -> list[Tensor]:
    """Return what is only multiplied by, and does not move.

    Not embeddings, whose rows are added as they are, nor what peft builds upon, which some of its methods read.
    """
    other = {id(p) for m in model.modules() if not isinstance(m, nn.Linear) for p in m.parameters(recurse=False)}
    found = {id(m.weight): m.weight for n, m in model.named_modules() if type(m) is nn.Linear and "base_layer" not in n}
    return [
        weight
        for number, weight in found.items()
        if number not in other and not weight.requires_grad and weight.dtype == torch.float32
    ]

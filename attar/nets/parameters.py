"""Count parameters, say which of them move, and prove that the others did not."""

import hashlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from attar.errors import ModelError


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return (all parameters, parameters outside embedding tables).

    The second is what the papers compare when they say how much smaller a BiLSTM is; word, position and
    segment tables do no arithmetic.
    """
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    sizes = [(p.numel(), id(p) in tables) for p in model.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, table in sizes if not table)


def count_moving(model: nn.Module) -> tuple[int, int]:
    """Return (parameters that training moves, all parameters)."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, moves in sizes if moves), sum(n for n, _ in sizes)


def moving_line(name: str, moving: int, total: int) -> str:
    """Return what moves as a line: ``bitfit: 104,450 of 109,483,778 parameters, 0.10 %``."""
    return f"{name}: {moving:,} of {total:,} parameters, {100 * moving / total:.2f} %"


def frozen_digests(model: nn.Module) -> dict[str, str]:
    """Return a hash of every parameter that training must not move, by its name."""
    return {name: _digest(p) for name, p in model.named_parameters() if not p.requires_grad}


def check_frozen(model: nn.Module, before: Mapping[str, str]) -> None:
    """Prove that frozen parameters are bit for bit what they were when :func:`frozen_digests` was taken.

    Raises:
        ModelError: naming the first one that is not.
    """
    after = frozen_digests(model)
    for name, digest in before.items():
        if after.get(name) != digest:
            raise ModelError(
                f"{name} was frozen and is not what it was before training; this is a bug in the method's plan or in "
                "attar's loop, please report it with the recipe"
            )


def _digest(tensor: Tensor) -> str:
    raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    return hashlib.blake2b(raw, digest_size=16).hexdigest()


def tensor_bytes(models: Iterable[nn.Module]) -> int:
    """Return the bytes of parameters and buffers in memory; what several models share counts once."""
    tensors = (tensor for model in models for tensor in (*model.parameters(), *model.buffers()))
    storages = {s.data_ptr(): s.nbytes() for s in (tensor.untyped_storage() for tensor in tensors)}
    return sum(storages.values())

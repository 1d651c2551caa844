"""Count parameters."""

from torch import nn


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return (all parameters, parameters outside embedding tables).

    The second is what the papers compare when they say how much smaller a BiLSTM is; word, position and
    segment tables do no arithmetic.
    """
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    sizes = [(p.numel(), id(p) in tables) for p in model.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, table in sizes if not table)

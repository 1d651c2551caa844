"""AdaDelta that touches only the word vectors a batch has used; the result is that of the dense form.

A table of 30,000 vectors is nine tenths of a BiLSTM student, and a batch of 50 sentences uses some 500 of its rows.
Dense AdaDelta passes over the whole table several times a step, which takes as long as the LSTM.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from attar.config import TrainConfig
from attar.training.stage import Stage


@contextmanager
def sparse_vectors(model: nn.Module) -> Iterator[None]:
    """Let a model's trainable embeddings give sparse gradients meanwhile, where nothing else uses their weights."""
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    tables = [
        module
        for module in model.modules()
        if isinstance(module, nn.Embedding) and module.weight.requires_grad and owners[id(module.weight)] == 1
    ]
    before = [table.sparse for table in tables]
    for table in tables:
        table.sparse = True
    try:
        yield
    finally:
        for table, sparse in zip(tables, before, strict=True):
            table.sparse = sparse


class RowAdadelta(torch.optim.Optimizer):
    """AdaDelta (Zeiler 2012, arXiv 1212.5701, algorithm 1), lazy over the rows of sparse gradients, with clipping.

    A row without gradient keeps its weights, and both of its running averages shrink by ``rho`` a step. So a row that
    was last used k steps ago is brought up to date by ``rho ** k`` when it is used again, which is exact.

    Args:
        parameters: what to train.
        lr: the paper's algorithm has none, which is 1.
        rho: decay of the running averages.
        eps: added under the roots.
        max_norm: gradients are scaled down to this norm over all parameters together; 0 leaves them. It is here
            because torch's own clipping refuses sparse gradients.
    """

    def __init__(
        self, parameters: Iterable[Tensor], *, lr: float, rho: float = 0.95, eps: float = 1e-6, max_norm: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "rho": rho, "eps": eps})
        self._max_norm = max_norm

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters once."""
        loss = closure() if closure else None
        moving = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        for _, p in moving:
            if p.grad.is_sparse:
                p.grad = p.grad.coalesce()
        scale = self._scale([p.grad for _, p in moving])
        for group, p in moving:
            self._update(p, scale, lr=group["lr"], rho=group["rho"], eps=group["eps"])
        return loss

    def _scale(self, gradients: list[Tensor]) -> float | Tensor:
        if self._max_norm <= 0 or not gradients:
            return 1.0
        norms = [torch.linalg.vector_norm(g.values() if g.is_sparse else g) for g in gradients]
        return (self._max_norm / (torch.linalg.vector_norm(torch.stack(norms)) + 1e-6)).clamp(max=1.0)

    def _update(self, p: Tensor, scale: float | Tensor, *, lr: float, rho: float, eps: float) -> None:
        state, gradient = self.state[p], p.grad
        assert gradient is not None
        if not state:
            state["step"], state["used"] = 0, torch.zeros(p.shape[:1], dtype=torch.long, device=p.device)
            state["square_avg"], state["acc_delta"] = torch.zeros_like(p), torch.zeros_like(p)
        rows: Any = ...
        g, late = gradient, torch.ones((), device=p.device)
        if gradient.is_sparse:
            rows, g = gradient.indices()[0], gradient.values()
            late = (rho ** (state["step"] - state["used"][rows])).reshape(-1, *[1] * (g.dim() - 1)).to(g.dtype)
            state["used"][rows] = state["step"] + 1
        state["step"] += 1
        g = g * scale
        square = (state["square_avg"][rows] * late).mul_(rho).addcmul_(g, g, value=1 - rho)
        acc = state["acc_delta"][rows] * late
        delta = (acc + eps).sqrt_().div_((square + eps).sqrt_()).mul_(g)
        state["square_avg"][rows] = square
        state["acc_delta"][rows] = acc.mul_(rho).addcmul_(delta, delta, value=1 - rho)
        p[rows] -= lr * delta


def adadelta(stage: Stage) -> torch.optim.Optimizer | None:
    """Return AdaDelta with rho 0.95, as Tang et al. train their student, where the stage asks for it."""
    train = stage.train
    moving = [p for p in stage.model.parameters() if p.requires_grad]
    if updates_by_rows(train):
        return RowAdadelta(moving, lr=train.lr, rho=0.95, max_norm=train.max_grad_norm)
    if train.optimizer == "adadelta":
        return torch.optim.Adadelta(moving, lr=train.lr, rho=0.95, weight_decay=train.weight_decay)
    return None


def updates_by_rows(train: TrainConfig) -> bool:
    """Whether a step may leave out the word vectors that a batch does not use; weight decay moves them all."""
    return train.optimizer == "adadelta" and not train.weight_decay

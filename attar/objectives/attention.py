"""Losses that compare attention, pair by pair of real tokens.

All take ``student`` and ``teacher`` scores before the softmax and before any mask, (B, H, T, T) with rows for queries,
and ``mask`` (B, T), true or 1 at real tokens. Head h of the student is compared with head h of the teacher. A pair
counts where both tokens are real: neither masked keys nor the rows of padded queries contribute. All return a scalar.
"""

from typing import Any

import torch
from torch import Tensor


def score_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Squared error of scores, mean over pairs of real tokens and over heads (Jiao et al. 2020, L_attn).

    The paper compares scores before the softmax, which it found to converge faster and further than probabilities.
    """
    real = mask.bool()
    pairs = (real[:, :, None] & real[:, None, :])[:, None].to(student.dtype)  # (B, 1, T, T)
    return _SquaredDistance.apply(student, teacher, pairs) / (pairs.sum() * student.shape[1])


def probability_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Squared error after the softmax, mean as in :func:`score_mse`: the ablation that the paper decided against."""
    return score_mse(attention_probabilities(student, mask), attention_probabilities(teacher, mask), mask)


def attention_kl(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """KL(softmax(teacher) ‖ softmax(student)) over real keys, mean over heads and real queries.

    It is MiniLM's (Wang et al. 2020). It does not ask the scores to agree, only the attention that comes of them.
    """
    logs, wanted = (_masked(scores, mask).log_softmax(-1) for scores in (student, teacher))
    # At masked keys both logs are -inf, and 0 x (-inf + inf) would be NaN.
    gap = (wanted - logs).masked_fill(~mask.bool()[:, None, None, :], 0.0)
    divergence = (wanted.exp() * gap).sum(-1)  # (B, H, T)
    real = mask.to(divergence.dtype)[:, None, :]
    return (divergence * real).sum() / (real.sum() * student.shape[1])


def attention_probabilities(scores: Tensor, mask: Tensor) -> Tensor:
    """Return softmax over real keys, (B, H, T, T); rows sum to 1, masked keys have 0."""
    return _masked(scores, mask).softmax(-1)


class _SquaredDistance(torch.autograd.Function):
    """Sum of squares over pairs, with a gradient for the student alone.

    Scores are large and these operations cheap, so what counts is how often memory is read: this keeps one tensor for
    the backward, and reads it once.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, pairs: Tensor) -> Tensor:
        gap = (student - teacher).mul_(pairs)
        ctx.save_for_backward(gap)
        return gap.square().sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gap,) = ctx.saved_tensors
        return gap * (2 * gradients[0]), None, None


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(~mask.bool()[:, None, None, :], float("-inf"))

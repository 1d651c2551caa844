"""Losses that compare hidden states, over real tokens alone.

Both take ``student`` and ``teacher`` of shape (B, T, W) and ``mask`` (B, T), true or 1 at real tokens; both return a
scalar.
"""

import torch.nn.functional as F
from torch import Tensor


def hidden_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Squared error, mean over real tokens and W (Jiao et al. 2020, L_embd and L_hidn).

    A student of another width is projected first; the paper's projection belongs to the training and not to the loss.
    """
    return _mean((student - teacher).square().mean(-1), mask)


def hidden_cosine(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """1 - cosine of the angle between the two states, mean over real tokens (Sanh et al. 2019, L_cos)."""
    return _mean(1 - F.cosine_similarity(student, teacher, dim=-1), mask)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B, T) over real tokens."""
    real = mask.to(values.dtype)
    return (values * real).sum() / real.sum()

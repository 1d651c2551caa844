"""Losses that compare the student's logits with the teacher's.

All take ``student`` and ``teacher`` of shape (N, C) and return a scalar. ``N`` runs over texts, or over
words for token classification. Gradients flow into ``student`` only where the caller detached the teacher,
which signals from a cache are by nature.
"""

import torch.nn.functional as F
from torch import Tensor


def logit_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared Euclidean distance of raw logits, mean over N (Tang et al. 2019, eq. 3).

    No softmax and no temperature, so it is zero only where the logits themselves agree. The square is
    summed over C, as the norm in the paper is.
    """
    return (student - teacher).square().sum(-1).mean()


def kl_divergence(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """KL(softmax(teacher/T) ‖ softmax(student/T)), mean over N, times T² (Hinton et al. 2015, section 2.1)."""
    divergence = F.kl_div(
        F.log_softmax(student / temperature, -1),
        F.log_softmax(teacher / temperature, -1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * temperature**2


def soft_cross_entropy(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Cross-entropy against softmax(teacher/T), mean over N, times T².

    The KL divergence plus the teacher's entropy: the same gradient, but not zero at equality.
    """
    targets = (teacher / temperature).softmax(-1)
    return F.cross_entropy(student / temperature, targets) * temperature**2


def binary_soft_cross_entropy(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """One sigmoid a label against sigmoid(teacher/T), mean over N and C, times T². For multi-label tasks."""
    targets = (teacher / temperature).sigmoid()
    return F.binary_cross_entropy_with_logits(student / temperature, targets) * temperature**2


def binary_kl_divergence(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """One Bernoulli KL a label, mean over N and C, times T²: :func:`binary_soft_cross_entropy` minus its minimum."""
    minimum = binary_soft_cross_entropy(teacher, teacher, temperature=temperature)
    return binary_soft_cross_entropy(student, teacher, temperature=temperature) - minimum

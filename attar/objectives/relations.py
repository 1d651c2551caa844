"""Losses that compare how tokens relate within one layer: they need neither equal widths nor equal numbers of heads.

States are queries, keys or values by attention head, (B, H, T, D); student and teacher may differ in H and D. ``mask``
(B, T) is true or 1 at real tokens.
"""

from collections.abc import Mapping

from torch import Tensor

from attar.objectives.attention import attention_kl, attention_probabilities


def relation_scores(states: Tensor, heads: int) -> Tensor:
    """Return X·Xᵀ/√d for every relation head, (B, heads, T, T).

    The attention heads are joined and split anew into ``heads`` of width d = H·D / heads (MiniLMv2, Wang et al. 2021).
    With the model's own number of heads these are MiniLM's (Wang et al. 2020).

    Args:
        states: (B, H, T, D).
        heads: any number that divides H·D.
    """
    joined = states.transpose(1, 2).flatten(-2)  # (B, T, H·D)
    split = joined.unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, heads, T, d)
    return split @ split.transpose(-1, -2) * split.shape[-1] ** -0.5


def relations(states: Tensor, heads: int, mask: Tensor) -> Tensor:
    """Return softmax(X·Xᵀ/√d) over real tokens, (B, heads, T, T); rows sum to 1."""
    return attention_probabilities(relation_scores(states, heads), mask)


def relation_kl(student: Tensor, teacher: Tensor, mask: Tensor, *, heads: int) -> Tensor:
    """KL(teacher's relations ‖ student's), mean over relation heads and real tokens: a scalar."""
    return attention_kl(relation_scores(student, heads), relation_scores(teacher, heads), mask)


def minilm_loss(
    student_scores: Tensor, teacher_scores: Tensor, student_values: Tensor, teacher_values: Tensor, mask: Tensor
) -> dict[str, Tensor]:
    """Return MiniLM's two parts, for equal numbers of heads (Wang et al. 2020); the loss is their sum.

    Scores are (B, H, T, T) before softmax and mask, values (B, H, T, D).
    """
    return {
        "attention": attention_kl(student_scores, teacher_scores, mask),
        "value": relation_kl(student_values, teacher_values, mask, heads=teacher_values.shape[1]),
    }


def minilm_v2_loss(
    student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], mask: Tensor, *, heads: int
) -> dict[str, Tensor]:
    """Return MiniLMv2's three parts: relations of queries, of keys and of values; the loss is their sum.

    Args:
        student: ``query``, ``key`` and ``value``, (B, H, T, D) each.
        teacher: the same.
        mask: (B, T).
        heads: relation heads; the paper has 48 or 64.
    """
    return {name: relation_kl(student[name], teacher[name], mask, heads=heads) for name in ("query", "key", "value")}

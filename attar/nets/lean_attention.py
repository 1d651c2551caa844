"""Attention with dropout on a CPU: what backward needs is computed again, and not kept from the forward pass.

PyTorch's fused kernels for CPUs have no dropout. With it, which most encoders are trained with, all probabilities of a
batch are built and kept, several times over: at 16 texts of 384 tokens that is two thirds of a fine-tuning's memory.
Here a few texts are scored at a time, as many as the processor's caches hold, and of their probabilities one byte each
is kept: whether it was dropped. Backward scores them again from queries, keys and the softmax's normalizers, as
FlashAttention does (Dao et al. 2022, algorithm 4).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder, MPNetSelfAttention

from attar.nets import windowed
from attar.nets.band import fused_product

#: What stands in for transformers' implementations of attention, and for that of windowed encoders.
LEAN = {"sdpa": "attar_lean", windowed.ATTENTION: "attar_lean_windowed"}
#: Scores that are computed at a time; in batches with no more, PyTorch's own attention is as fast (both measured).
_SCORES = 2**20
#: The same of a block of windows: a text has many of them, and what they keep adds up.
_BLOCK_SCORES = 2**18


@contextmanager
def lean_attention(model: nn.Module) -> Iterator[None]:
    """Have the encoders in a model compute attention with dropout leanly meanwhile, on a CPU.

    It is what PyTorch's attention computes, with other random draws. DeBERTa keeps its own.
    """
    configs: list[Any] = [module.config for module in model.modules() if isinstance(module, PreTrainedModel)]
    changed = [(config, config._attn_implementation) for config in configs if config._attn_implementation in LEAN]
    own = [(module, type(module)) for module in model.modules() if type(module) in _OWN]
    for config, implementation in changed:
        config._attn_implementation = LEAN[implementation]
    for module, kind in own:
        module.__class__ = _OWN[kind]
    try:
        yield
    finally:
        for config, implementation in changed:
            config._attn_implementation = implementation
        for module, kind in own:
            module.__class__ = kind


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Compute attention where transformers asks for it: (B, H, T, D) each, to (B, T, H, D) and no probabilities."""
    plain = key.shape[1] == query.shape[1] and not getattr(module, "is_causal", False) and "position_bias" not in others
    if not dropout or not plain or not _is_large(query, key, _SCORES):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    found = _attention(query, key, value, attention_mask, None, dropout, scale)
    return found.transpose(1, 2).contiguous(), None


def lean_product(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    *,
    scaling: float | None,
    dropout: float,
) -> Tensor:
    """Compute the attention of a part of a text: :func:`attar.nets.band.fused_product`, leanly."""
    if not dropout or not _is_large(query, key, _BLOCK_SCORES):
        return fused_product(query, key, value, mask, bias, scaling=scaling, dropout=dropout)
    return _attention(query, key, value, mask, bias, dropout, query.shape[-1] ** -0.5 if scaling is None else scaling)


class LeanMPNetEncoder(MPNetEncoder):
    """MPNet's layers, with the scores of relative positions once for all texts of a batch."""

    def compute_position_bias(self, x: Tensor, position_ids: Tensor | None = None, num_buckets: int = 32) -> Tensor:
        """Return what distances add to the scores, (1, H, T, T)."""
        return super().compute_position_bias(x if position_ids is not None else x[:1], position_ids, num_buckets)


class LeanMPNetAttention(MPNetSelfAttention):
    """MPNet's attention, which transformers computes step by step."""

    def forward(  # type: ignore[override]
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, position_bias: Any = None, **others: Any
    ) -> tuple[Tensor, ...]:
        """Return the joined heads, (B, T, W)."""
        dropout = self.dropout.p if self.training else 0.0
        query, key, value = (
            projection(hidden_states).unflatten(-1, (self.num_attention_heads, -1)).transpose(1, 2)
            for projection in (self.q, self.k, self.v)
        )
        if not dropout or not _is_large(query, key, _SCORES) or others.get("output_attentions"):
            return super().forward(hidden_states, attention_mask, position_bias, **others)
        found = _attention(query, key, value, attention_mask, position_bias, dropout, self.attention_head_size**-0.5)
        return (self.o(found.transpose(1, 2).flatten(2)),)


#: What stands in for a module whose attention is no function that could be replaced.
_OWN: dict[type[nn.Module], type[nn.Module]] = {
    MPNetEncoder: LeanMPNetEncoder,
    MPNetSelfAttention: LeanMPNetAttention,
}


def _is_large(query: Tensor, key: Tensor, scores: int) -> bool:
    return query.device.type == "cpu" and math.prod(query.shape[:-1]) * key.shape[2] > scores


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    dropout: float,
    scale: float,
) -> Tensor:
    kept, share = draw_kept((*query.shape[:-1], key.shape[2]), dropout)
    found: Tensor = _Attention.apply(query, key, value, mask, bias, kept, scale, share)
    return found


def draw_kept(shape: tuple[int, ...], dropout: float) -> tuple[Tensor, float]:
    """Return a mask that is False with probability ``dropout``, and the exact share that it keeps in the mean.

    Four probabilities share a draw of 64 bits, 16 each: the dropout is rounded to multiples of 1/65,536.
    """
    size = math.prod(shape)
    drawn = torch.empty(-(-size // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    dropped = round(dropout * 2**16)
    return (drawn[:size] >= dropped - 2**15).view(shape), 1 - dropped / 2**16


class _Attention(torch.autograd.Function):
    """softmax(Q K^T · scale + bias) with dropped entries, times V; (B, H, T, D) each, the bias (1, H, T, T)."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        bias: Tensor | None,
        kept: Tensor,
        scale: float,
        share: float,
    ) -> Tensor:
        found = torch.empty_like(query)
        normalizers = query.new_empty((*query.shape[:-1], 1), dtype=torch.float32)
        for texts in _parts(kept):
            scores = _scores(query[texts], key[texts], mask, bias, texts, scale)
            normalizers[texts] = scores.logsumexp(-1, keepdim=True)
            probabilities = scores.sub_(normalizers[texts]).exp_().mul_(kept[texts])
            found[texts] = (probabilities.to(value.dtype) @ value[texts]).div_(share)
        ctx.save_for_backward(query, key, value, mask, bias, kept, normalizers, found)
        ctx.scale, ctx.share = scale, share
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask, bias, kept, normalizers, found = ctx.saved_tensors
        of_query, of_key, of_value = (torch.empty_like(each) for each in (query, key, value))
        of_bias = torch.zeros_like(bias) if ctx.needs_input_grad[4] else None
        # What a row's probabilities must add up to takes from each: sum of dP * P, which is the sum of dO * O.
        rows = (grad.float() * found.float()).sum(-1, keepdim=True)
        for texts in _parts(kept):
            scores = _scores(query[texts], key[texts], mask, bias, texts, ctx.scale)
            probabilities = scores.sub_(normalizers[texts]).exp_()
            wanted = (grad[texts] @ value[texts].transpose(-1, -2)).float().div_(ctx.share).mul_(kept[texts])
            of_scores = wanted.sub_(rows[texts]).mul_(probabilities)
            if of_bias is not None:
                of_bias += of_scores.sum(0)
            of_scores = of_scores.to(query.dtype)
            of_query[texts] = (of_scores @ key[texts]).mul_(ctx.scale)
            of_key[texts] = (of_scores.transpose(-1, -2) @ query[texts]).mul_(ctx.scale)
            dropped = probabilities.mul_(kept[texts]).to(grad.dtype)
            of_value[texts] = (dropped.transpose(-1, -2) @ grad[texts]).div_(ctx.share)
        return of_query, of_key, of_value, None, of_bias, None, None, None


def _parts(kept: Tensor) -> Iterator[slice]:
    """Return slices of a batch, of as many texts as are scored at a time."""
    size = max(1, _SCORES // math.prod(kept.shape[1:]))
    return (slice(start, start + size) for start in range(0, len(kept), size))


def _scores(query: Tensor, key: Tensor, mask: Tensor | None, bias: Tensor | None, texts: slice, scale: float) -> Tensor:
    """Return the scores of some texts in float32; ``mask`` is False on what is not read, or is added."""
    scores = (query @ key.transpose(-1, -2)).float().mul_(scale)
    if bias is not None:
        scores.add_(bias)
    if mask is None:
        return scores
    part = mask[texts] if len(mask) > 1 else mask
    return scores.masked_fill_(~part, -math.inf) if part.dtype == torch.bool else scores.add_(part)


AttentionInterface.register(LEAN["sdpa"], attend)
AttentionMaskInterface.register(LEAN["sdpa"], sdpa_mask)
AttentionInterface.register(LEAN[windowed.ATTENTION], partial(windowed.attend, product=lean_product))
AttentionMaskInterface.register(LEAN[windowed.ATTENTION], windowed.real_tokens)

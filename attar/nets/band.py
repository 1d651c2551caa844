"""Attention within a band and to global tokens, in blocks: linear in the length of the text, in time and in memory.

Longformer's pattern (Beltagy et al. 2020, arXiv 2004.05150, section 3.1): a token attends to the tokens that are at
most half a window away and to the global tokens, which stand at the beginning; a global token attends to all tokens.
In a text that fits into one window all attend to all, whatever it is batched with. The result is that of full
attention under this mask. The file depends on torch alone: it travels inside bundles, beside ``windowed.py``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

#: Queries of one product, at least: smaller ones do not fill the arithmetic units.
MIN_BLOCK = 64
#: In texts of up to so many blocks, one dense product under the band's mask costs no more than blocks do.
DENSE_BLOCKS = 3


@dataclass(frozen=True, kw_only=True)
class Band:
    """Who attends to whom."""

    window: int
    """Tokens that a token attends to, half of them on either side; texts of up to so many are read whole."""
    n_global: int
    """Tokens at the beginning that attend to all, and that all attend to."""

    @property
    def block(self) -> int:
        """Queries that are computed at once; with them the keys of their own block and of both neighbours."""
        return max(self.window // 2, self.n_global, MIN_BLOCK)

    def in_blocks(self, length: int) -> bool:
        """Return whether blocks are worth it. A graph that is being traced has to fit every length, and stays dense."""
        return not is_traced() and length > max(self.window, DENSE_BLOCKS * self.block)

    def allows(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return which keys the tokens at ``rows`` attend to, were none of them global: (rows, columns), bool."""
        near = (rows[:, None] - columns[None, :]).abs() <= self.window // 2
        return near | (columns < self.n_global)


@dataclass(frozen=True, kw_only=True)
class BandBias:
    """Additive scores by distance, as far as the band reads them."""

    near: Tensor
    """(H, block, 3·block): of a block's queries to the keys from one block before it to one after it."""
    to_global: Tensor
    """(H, T, global tokens)."""
    from_global: Tensor
    """(H, global tokens, T)."""


def fused_product(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    *,
    scaling: float | None,
    dropout: float,
) -> Tensor:
    """Return softmax(Q K^T · scaling + bias) V with a share of the probabilities dropped, (B, H, rows, D).

    Args:
        query: (B, H, rows, D).
        key: (B, H, columns, D).
        value: (B, H, columns, D).
        mask: (B or 1, 1, rows or 1, columns), False where nothing is read; None for all.
        bias: (1, H, rows, columns); None for none.
        scaling: of the scores, by default 1/sqrt(D).
        dropout: share of the probabilities that is dropped.
    """
    if bias is not None:
        bias = bias.to(query.dtype)
        mask = bias if mask is None else bias.masked_fill(~mask, float("-inf"))
    return scaled_dot_product_attention(query, key, value, mask, scale=scaling, dropout_p=dropout)


def is_traced() -> bool:
    """Return whether a graph is being made of what runs, for inputs of any length."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def band_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    keep: Tensor | None,
    band: Band,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    bias: BandBias | Tensor | None = None,
    of_global: tuple[Tensor, Tensor, Tensor] | None = None,
    product: Callable[..., Tensor] = fused_product,
) -> Tensor:
    """Return what full attention under the band's mask would, (B, H, T, D).

    Args:
        query: (B, H, T, D).
        key: (B, H, T, D).
        value: (B, H, T, D).
        keep: (B, T), False on padding; None for no padding.
        band: who attends to whom.
        scaling: of the scores, by default 1/sqrt(D).
        dropout: share of the attention probabilities that is dropped.
        bias: added to the scores: (1, H, T, T), or :class:`BandBias` where ``band.in_blocks(T)``.
        of_global: queries of the global tokens (B, H, global tokens, D), and the keys and values (B, H, T, D) that
            they read, from projections of their own; by default they use everybody's.
        product: what computes, with the arguments of :func:`fused_product`.
    """
    length = query.shape[2]
    attend = partial(product, scaling=scaling, dropout=dropout)
    blocks = band.in_blocks(length)
    if blocks:
        local = _in_blocks(query, key, value, keep, band, bias, attend)  # type: ignore[arg-type]
    else:
        local = attend(query, key, value, _dense(band, length, keep, query.device), bias)
    n = band.n_global
    if not n or (of_global is None and not blocks):
        return local
    own = of_global or (query[:, :, :n], key, value)
    mask = keep[:, None, None, :] if keep is not None else None
    row_bias = bias.from_global[None] if isinstance(bias, BandBias) else bias[:, :, :n] if bias is not None else None
    everywhere = attend(*own, mask, row_bias)
    return torch.cat([everywhere, local[:, :, n:]], 2)


def _dense(band: Band, length: int, keep: Tensor | None, device: torch.device) -> Tensor | None:
    """Return the mask of the whole text, (1 or B, 1, 1 or T, T); None where all attend to all."""
    mask = keep[:, None, None, :] if keep is not None else None
    if not is_traced() and length <= band.window:
        return mask
    places = torch.arange(length, device=device)
    inside = (band.allows(places, places) | (places < band.n_global)[:, None])[None, None]
    if keep is None or mask is None:
        # The comparison has to be a part of a graph that is traced.
        return inside | (places[-1] < band.window) if is_traced() else inside
    return (inside | _short(keep, band)) & _or_self(mask, places, places)


def _short(keep: Tensor, band: Band) -> Tensor:
    """Return which texts of a batch fit into one window, (B, 1, 1, 1)."""
    return (keep.sum(-1) <= band.window)[:, None, None, None]


def _in_blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    keep: Tensor | None,
    band: Band,
    bias: BandBias | None,
    attend: partial[Tensor],
) -> Tensor:
    """Return the attention of all tokens as if none of them could see everything, (B, H, T, D).

    Texts are split, not sliced: the gradient of a slice is as long as the text, and there would be one for each block.
    """
    size, n, length = band.block, band.n_global, query.shape[2]
    queries, keys, values = (states.split(size, 2) for states in (query, key, value))
    first_key, first_value = key[:, :, :n], value[:, :, :n]
    places = torch.arange(length, device=query.device)
    inside: Tensor | None = None
    found = []
    for i, block in enumerate(queries):
        near = slice(max(0, i - 1), i + 2)
        start, end = near.start * size, min(near.stop * size, length)
        rows, columns = places[i * size : (i + 1) * size], places[start:end]
        some_keys, some_values = keys[near], values[near]
        if start:  # else the global tokens are among the keys
            some_keys, some_values = (first_key, *some_keys), (first_value, *some_values)
            columns = torch.cat([places[:n], columns])
        # blocks in the middle are all alike
        if i < 3 or inside is None or inside.shape[-2:] != (len(rows), len(columns)):
            inside = band.allows(rows, columns)[None, None]
        mask = inside
        if keep is not None:
            mask = (inside | _short(keep, band)) & _or_self(keep[:, None, None, columns], rows, columns)
        near_bias = _near_bias(bias, i, size, start, end, n)
        found.append(attend(block, torch.cat(some_keys, 2), torch.cat(some_values, 2), mask, near_bias))
    return torch.cat(found, 2)


def _near_bias(bias: BandBias | None, i: int, size: int, start: int, end: int, n: int) -> Tensor | None:
    """Return the scores of the i-th block's queries by distance, (1, H, rows, keys)."""
    if bias is None:
        return None
    here = slice(i * size, (i + 1) * size)
    to_global = bias.to_global[:, here]
    before = (i - 1) * size  # the place that the first column of ``near`` stands for
    found = bias.near[:, : to_global.shape[1], start - before : end - before]
    return (torch.cat([to_global, found], -1) if start else found)[None]


def _or_self(keep: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Let padding, which nobody reads, read itself: a softmax over nothing would not be a number."""
    return keep | (rows[:, None] == columns[None, :])

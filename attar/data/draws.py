"""Seeded draws of rows, stratified where there are classes."""

import numpy as np


def draw_rows(rows: np.ndarray, strata: np.ndarray | None, size: int, seed: int, *, spare: bool) -> np.ndarray:
    """Draw ``size`` of the given row numbers, in order.

    Args:
        rows: the row numbers to draw from.
        strata: the class of each of them; the draw then has the classes in the same shares.
        size: how many to draw.
        seed: the same seed draws the same rows.
        spare: leave at least one row of every class behind; else draw at least one where ``size`` allows.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(rows))
    if strata is None:
        return np.sort(rows[order[:size]])
    classes, members, counts = np.unique(strata, return_inverse=True, return_counts=True)
    least = np.zeros_like(counts) if spare or size < len(classes) else np.ones_like(counts)
    quotas = _allocate(counts, size, least, counts - 1 if spare else counts)
    # A stable sort keeps the permuted order within a class, so that the first of each are a random draw.
    by_class = order[np.argsort(members[order], kind="stable")]
    starts = np.cumsum(counts) - counts
    places = np.arange(len(rows)) - np.repeat(starts, counts)
    return np.sort(rows[by_class[places < np.repeat(quotas, counts)]])


def _allocate(counts: np.ndarray, size: int, least: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Share ``size`` out in proportion to ``counts``, by largest remainder, within the bounds."""
    exact = counts * (size / counts.sum())
    shares = np.clip(np.floor(exact).astype(int), least, most)
    while shares.sum() < size and (shares < most).any():
        shares[np.argmax(np.where(shares < most, exact - shares, -np.inf))] += 1
    while shares.sum() > size and (shares > least).any():
        shares[np.argmin(np.where(shares > least, exact - shares, np.inf))] -= 1
    return shares

"""Which differences between methods are more than chance: a paired bootstrap over test texts and seeds."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

#: Bootstrap samples.
SAMPLES = 10_000
_AT_ONCE = 100


def text_statistics(true: Sequence[Any], predicted: Sequence[Any], kind: str) -> np.ndarray:
    """Return (N, k): the sums over texts of these columns give the headline metric (:func:`metric`).

    Args:
        true: the column ``label`` of ``predictions.parquet``.
        predicted: the column of a model there.
        kind: of the task.
    """
    if kind == "regression":
        # Pearson's r is the same about any origin, and sums of squares far from theirs cancel.
        x, y = (np.asarray(values, float) - np.mean(values) for values in (true, predicted))
        return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)
    if kind == "single-label":
        return np.array([[float(a == b), 1.0] for a, b in zip(true, predicted, strict=True)])
    if kind == "multi-label":
        pairs = ((set(a), set(b)) for a, b in zip(true, predicted, strict=True))
        return np.array([[2.0 * len(a & b), float(len(a) + len(b))] for a, b in pairs])
    rows = []
    for a, b in zip(true, predicted, strict=True):
        seen = [x == y for x, y in zip(a, b, strict=True) if y is not None]  # words that the model read
        rows.append([float(sum(seen)), float(len(seen))])
    return np.array(rows)


def metric(sums: np.ndarray, kind: str) -> np.ndarray:
    """Return accuracy, micro F1 or Pearson's r of sums (..., k) of :func:`text_statistics`."""
    if kind != "regression":
        return sums[..., 0] / np.maximum(sums[..., 1], 1e-12)
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread = np.sqrt(np.maximum((n * xx - x * x) * (n * yy - y * y), 1e-24))
    return (n * xy - x * y) / spread


def differences(
    statistics: dict[str, dict[int, np.ndarray]], kind: str, *, samples: int = SAMPLES, seed: int = 0
) -> list[dict[str, Any]]:
    """Return every pair of methods, the better one first: mean difference, its 95 % interval and p values.

    The difference is that of the headline metric. A sample draws N of N test texts, the same for all runs, and n - 1
    of n seeds, the same for both methods. One seed less makes the variance over seeds right where there are few (Rao
    and Wu 1988); of one seed, only texts are drawn. ``p`` is two-sided; ``p_holm`` is corrected for the number of
    pairs (Holm 1979).

    Args:
        statistics: by method and seed, (N, k) of :func:`text_statistics` on the same N texts.
        kind: of the task.
        samples: bootstrap samples; no p is below 2 / (samples + 1).
        seed: of the draws.
    """
    drawn = _resampled(statistics, kind, samples, seed)
    pairs = []
    for pair in combinations(statistics, 2):
        seeds = sorted(statistics[pair[0]].keys() & statistics[pair[1]].keys())
        if not seeds:
            continue
        gaps = np.stack([drawn[pair[0], s] - drawn[pair[1], s] for s in seeds], axis=1)  # (samples + 1, seeds)
        sign = -1 if gaps[0].mean() < 0 else 1  # the better of the two comes first
        pairs.append({"a": pair[::sign][0], "b": pair[::sign][1], "seeds": len(seeds), **_test(sign * gaps, seed)})
    return _holm(pairs)


def _resampled(
    statistics: dict[str, dict[int, np.ndarray]], kind: str, samples: int, seed: int
) -> dict[tuple[str, int], np.ndarray]:
    """Return by method and seed the metric on all texts, and then on every sample of them."""
    keys = [(name, s) for name, runs in statistics.items() for s in runs]
    if not keys:
        return {}
    rows = np.stack([statistics[name][s] for name, s in keys], axis=1)  # (N, runs, k)
    rng, n = np.random.default_rng(seed), len(rows)
    found = [metric(rows.sum(0), kind)[None]]
    for start in range(0, samples, _AT_ONCE):
        weights = rng.multinomial(n, np.full(n, 1 / n), size=min(_AT_ONCE, samples - start)).astype(float)
        found.append(metric(np.tensordot(weights, rows, axes=1), kind))
    by_run = np.concatenate(found).T
    return dict(zip(keys, by_run, strict=True))


def _test(gaps: np.ndarray, seed: int) -> dict[str, float]:
    mean, sampled = float(gaps[0].mean()), gaps[1:]
    samples, n = sampled.shape
    chosen = np.random.default_rng(seed + 1).integers(n, size=(samples, max(1, n - 1)))
    means = np.take_along_axis(sampled, chosen, axis=1).mean(1)
    tail = min((means <= 0).sum(), (means >= 0).sum())
    low, high = np.quantile(means, [0.025, 0.975])
    p = min(1.0, 2 * (tail + 1) / (samples + 1))
    return {"difference": mean, "low": float(low), "high": float(high), "p": float(p)}


def _holm(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    least = 0.0
    for rank, pair in enumerate(sorted(pairs, key=lambda pair: pair["p"])):
        least = max(least, min(1.0, pair["p"] * (len(pairs) - rank)))
        pair["p_holm"] = least
    return pairs

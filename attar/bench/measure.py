"""What one bundle costs: latency, throughput, memory and size, from raw text, tokenizer and engine apart."""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch

from attar.bundle import folder_bytes
from attar.data.outputs import decode
from attar.inference.predictor import Predictor, load
from attar.nets.hardware import pick_device, resolve_precision

#: Tokens a batch, padding included, of which the fastest is taken.
_TOKENS = (512, 1024, 2048, 4096, 8192, 16384)
_SINGLES = 200
_REPEATS = 5


@dataclass(frozen=True)
class Seconds:
    """Where the time of one call went."""

    tokenizer: float
    engine: float
    labels: float

    @property
    def total(self) -> float:
        """From raw text to label."""
        return self.tokenizer + self.engine + self.labels


def measure_bundle(
    path: str,
    texts: Sequence[Any],
    pairs: Sequence[str] | None = None,
    *,
    encoder: str | None = None,
    budget: float = 5.0,
) -> dict[str, Any]:
    """Load a bundle and measure it.

    Args:
        path: bundle, transformers folder, delta, or exported model.
        texts: what it reads, repeated where they are few.
        pairs: second texts.
        encoder: for a delta, where its encoder is now.
        budget: seconds for the latencies, and again for the throughput.

    Returns:
        ``bundle``, ``engine``, ``precision``, ``threads``, ``device``, ``bytes`` on disk, ``memory`` in bytes
        (``model``: what loading it added; ``peak``: of the whole process), ``tokens`` (mean of a text), ``latency`` in
        milliseconds at batch 1 (``p50``, ``p90``, ``p99``, and the medians of ``tokenizer`` and ``engine``), and
        ``throughput`` in texts a second at the best batch (``total``, ``tokenizer`` and ``engine`` alone, and the
        ``tokens_per_batch`` and ``texts`` that it was measured with).
    """
    process = psutil.Process()
    before = process.memory_info().rss
    model = load(path, encoder=encoder)
    _call(model, texts[:1], pairs[:1] if pairs is not None else None, None)  # memory is taken at the first call
    added = process.memory_info().rss - before
    latency, n = _latency(model, texts, pairs, budget)
    return {
        "bundle": path,
        "engine": model.engine.name,
        "precision": resolve_precision(pick_device(), model.bundle.precision),
        "threads": torch.get_num_threads(),
        "device": pick_device().type if model.engine.name == "torch" else "cpu",
        "bytes": folder_bytes(path) if encoder is None else folder_bytes(encoder),
        "tokens": round(float(model.encode(texts[:500], pairs and pairs[:500]).lengths.mean()), 1),
        "latency": {**latency, "texts": n},
        "throughput": _throughput(model, texts, pairs, budget, latency["p50"] / 1000),
        "memory": {"model": added, "peak": _peak()},
    }


def _latency(
    model: Predictor, texts: Sequence[Any], pairs: Sequence[str] | None, budget: float
) -> tuple[dict[str, float], int]:
    spent: list[Seconds] = []
    start = time.perf_counter()
    for i in range(3 + _SINGLES):
        row = slice(i % len(texts), i % len(texts) + 1)
        one = _call(model, texts[row], pairs[row] if pairs is not None else None, None)
        if i == 2:
            start = time.perf_counter()  # the first three warm up
        elif i > 2:
            spent.append(one)
            if time.perf_counter() - start > budget and len(spent) >= 10:
                break
    totals = np.array([one.total for one in spent]) * 1000
    found = {f"p{q}": round(float(np.percentile(totals, q)), 3) for q in (50, 90, 99)}
    for part in ("tokenizer", "engine"):
        found[part] = round(1000 * statistics.median(getattr(one, part) for one in spent), 3)
    return found, len(spent)


def _throughput(
    model: Predictor, texts: Sequence[Any], pairs: Sequence[str] | None, budget: float, single: float
) -> dict[str, Any]:
    """Fit the number of texts to the budget, choose the batch, and take medians over repeats."""
    share = budget / (_REPEATS + len(_TOKENS))
    n = min(len(texts), max(32, int(share / single)))
    while n < len(texts) and (took := _run(model, texts, pairs, n, None).total) < share / 2:
        n = min(len(texts), int(n * min(4.0, max(1.5, share / took))))
    best = min(_TOKENS, key=lambda tokens: _run(model, texts, pairs, n, tokens).engine)
    spent = [_run(model, texts, pairs, n, best) for _ in range(_REPEATS)]
    rate: Callable[[str], float] = lambda part: round(n / statistics.median(getattr(s, part) for s in spent), 1)  # noqa: E731
    return {
        "total": rate("total"),
        "tokenizer": rate("tokenizer"),
        "engine": rate("engine"),
        "tokens_per_batch": best,
        "texts": n,
    }


def _run(model: Predictor, texts: Sequence[Any], pairs: Sequence[str] | None, n: int, tokens: int | None) -> Seconds:
    return _call(model, texts[:n], pairs[:n] if pairs is not None else None, tokens)


def _call(model: Predictor, texts: Sequence[Any], pairs: Sequence[str] | None, tokens: int | None) -> Seconds:
    start = time.perf_counter()
    encoded = model.encode(texts, pairs)
    tokenized = time.perf_counter()
    logits = model.engine.score(encoded, tokens)  # in memory of the CPU, so an accelerator is done
    scored = time.perf_counter()
    decode(logits, model.task)
    return Seconds(tokenized - start, scored - tokenized, time.perf_counter() - scored)


def _peak() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

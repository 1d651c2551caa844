"""How fast a predictor is, from raw text to label, tokenization included."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from attar.inference.predictor import Predictor
from attar.nets.hardware import pick_device, resolve_precision

#: Seconds that one measurement may take beyond its warm-up.
_BUDGET = 3.0
_REPEATS = 5
_SINGLES = 30


def measure_speed(predictor: Predictor, texts: Sequence[Any], pairs: Sequence[str] | None = None) -> dict[str, Any]:
    """Return ``texts_per_second`` (many texts, length-sorted batches) and ``ms_per_text`` (one text a call).

    Both are medians over repeats after a warm-up. The number of texts is fitted to the model's speed, so that one
    repeat takes about half a second; it is stated as ``texts``.
    """
    device = pick_device()

    def run(rows: slice) -> None:
        predictor.predict(texts[rows], pairs[rows] if pairs is not None else None)
        if device.type == "cuda":
            torch.cuda.synchronize()

    singles = [slice(i % len(texts), i % len(texts) + 1) for i in range(_SINGLES)]
    for rows in singles[:3]:
        run(rows)
    single = statistics.median(_within_budget(run, singles))
    n = _fitting(run, len(texts), single)
    many = statistics.median(_within_budget(run, [slice(0, n)] * _REPEATS))
    return {
        "texts_per_second": round(n / many, 1),
        "ms_per_text": round(single * 1000, 3),
        "texts": n,
        "threads": torch.get_num_threads(),
        "precision": resolve_precision(device, predictor.bundle.precision),
        "device": device.type,
    }


def _fitting(run: Callable[[slice], None], available: int, single: float) -> int:
    """Return how many texts take about half a second, by running more and more of them (the warm-up)."""
    n = min(available, max(8, int(0.05 / single)))
    while True:
        start = time.perf_counter()
        run(slice(0, n))
        seconds = time.perf_counter() - start
        if n == available or seconds > 0.25:
            return n
        n = min(available, n * 2)


def _within_budget(run: Callable[[slice], None], calls: Sequence[slice]) -> list[float]:
    seconds: list[float] = []
    for rows in calls:
        start = time.perf_counter()
        run(rows)
        seconds.append(time.perf_counter() - start)
        if sum(seconds) > _BUDGET and len(seconds) >= 3:
            break
    return seconds

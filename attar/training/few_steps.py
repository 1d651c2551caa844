"""Notice a training that ended too early: the default epochs suit thousands of rows, not hundreds."""

import logging
from collections.abc import Sequence
from typing import Any

log = logging.getLogger("attar")

#: Fewer steps than these seldom suffice: 1,000 rows in batches of 32 for 3 epochs take 96 (benchmarks/LOG.md).
FEW_STEPS = 250


def warn_of_few_steps(curve: Sequence[dict[str, Any]], metric: str) -> list[str]:
    """Log and return a warning where few steps were trained and dev was still rising, else nothing.

    Args:
        curve: the stage's curve, as a record keeps it.
        metric: what dev is judged by, larger is better.
    """
    epochs = [point for point in curve if f"dev_{metric}" in point]
    scores = [point[f"dev_{metric}"] for point in epochs]
    if not epochs or epochs[-1]["step"] >= FEW_STEPS or any(score >= scores[-1] for score in scores[:-1]):
        return []
    warning = (
        f"training ended after {epochs[-1]['step']} steps, and its last epoch was its best on dev: more epochs or "
        "smaller batches will likely do better (--epochs, --batch-size)"
    )
    log.warning(warning)
    return [warning]

"""What a run's own model costs: the axes of quality against cost."""

from typing import Any

from attar.report import format as fmt

#: Cost by its name in records: how a heading says it.
COSTS = {
    "ms_per_text": "latency",
    "bytes": "size on disk",
    "train_seconds": "training time",
    "trained_parameters": "trained parameters",
}


def costs_of(record: dict[str, Any]) -> dict[str, float | None]:
    """Return milliseconds a text, bytes on disk, seconds of training and trained parameters of a run's own model.

    Training is that of the model alone: a teacher's answers are shared by all runs that learn from it.
    """
    model = (record.get("models") or [{}])[0]
    own = [stage for stage in record.get("stages") or [] if stage.get("role") == model.get("role")]
    moving = [n for stage in own if (n := fmt.number(stage.get("moving"))) is not None]
    return {
        "ms_per_text": fmt.number((model.get("speed") or {}).get("ms_per_text")),
        "bytes": fmt.number(model.get("bytes")),
        "train_seconds": fmt.number((record.get("timings") or {}).get("train")),
        "trained_parameters": max(moving, default=None),
    }


def said(cost: str, value: float | None) -> str:
    """Return a cost with its unit."""
    form = {"ms_per_text": fmt.millis, "bytes": fmt.size, "train_seconds": fmt.seconds}.get(cost, fmt.count)
    return form(value)

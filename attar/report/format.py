"""Human units for tables and sentences. A missing or non-finite number is a dash everywhere."""

import math
from typing import Any

DASH = "–"

_METRIC_NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "subset_accuracy": "subset accuracy",
    "entity_f1": "entity F1",
    "mcc": "MCC",
    "ece": "ECE",
    "pearson": "Pearson r",
    "spearman": "Spearman ρ",
    "mse": "MSE",
    "mae": "MAE",
}


def number(value: Any) -> float | None:
    """Return a finite float, or None for anything else (JSON lets NaN through, a chart does not)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def metric_name(metric: str) -> str:
    """Return how a metric is written in a heading."""
    return _METRIC_NAMES.get(metric, metric.replace("_", " "))


def score(value: float | None) -> str:
    """Format a metric: three decimals, fewer for errors on a large scale."""
    if value is None:
        return DASH
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


def count(value: float | None) -> str:
    """Format a count of parameters: ``23.1 M``."""
    return DASH if value is None else _scaled(value, (" k", " M", " G")).rstrip()


def size(value: float | None) -> str:
    """Format bytes on disk in decimal units: ``92 MB``."""
    return DASH if value is None else _scaled(value, (" kB", " MB", " GB"), " B")


def rate(value: float | None) -> str:
    """Format a throughput: ``1,240/s``."""
    return DASH if value is None else f"{plain_rate(value)}/s"


def plain_rate(value: float | None) -> str:
    """Format a throughput whose unit is in the heading: ``1,240``."""
    if value is None:
        return DASH
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def millis(value: float | None) -> str:
    """Format a latency: ``3.1 ms``."""
    if value is None:
        return DASH
    if value >= 1000:
        return f"{value / 1000:.1f} s"
    return f"{_three(value)} ms"


def seconds(value: float | None) -> str:
    """Format a duration: ``41 s``, ``3 min 12 s``, ``1 h 04 min``."""
    if value is None:
        return DASH
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def percent(value: float | None, digits: int = 1) -> str:
    """Format a share: ``97.3 %``."""
    return DASH if value is None else f"{100 * value:.{digits}f} %"


def share(value: float | None) -> str:
    """Format a ratio of sizes: ``12 %``, with one decimal below ten percent."""
    return percent(value, 1 if value is not None and value < 0.1 else 0)


def times(value: float | None) -> str:
    """Format a speed-up: ``41×``, ``1.8×``."""
    if value is None:
        return DASH
    return f"{value:,.0f}×" if value >= 9.95 else f"{value:.1f}×" if value >= 0.1 else f"{value:.2f}×"


def any_value(value: Any) -> str:
    """Format a fact of unknown type for a two-column list."""
    if value is None or value == "":
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return DASH if number(value) is None else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, list | tuple):
        return ", ".join(map(any_value, value)) or DASH
    return str(value)


def _scaled(value: float, units: tuple[str, ...], one: str = "") -> str:
    """Return ``value`` with up to three digits in the largest of ``units`` (thousands) that keeps it at 1 or more."""
    if abs(value) < 1000:
        return f"{value:.0f}{one}"
    for unit in units:
        value /= 1000
        if abs(value) < 999.5 or unit == units[-1]:
            break
    return f"{_three(value)}{unit}"


def _three(value: float) -> str:
    if abs(value) < 0.995:
        return f"{value:.2g}"
    return f"{value:.0f}" if abs(value) >= 99.5 else f"{value:.1f}".removesuffix(".0")

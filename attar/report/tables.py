"""The comparison that the terminal and the page both show: one row a model, with ratios against the teacher."""

from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from attar.report import format as fmt
from attar.report.losses import render_losses

#: Metrics of each kind of task: the headline, the second, the rest.
METRICS: dict[str, tuple[str, ...]] = {
    "single-label": ("accuracy", "macro_f1", "mcc", "ece"),
    "multi-label": ("micro_f1", "macro_f1", "subset_accuracy", "ece"),
    "regression": ("pearson", "spearman", "mse", "mae"),
    "token": ("accuracy", "entity_f1", "macro_f1", "ece"),
}


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """One compared model. What the record does not say is None."""

    role: str
    name: str
    split: str
    """Where the metrics come from: ``test``, or ``dev`` where there is no test split."""
    metric: str
    """Name of the headline metric."""
    value: float | None
    second_metric: str
    second: float | None
    agreement: float | None
    parameters: float | None
    parameters_without_embeddings: float | None
    bytes: float | None
    texts_per_second: float | None
    ms_per_text: float | None
    kept: float | None
    """Headline metric as a share of the teacher's; this and the following are None on the teacher's own row."""
    speedup: float | None
    size_ratio: float | None
    parameter_ratio: float | None


def comparison(record: dict[str, Any]) -> list[ComparisonRow]:
    """Return one row a model, the run's own product first."""
    split, (first, second) = split_of(record), headline_metrics(record)
    models = record.get("models") or []
    teacher = find_role(models, "teacher") or {}
    return [_row(model, teacher, split, first, second) for model in models]


def render_terminal(record: dict[str, Any]) -> Table:
    """Return the comparison as a table that fits 100 columns; of a pre-training, its losses."""
    if record.get("command") == "pretrain":
        return render_losses(record)
    first, second = headline_metrics(record)
    table = Table(
        title=Text(f"{record.get('name') or 'run'}: {split_of(record)} split"),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("model", no_wrap=True)
    heads = [fmt.metric_name(first), fmt.metric_name(second), "agrees", "params", "disk", "texts/s", "per text"]
    for head in [*heads, "kept", "faster", "size"]:
        table.add_column(head, justify="right", no_wrap=True)
    for index, row in enumerate(comparison(record)):
        table.add_row(*map(Text, _cells(row)), style="bold" if index == 0 else None)
    return table


def headline_metrics(record: dict[str, Any]) -> tuple[str, str]:
    """Return the two metrics that lead every table of this kind of task."""
    names = METRICS.get((record.get("task") or {}).get("kind") or "", METRICS["single-label"])
    split = split_of(record)
    for name in names[1:3]:
        if any(metric_of(model, split, name) is not None for model in record.get("models") or []):
            return names[0], name
    return names[0], names[1]


def split_of(record: dict[str, Any]) -> str:
    """Return ``test`` where any model was measured on it, else ``dev``."""
    return "test" if any(metrics_of(model, "test") for model in record.get("models") or []) else "dev"


def metrics_of(model: dict[str, Any], split: str) -> dict[str, Any]:
    """Return a model's metrics on a split; empty where there are none."""
    return (model.get("metrics") or {}).get(split) or {}


def metric_of(model: dict[str, Any], split: str, name: str) -> float | None:
    """Return one of a model's metrics."""
    return fmt.number(metrics_of(model, split).get(name))


def find_role(models: list[dict[str, Any]], role: str) -> dict[str, Any] | None:
    """Return the first model with a role."""
    return next((model for model in models if model.get("role") == role), None)


def _row(model: dict[str, Any], teacher: dict[str, Any], split: str, first: str, second: str) -> ComparisonRow:
    speed, teacher_speed = model.get("speed") or {}, teacher.get("speed") or {}
    value = metric_of(model, split, first)
    apart = model is not teacher

    def against(own: Any, other: Any) -> float | None:
        return _ratio(fmt.number(own), fmt.number(other)) if apart else None

    return ComparisonRow(
        role=str(model.get("role") or "model"),
        name=str(model.get("name") or ""),
        split=split,
        metric=first,
        value=value,
        second_metric=second,
        second=metric_of(model, split, second),
        agreement=fmt.number(model.get("agreement")) if apart else None,
        parameters=fmt.number(model.get("parameters")),
        parameters_without_embeddings=fmt.number(model.get("parameters_without_embeddings")),
        bytes=fmt.number(model.get("bytes")),
        texts_per_second=fmt.number(speed.get("texts_per_second")),
        ms_per_text=fmt.number(speed.get("ms_per_text")),
        kept=against(value, metric_of(teacher, split, first)),
        speedup=against(speed.get("texts_per_second"), teacher_speed.get("texts_per_second")),
        size_ratio=against(model.get("bytes"), teacher.get("bytes")),
        parameter_ratio=against(model.get("parameters"), teacher.get("parameters")),
    )


def _ratio(own: float | None, other: float | None) -> float | None:
    """Return a ratio where it means something: a correlation at or below zero has no share."""
    if own is None or other is None or other <= 0:
        return None
    return own / other


def _cells(row: ComparisonRow) -> list[str]:
    return [
        row.role,
        fmt.score(row.value),
        fmt.score(row.second),
        fmt.percent(row.agreement),
        fmt.count(row.parameters),
        fmt.size(row.bytes),
        fmt.plain_rate(row.texts_per_second),
        fmt.millis(row.ms_per_text),
        fmt.percent(row.kept),
        fmt.times(row.speedup),
        fmt.share(row.size_ratio),
    ]

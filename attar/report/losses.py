"""The losses of stages that are judged by nothing else: a pre-training's, term by term."""

import math
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from attar.report import format as fmt


@dataclass(frozen=True, kw_only=True)
class LossRow:
    """One term of one stage's loss."""

    stage: str
    name: str
    first: float | None
    """Mean over the first steps that were logged."""
    training: float | None
    """Mean over the last steps that were logged."""
    held_out: float | None
    """On the held-out documents, in the best epoch, which is the one that was kept."""


def loss_rows(record: dict[str, Any]) -> list[LossRow]:
    """Return the terms of every stage without a task, and the perplexity of masked words where it has such a term."""
    rows: list[LossRow] = []
    for stage in record.get("stages") or []:
        points = stage.get("curve") or []
        judged = [point for point in points if fmt.number(point.get("dev_loss")) is not None]
        if judged:
            best = min(judged, key=lambda point: point["dev_loss"])
            own = [_row(str(stage.get("name")), points, best, name) for name in _terms(best)]
            rows += own + [_perplexity(row) for row in own if row.name == "mlm loss"]
    return rows


def render_losses(record: dict[str, Any]) -> Table:
    """Return the terms as a table for the terminal."""
    title = Text(f"{record.get('name') or 'run'}: losses")
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("stage")
    table.add_column("loss", no_wrap=True)
    for head in ("training, first", "training, last", "held-out documents"):
        table.add_column(head, justify="right")
    for row in loss_rows(record):
        table.add_row(row.stage, row.name, *cells(row))
    return table


def cells(row: LossRow) -> list[str]:
    """Return a row's figures as strings."""
    return [fmt.score(value) for value in (row.first, row.training, row.held_out)]


def _terms(point: dict[str, Any]) -> list[str]:
    names = [key.removeprefix("dev_") for key in point if key.startswith("dev_") and key.endswith("loss")]
    return sorted(names, key=lambda name: (name != "loss", name))


def _row(stage: str, points: list[dict[str, Any]], best: dict[str, Any], name: str) -> LossRow:
    logged = [value for point in points if (value := fmt.number(point.get(name))) is not None]
    return LossRow(
        stage=stage,
        name=name.replace("_", " "),
        first=logged[0] if logged else None,
        training=logged[-1] if logged else None,
        held_out=fmt.number(best.get(f"dev_{name}")),
    )


def _perplexity(row: LossRow) -> LossRow:
    def power(value: float | None) -> float | None:
        return None if value is None or value > 50 else math.exp(value)

    return LossRow(
        stage=row.stage,
        name="perplexity of masked words",
        first=power(row.first),
        training=power(row.training),
        held_out=power(row.held_out),
    )

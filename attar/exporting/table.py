"""What the quality gate found, as a table."""

from typing import Any

from rich.table import Table


def gate_table(report: dict[str, Any]) -> Table:
    """Return the settings that were tried, one a row (:func:`attar.exporting.export.export_bundle`)."""
    metric = report["attempts"][0]["metric"]
    title = f"{report['format']} against its source on {report['validation']}; tolerance {report['tolerance']:g} points"
    table = Table(title=title, title_justify="left")
    table.add_column("setting")
    for name in (
        "largest logit difference",
        "mean",
        "same answer",
        *([f"{metric}: source", "export"] if metric else []),
    ):
        table.add_column(name, justify="right")
    table.add_column("drop", justify="right")
    table.add_column("")
    for one in report["attempts"]:
        gaps = [_number(one[name]) for name in ("max_difference", "mean_difference")]
        scores = [f"{100 * one[name]:.2f}" for name in ("source", "exported")] if metric else []
        verdict = "passed" if one["passed"] else "refused"
        table.add_row(one["setting"], *gaps, f"{100 * one['agreement']:.2f}", *scores, f"{one['drop']:.2f}", verdict)
    return table


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.2g}"

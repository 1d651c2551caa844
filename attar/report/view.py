"""A record made ready for the template: every cell a string, every chart a small table of numbers."""

import re
from typing import Any

from attar.config import dump_toml
from attar.report import figures
from attar.report import format as fmt
from attar.report.losses import cells, loss_rows
from attar.report.predictions import MAX_ROWS, Columns, disagreements, value_points
from attar.report.slices import slices_view
from attar.report.summary import cautions, findings, speed_note, summary
from attar.report.tables import METRICS, ComparisonRow, comparison, headline_metrics, metric_of, metrics_of, split_of

_LENGTH_NAMES = {"p50": "median", "p95": "95th percentile", "p99": "99th percentile", "max": "longest"}


def run_view(record: dict[str, Any], columns: Columns, key: str, most: int = MAX_ROWS) -> dict[str, Any]:
    """Return what the template shows of one run; ``charts`` is what the page's script draws.

    ``most`` is how many texts of the run the page carries.
    """
    task, data = record.get("task") or {}, record.get("data") or {}
    first, second = headline_metrics(record)
    charts = _charts(record, columns, most)
    return {
        "key": key,
        "name": str(record.get("name") or key),
        "method": method_name(record),
        "kind": task.get("kind") or "",
        "created": _moment(record.get("created")),
        "summary": summary(record),
        "findings": findings(record),
        "cautions": cautions(record),
        "split": split_of(record),
        "metric": fmt.metric_name(first),
        "second": fmt.metric_name(second),
        "rows": [row_view(row) for row in comparison(record)],
        "losses": [[row.stage, row.name, *cells(row)] for row in loss_rows(record)],
        "speed_note": speed_note(record),
        "all_metrics": _all_metrics(record),
        "per_class": _per_class(record),
        "facts": _facts(task, data),
        "row_counts": _pairs(data.get("rows")) + _pairs(data.get("tokens"), "tokens "),
        "lengths": [(_length_name(name), value) for name, value in _pairs(data.get("length"))],
        "notes": [str(note) for note in data.get("notes") or []],
        "timings": _timings(record),
        "versions": _pairs(record.get("versions")),
        "hardware": _pairs(record.get("hardware")),
        "recipe": dump_toml(_without_none(record.get("config") or {})),
        "slices": slices_view(record, columns),
        "charts": charts,
    }


def row_view(row: ComparisonRow) -> dict[str, Any]:
    """Return one model's row as strings, with the plain numbers that a table is sorted by."""
    cells = [
        (fmt.score(row.value), row.value),
        (fmt.score(row.second), row.second),
        (fmt.percent(row.agreement), row.agreement),
        (fmt.count(row.parameters), row.parameters),
        (fmt.count(row.parameters_without_embeddings), row.parameters_without_embeddings),
        (fmt.size(row.bytes), row.bytes),
        (fmt.plain_rate(row.texts_per_second), row.texts_per_second),
        (fmt.millis(row.ms_per_text), row.ms_per_text),
        (fmt.percent(row.kept), row.kept),
        (fmt.times(row.speedup), row.speedup),
        (fmt.share(row.size_ratio), row.size_ratio),
        (fmt.share(row.parameter_ratio), row.parameter_ratio),
    ]
    shown = [{"text": text, "order": "" if order is None else f"{order:.9g}"} for text, order in cells]
    return {"role": row.role, "name": row.name, "split": row.split, "cells": shown}


def method_name(record: dict[str, Any]) -> str:
    """Return the method's name where the recipe tells it, else the command's."""
    method = (record.get("config") or {}).get("method")
    if isinstance(method, dict):
        method = method.get("name") or method.get("method")
    return str(method or record.get("command") or "")


def _charts(record: dict[str, Any], columns: Columns, most: int) -> dict[str, Any]:
    return {
        "metric": fmt.metric_name(headline_metrics(record)[0]),
        "trade_offs": figures.trade_offs(record),
        "curves": figures.curves(record),
        "confusion": figures.confusion(record),
        "calibration": figures.calibration(record),
        "values": value_points(record, columns, most),
        "disagreements": disagreements(record, columns, most),
    }


def _all_metrics(record: dict[str, Any]) -> dict[str, Any] | None:
    """Return every plain metric of every model on both splits."""
    known = METRICS.get((record.get("task") or {}).get("kind") or "", ())
    rows = []
    for model in record.get("models") or []:
        for split in ("test", "dev"):
            if metrics_of(model, split):
                rows.append((model, split))
    tables = [metrics_of(model, split) for model, split in rows]
    measured = dict.fromkeys(name for table in tables for name, value in table.items() if fmt.number(value) is not None)
    names = [name for name in known if name in measured] + [name for name in measured if name not in known]
    if not names:
        return None
    body = [[str(m.get("role")), split, *(fmt.score(metric_of(m, split, name)) for name in names)] for m, split in rows]
    return {"columns": [fmt.metric_name(name) for name in names], "rows": body}


def _per_class(record: dict[str, Any]) -> dict[str, Any] | None:
    """Return the table by class: all three numbers for product and teacher, F1 alone for the baselines."""
    split, groups = split_of(record), []
    for index, model in enumerate(record.get("models") or []):
        table = metrics_of(model, split).get("per_class")
        if isinstance(table, dict) and table:
            full = index == 0 or model.get("role") == "teacher"
            groups.append((str(model.get("role")), table, ("precision", "recall", "f1") if full else ("f1",)))
    if not groups:
        return None
    rows = []
    for label, own in groups[0][1].items():
        cells = [fmt.number((table.get(label) or {}).get(key)) for _, table, keys in groups for key in keys]
        support = fmt.number((own or {}).get("support"))
        shown = [{"text": fmt.score(v), "order": "" if v is None else f"{v:.9g}"} for v in cells]
        rows.append({"label": str(label), "support": "–" if support is None else f"{support:,.0f}", "cells": shown})
    heads = {"precision": "P", "recall": "R", "f1": "F1"}
    return {
        "groups": [
            {"role": role, "span": len(keys), "heads": [heads[key] for key in keys]} for role, _, keys in groups
        ],
        "rows": rows,
    }


def _facts(task: dict[str, Any], data: dict[str, Any]) -> list[tuple[str, str]]:
    labels = [str(label) for label in task.get("labels") or []]
    shown = ", ".join(labels[:12]) + (f", … ({len(labels)} in all)" if len(labels) > 12 else "")
    facts = {
        "source": data.get("source"),
        "fingerprint": data.get("fingerprint"),
        "task": task.get("kind"),
        "text column": task.get("text"),
        "second text": task.get("pair"),
        "label column": task.get("label"),
        "labels": shown,
    }
    return [(name, fmt.any_value(value)) for name, value in facts.items() if value]


def _timings(record: dict[str, Any]) -> list[tuple[str, str]]:
    found = [(str(name), fmt.seconds(fmt.number(value))) for name, value in (record.get("timings") or {}).items()]
    for stage in record.get("stages") or []:
        name = " / ".join(str(stage[part]) for part in ("role", "name") if stage.get(part))
        found.append((f"stage: {name}", fmt.seconds(fmt.number(stage.get("seconds")))))
    return found


def _pairs(table: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Return a table's items as names and strings; a table within gets its name in front."""
    found = []
    for name, value in table.items() if isinstance(table, dict) else ():
        if isinstance(value, dict):
            found += _pairs(value, f"{prefix}{name} ")
        else:
            found.append((f"{prefix}{name}".replace("_", " "), fmt.any_value(value)))
    return found


def _moment(created: Any) -> str:
    """Return an ISO time as it is read: ``2026-01-31 09:30 UTC``."""
    return re.sub(r"T(\d\d:\d\d)\S*?(\+00:00|Z)$", r" \1 UTC", str(created or ""))


def _length_name(name: str) -> str:
    return " ".join(_LENGTH_NAMES.get(word, word) for word in name.split(" "))


def _without_none(value: Any) -> Any:
    """Return a table that TOML can hold: JSON's null is a setting left out."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value if item is not None]
    return value

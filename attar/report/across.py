"""Several runs side by side: the table, the points of the Pareto chart, and what a comparison found."""

from collections.abc import Sequence
from typing import Any

from attar.report import format as fmt
from attar.report.costs import COSTS, costs_of, said
from attar.report.grid import notes, spread, verdict
from attar.report.tables import ComparisonRow, comparison, split_of
from attar.report.view import row_view

#: Classes that the table across runs has columns for.
_MAX_CLASSES = 6


def overview(
    records: list[dict[str, Any]], views: list[dict[str, Any]], comparisons: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Return the comparison across runs: each run's product, and every teacher once.

    Args:
        records: of the runs.
        views: what the template shows of each.
        comparisons: records of ``attar compare``.
    """
    rows: list[dict[str, Any]] = []
    points: list[dict[str, Any]] = []
    teachers = set()
    products = {(record.get("name"), found[0].value) for record in records if (found := comparison(record))}
    for record, view in zip(records, views, strict=True):
        facts = view["facets"] = _facets(record, view)
        for index, row in enumerate(comparison(record)):
            identity = (row.name, row.value, row.bytes)
            here = (_last(row.name), row.value) in products  # a teacher that is one of these runs itself
            if index and (row.role != "teacher" or identity in teachers or here):
                continue
            teachers.add(identity)
            own = facts if index == 0 else facts | {"method": "teacher", "seed": ""}
            rows.append(
                row_view(row) | {"run": view["name"], "key": view["key"], "facets": own, "kind": view["method"]}
            )
            points.append(_point(record, view, row, index == 0) | own)
    metrics = list(dict.fromkeys(view["metric"] for view in views))
    seconds = {view["second"] for view in views}
    second = seconds.pop() if len(seconds) == 1 else "second"
    return {
        "rows": rows,
        "points": points,
        "metrics": metrics,
        "second": second,
        "caution": _comparable(records, metrics),
        "costs": {cost: name for cost, name in COSTS.items() if any(p[cost] for p in points)},
        "facets": {name: _choices(points, name) for name in ("method", "dataset", "seed")},
        "slices": _slices(views),
        "comparisons": [_comparison(one) for one in comparisons],
    }


def _point(record: dict[str, Any], view: dict[str, Any], row: ComparisonRow, product: bool) -> dict[str, Any]:
    costs = costs_of(record) if product else {"ms_per_text": row.ms_per_text, "bytes": row.bytes}
    costs = {cost: costs.get(cost) for cost in COSTS}
    return {
        "role": row.role,
        "key": view["key"],
        "label": view["name"] if product else _last(row.name) or "teacher",
        "quality": row.value,
        **costs,
        "said": {
            fmt.metric_name(row.metric): fmt.score(row.value),
            **{name: said(cost, costs[cost]) for cost, name in COSTS.items() if costs[cost] is not None},
            "texts a second": fmt.plain_rate(row.texts_per_second),
        },
    }


def _last(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def _facets(record: dict[str, Any], view: dict[str, Any]) -> dict[str, str]:
    """Return what runs are chosen by."""
    source = str((record.get("data") or {}).get("source") or "")
    seed = ((record.get("config") or {}).get("train") or {}).get("seed")
    return {
        "method": view["method"],
        "dataset": _last(source),
        "seed": "" if seed is None else str(seed),
    }


def _choices(points: list[dict[str, Any]], name: str) -> list[str]:
    found = {point[name] for point in points if point[name]}
    return sorted(found, key=lambda value: (len(value), value) if name == "seed" else (0, value))


def _slices(views: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the runs' products by text length and class, where all runs have the same slices."""
    tables = [(view, view["slices"]) for view in views if view["slices"]]
    heads = {tuple(row["slice"] for row in found["rows"]) for _, found in tables}
    if len(tables) < 2 or len(heads) != 1:
        return None
    classes = _classes([view for view, _ in tables])
    rows = []
    for view, found in tables:
        labels = {row["label"]: row for row in (view["per_class"] or {"rows": []})["rows"]}
        cells = [row["cells"][0] for row in found["rows"]] + [labels[c]["cells"][-1 - _after(view)] for c in classes]
        rows.append({"name": view["name"], "key": view["key"], "facets": view["facets"], "cells": cells})
    return {"metric": tables[0][1]["metric"], "lengths": [*heads.pop()], "classes": classes, "rows": rows}


def _after(view: dict[str, Any]) -> int:
    """Return how many columns follow the F1 of the run's product."""
    groups = view["per_class"]["groups"]
    return sum(group["span"] for group in groups[1:])


def _classes(views: list[dict[str, Any]]) -> list[str]:
    """Return the classes that all runs have, if they are few."""
    names = [[row["label"] for row in view["per_class"]["rows"]] if view["per_class"] else [] for view in views]
    return names[0] if len(names[0]) <= _MAX_CLASSES and all(one == names[0] for one in names) else []


def _comparison(record: dict[str, Any]) -> dict[str, Any]:
    """Return the tables of one ``attar compare``."""
    return {
        "name": record["name"],
        "metric": fmt.metric_name(record["metric"]),
        "costs": list(COSTS.values()),
        "notes": notes(record),
        "methods": [
            {
                "label": method["label"],
                "seeds": ", ".join(map(str, method["seeds"])),
                "quality": spread(method["quality"]),
                "costs": [
                    {"text": said(cost, method[cost]["mean"]), "front": method["label"] in record["fronts"][cost]}
                    for cost in COSTS
                ],
            }
            for method in record["methods"]
        ],
        "differences": [
            {
                "a": pair["a"],
                "b": pair["b"],
                "difference": f"{pair['difference']:+.3f}",
                "interval": f"{pair['low']:+.3f} to {pair['high']:+.3f}",
                "p": f"{pair['p_holm']:.3f}",
                "sure": verdict(pair),
            }
            for pair in sorted(record["differences"], key=lambda pair: (pair["p_holm"], -pair["difference"]))
        ],
    }


def _comparable(records: list[dict[str, Any]], metrics: list[str]) -> str:
    """Return why the runs may not be compared, or nothing."""
    judged = [record for record in records if record.get("models")]  # a pre-training has none
    prints = {(record.get("data") or {}).get("fingerprint") for record in judged}
    if len(metrics) > 1:
        return f"These runs are judged by different metrics ({', '.join(metrics)}): compare only like with like."
    if len(prints) > 1:
        return "These runs were measured on different data: their quality is not comparable."
    splits = {split_of(record) for record in judged}
    return "Some runs were measured on dev and some on test." if len(splits) > 1 else ""

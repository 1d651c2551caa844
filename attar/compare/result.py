"""The comparison's record: every run in a line, every method's mean and spread, differences, Pareto fronts."""

import datetime
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attar.compare.grid import Cell, Grid, budget_of
from attar.compare.significance import differences, text_statistics
from attar.config import to_table
from attar.records import SCHEMA, read_record, versions
from attar.report.costs import COSTS, costs_of
from attar.report.pareto import front
from attar.report.predictions import read_predictions
from attar.report.tables import comparison


def comparison_record(
    grid: Grid, cells: Sequence[Cell], outcomes: dict[str, dict[str, Any]], folder: Path
) -> dict[str, Any]:
    """Return the record of a comparison, finished or not, from its runs' own records."""
    done = {c.name: folder / "runs" / c.name for c in cells if outcomes.get(c.name, {}).get("status") == "done"}
    records = {name: read_record(path) for name, path in done.items()}
    runs = [_run(cell, outcomes.get(cell.name, {"status": "left out"}), records.get(cell.name)) for cell in cells]
    first = next(iter(records.values()), {})
    prints = {record["data"].get("fingerprint") for record in records.values()}
    methods = _methods(runs)
    return {
        "schema": SCHEMA,
        "command": "compare",
        "name": folder.name,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "hardware": first.get("hardware", {}),
        "grid": to_table(grid),
        "task": first.get("task", {}),
        "data": first.get("data", {}),
        "splits": {
            "seed": grid.data.get("split_seed", 0),
            "same": len(prints) == 1,
            "judged_on": runs_split(records),
            "note": "train, dev and test are the same rows in every run; the seed changes weights and order alone",
        },
        "metric": comparison(first)[0].metric if first else "",
        "budget_seconds": budget_of(grid),
        "seconds": round(sum(run["seconds"] for run in runs), 2),
        "runs": runs,
        "methods": methods,
        "differences": _differences(cells, done, records) if len(prints) == 1 else [],
        "fronts": {
            cost: [methods[i]["label"] for i in front([(m["quality"]["mean"], m[cost]["mean"]) for m in methods])]
            for cost in COSTS
        },
    }


def runs_split(records: dict[str, dict[str, Any]]) -> str:
    """Return the split that quality comes from."""
    splits = {comparison(record)[0].split for record in records.values()}
    return " and ".join(sorted(splits))


def _run(cell: Cell, outcome: dict[str, Any], record: dict[str, Any] | None) -> dict[str, Any]:
    run: dict[str, Any] = {
        "label": cell.label,
        "method": cell.method,
        "command": cell.command,
        "seed": cell.seed,
        "folder": f"runs/{cell.name}",
        "status": outcome["status"],
        "seconds": outcome.get("seconds", 0.0),
    }
    if outcome.get("error"):
        run["error"] = outcome["error"]
    if record is not None:
        row = comparison(record)[0]
        run |= {
            "quality": row.value,
            **costs_of(record),
            "delta_bytes": record["models"][0].get("delta_bytes"),
        }
    return run


def _methods(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the methods that have a finished run, the best first."""
    found = []
    for label in dict.fromkeys(run["label"] for run in runs):
        own = [run for run in runs if run["label"] == label and run["status"] == "done"]
        if own:
            numbers = {key: _spread([run.get(key) for run in own]) for key in ("quality", *COSTS, "seconds")}
            found.append({"label": label, "method": own[0]["method"], "seeds": [r["seed"] for r in own], **numbers})
    return sorted(found, key=lambda method: -(method["quality"]["mean"] or 0.0))


def _spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """Return mean and standard deviation over seeds; that of one seed is not known."""
    known = [value for value in values if value is not None]
    return {
        "mean": statistics.mean(known) if known else None,
        "std": statistics.stdev(known) if len(known) > 1 else None,
    }


def _differences(
    cells: Sequence[Cell], done: dict[str, Path], records: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    by_method: dict[str, dict[int, np.ndarray]] = {}
    for cell in cells:
        if cell.name not in done:
            continue
        columns, record = read_predictions(done[cell.name]), records[cell.name]
        role = record["models"][0]["role"]
        if role in columns:
            rows = text_statistics(columns["label"], columns[role], record["task"]["kind"])
            by_method.setdefault(cell.label, {})[cell.seed] = rows
    return differences(by_method, next(iter(records.values()))["task"]["kind"]) if by_method else []

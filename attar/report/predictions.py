"""Predictions on the test split: where two models disagree, and predicted against true values."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from attar.errors import BundleError
from attar.records import PREDICTIONS_FILE
from attar.report.format import number

#: Rows of the disagreement list that a page carries, and points of a predicted-against-true chart.
MAX_ROWS = 2000
_MAX_CHARACTERS = 600

Columns = dict[str, list[Any]]


def read_predictions(folder: Path) -> Columns:
    """Read ``predictions.parquet`` of a run's folder; empty where the run left none.

    Raises:
        BundleError: where the file is there and cannot be read.
    """
    file = folder / PREDICTIONS_FILE
    if not file.exists():
        return {}
    try:
        return pyarrow.parquet.read_table(file).to_pydict()
    except (pyarrow.ArrowException, OSError) as error:
        raise BundleError(f"{file} is not a Parquet file that can be read: {error}") from error


def disagreements(record: dict[str, Any], columns: Columns, most: int = MAX_ROWS) -> dict[str, Any] | None:
    """Return the test texts on which product and teacher differ, the ``most`` confident first.

    A run without a teacher lists the product's own mistakes instead. None where the predictions do not tell.
    """
    roles = [str(model.get("role")) for model in record.get("models") or []]
    roles = [role for role in roles if role in columns]
    if not roles or not columns.get("text"):
        return None
    product, teacher = roles[0], "teacher" if "teacher" in roles[1:] else None
    task = record.get("task") or {}
    build = _value_rows if task.get("kind") == "regression" else _label_rows
    rows = build(columns, product, teacher, _namer(task))
    rows.sort(key=lambda row: -row.pop("rank"))
    return {
        "product": product,
        "teacher": teacher,
        "total": len(rows),
        "texts": len(columns["text"]),
        "regression": task.get("kind") == "regression",
        "rows": rows[:most],
    }


def same_answer(one: Any, two: Any) -> bool:
    """Return whether two answers are the same. A word that a model did not read (None) says nothing."""
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        return all(a == b or a is None or b is None for a, b in zip(one, two, strict=True))
    return bool(one == two)


def value_points(record: dict[str, Any], columns: Columns, most: int = MAX_ROWS) -> dict[str, list[list[float]]]:
    """Return ``[true, predicted]`` pairs by role for a regression, evenly thinned to what a chart can show."""
    truth = columns.get("label")
    if (record.get("task") or {}).get("kind") != "regression" or not truth:
        return {}
    stride = -(-len(truth) // most)
    points = {}
    for role in [str(model.get("role")) for model in record.get("models") or []]:
        pairs = zip(truth[::stride], columns.get(role, [])[::stride], strict=False)
        known = [[x, y] for x, y in ((number(a), number(b)) for a, b in pairs) if x is not None and y is not None]
        if known:
            points[role] = known
    return points


def _label_rows(
    columns: Columns, product: str, teacher: str | None, name: Callable[[Any], str]
) -> list[dict[str, Any]]:
    n = len(columns["text"])
    truth = [name(v) if v is not None else None for v in columns.get("label", [None] * n)]
    own = [name(v) for v in columns[product]]
    other = [name(v) for v in columns[teacher]] if teacher else truth
    own_sure, other_sure = _column(columns, product, n), _column(columns, teacher, n)
    rows = []
    for i in range(n):
        raw = {role: columns[role][i] for role in ("label", product, teacher) if role in columns}
        if other[i] is None or own[i] == other[i] or same_answer(raw[product], raw[teacher or "label"]):
            continue
        right = "neither"
        if teacher and (other[i] == truth[i] or same_answer(raw[teacher], raw.get("label"))):
            right = "teacher"
        elif own[i] == truth[i] or same_answer(raw[product], raw.get("label")):
            right = "product"
        row = _row(columns, i, truth[i], own[i], own_sure[i], right)
        if teacher:
            row |= {"teacher": other[i], "teacher_confidence": other_sure[i]}
        rows.append(row | {"rank": (own_sure[i] or 0.0) + (other_sure[i] or 0.0)})
    return rows


def _value_rows(
    columns: Columns, product: str, teacher: str | None, name: Callable[[Any], str]
) -> list[dict[str, Any]]:
    """Return every text of a regression, to be ranked by how far the two values lie apart."""
    n = len(columns["text"])
    truth = [number(v) for v in columns.get("label", [None] * n)]
    rows = []
    for i in range(n):
        own = number(columns[product][i])
        other = number(columns[teacher][i]) if teacher else truth[i]
        if own is None or other is None or own == other:
            continue
        right, true = "neither", truth[i]
        if teacher and true is not None:
            right = "product" if abs(own - true) < abs(other - true) else "teacher"
        row = _row(columns, i, true, own, None, right)
        if teacher:
            row |= {"teacher": other, "teacher_confidence": None}
        rows.append(row | {"rank": abs(own - other)})
    return rows


def _row(columns: Columns, i: int, truth: Any, own: Any, sure: float | None, right: str) -> dict[str, Any]:
    row = {"text": _text(columns["text"][i]), "true": truth, "product": own, "confidence": sure, "right": right}
    if columns.get("pair"):
        row["pair"] = _text(columns["pair"][i])
    return row


def _column(columns: Columns, role: str | None, n: int) -> list[float | None]:
    return [number(v) for v in columns.get(f"{role}_confidence", [None] * n)]


def _namer(task: dict[str, Any]) -> Callable[[Any], str]:
    """Return how a stored label reads: ids and 0/1 vectors become label names."""
    labels = [str(label) for label in task.get("labels") or []]
    multi = task.get("kind") == "multi-label"

    def name(value: Any) -> str:
        if isinstance(value, list):
            if multi and len(value) == len(labels) and all(number(v) is not None for v in value):
                value = [label for label, v in zip(labels, value, strict=True) if v > 0.5]
            return (", " if multi else " ").join(map(name, value)) or "none"
        if value is None:
            return "–"
        if isinstance(value, int) and 0 <= value < len(labels):
            return labels[value]
        return str(value)

    return name


def _text(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    return text if len(text) <= _MAX_CHARACTERS else text[:_MAX_CHARACTERS].rstrip() + " …"

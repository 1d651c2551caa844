"""Quality by slices of the test texts: short and long ones."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from attar.report import format as fmt
from attar.report.predictions import Columns, same_answer
from attar.report.tables import comparison

_PARTS = 4
_METRICS = {"single-label": "accuracy", "regression": "mean absolute error"}
#: A slice with fewer texts says nothing.
_LEAST = 8


def length_slices(columns: Columns) -> list[tuple[str, list[int]]]:
    """Return quarters of the texts by their number of words, as names and row numbers; fewer where many are alike."""
    texts = columns.get("text") or []
    second = columns.get("pair") or [""] * len(texts)
    lengths = [_words(a) + _words(b) for a, b in zip(texts, second, strict=True)]
    ordered = sorted(lengths)
    cuts = sorted({ordered[len(ordered) * part // _PARTS] for part in range(1, _PARTS)}) if ordered else []
    bounds = [0, *cuts, max(lengths, default=0) + 1]
    found = []
    for low, high in pairwise(bounds):
        rows = [i for i, n in enumerate(lengths) if low <= n < high]
        if len(rows) >= _LEAST:
            found.append((_name(low, high, last=high == bounds[-1]), rows))
    return found


def slices_view(record: dict[str, Any], columns: Columns) -> dict[str, Any] | None:
    """Return the table of quality by length: a row a slice, a column a model. None where nothing tells."""
    models = [row.role for row in comparison(record) if row.role in columns]
    slices = length_slices(columns) if models and columns.get("label") else []
    if len(slices) < 2:
        return None
    kind = str((record.get("task") or {}).get("kind"))
    judge = _absolute_error if kind == "regression" else _right
    rows = []
    for name, chosen in slices:
        values = [judge(columns["label"], columns[role], chosen) for role in models]
        cells = [{"text": fmt.score(v), "order": "" if v is None else f"{v:.9g}"} for v in values]
        rows.append({"slice": name, "texts": f"{len(chosen):,}", "cells": cells})
    return {"metric": _METRICS.get(kind, "share of texts that are wholly right"), "models": models, "rows": rows}


def _right(true: Sequence[Any], said: Sequence[Any], rows: list[int]) -> float:
    return sum(same_answer(true[i], said[i]) for i in rows) / len(rows)


def _words(text: Any) -> int:
    return len(text if isinstance(text, list) else str(text or "").split())


def _absolute_error(true: Sequence[Any], said: Sequence[Any], rows: list[int]) -> float | None:
    pairs = [(fmt.number(true[i]), fmt.number(said[i])) for i in rows]
    known = [abs(a - b) for a, b in pairs if a is not None and b is not None]
    return sum(known) / len(known) if known else None


def _name(low: int, high: int, *, last: bool) -> str:
    if last:
        return f"{low:,} words and more"
    return f"up to {high - 1:,} words" if low == 0 else f"{low:,} to {high - 1:,} words"

"""Predictions for a table of rows: the scorer that files and Ray share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from attar.data.cells import empty_rows, is_list, is_string
from attar.data.outputs import decode, probabilities
from attar.data.task import Task
from attar.errors import ConfigError, DataError, nearest
from attar.inference.predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What is read from a table and what is written of it."""

    text: str
    pair: str | None = None
    keep: tuple[str, ...]
    """Columns that are handed on beside the predictions."""
    scores: bool = False
    """Add the probability of every label, as ``p_LABEL``."""

    @property
    def read(self) -> tuple[str, ...]:
        """The columns that the model reads."""
        return (self.text,) if self.pair is None else (self.text, self.pair)


def choose_columns(
    schema: pa.Schema,
    task: Task,
    where: str,
    *,
    text: str | None = None,
    pair: str | None = None,
    keep: Sequence[str] = (),
    scores: bool = False,
) -> Columns:
    """Decide which columns are read and written.

    Args:
        schema: columns of the data.
        task: the model's task; its column names are the defaults.
        where: the data, for messages.
        text: column of the text; a data set of one column ``text`` (plain text) needs no name.
        pair: column of the second text.
        keep: columns to hand on; by default the texts.
        scores: whether probabilities by label are wanted.

    Raises:
        DataError: where a column is missing or holds no texts.
        ConfigError: where columns of predictions would collide with kept ones, or the task has no probabilities.
    """
    plain = schema.names == ["text"] and text is None
    chosen = Columns(text="text" if plain else text or task.text, pair=pair or task.pair, keep=(), scores=scores)
    for name in (*chosen.read, *keep):
        if name not in schema.names:
            found = ", ".join(schema.names)
            raise DataError(f"{where}: expected a column {name!r}, found {found}{nearest(name, schema.names)}")
    for name in chosen.read:
        _check_type(schema.field(name).type, name, task, where)
    kept = tuple(dict.fromkeys(keep or chosen.read))
    if scores and task.kind in ("regression", "token"):
        raise ConfigError(f"--scores gives a probability a label for every text; a {task.kind} model has none")
    clash = sorted(set(kept) & set(output_schema(task, scores=scores).names))
    if clash:
        raise ConfigError(f"--keep names {clash[0]!r}, which is a column of predictions; rename it in {where}")
    return Columns(text=chosen.text, pair=chosen.pair, keep=kept, scores=scores)


def _check_type(found: pa.DataType, name: str, task: Task, where: str) -> None:
    token = task.kind == "token"
    fits = is_list(found) and is_string(found.value_type) if token else is_string(found)
    if not fits and not pa.types.is_null(found):
        wanted = "lists of words (JSON Lines or Parquet)" if token else "text"
        raise DataError(f"{where}: expected {wanted} in column {name!r}, found {found}; name another (--text, --pair)")


def output_schema(task: Task, *, scores: bool) -> pa.Schema:
    """Return the columns of predictions: ``prediction``, ``confidence``, and with ``scores`` ``p_LABEL`` a label."""
    many = task.kind in ("multi-label", "token")
    label = pa.float64() if task.kind == "regression" else pa.list_(pa.string()) if many else pa.string()
    confidence = pa.list_(pa.float64()) if task.kind == "token" else pa.float64()
    fields = [("prediction", label), ("confidence", confidence)]
    fields += [(f"p_{name}", pa.float64()) for name in task.labels] if scores else []
    return pa.schema(fields)


def bad_rows(table: pa.Table, columns: Columns) -> np.ndarray:
    """Mark the rows without a text (or a second text): null, NaN, white space only, an empty list."""
    marks = [empty_rows(table.column(name)) for name in columns.read]
    return np.logical_or.reduce(marks)


def bad_row_error(table: pa.Table, row: int, number: int, columns: Columns, where: str) -> DataError:
    """Return the error for one bad row.

    Args:
        table: where the row lies.
        row: its place in the table.
        number: what the user calls it, from 1.
        columns: what is read.
        where: the data.
    """
    name = next(n for n in columns.read if empty_rows(table.column(n).slice(row, 1)).any())
    found = repr(table.column(name)[row].as_py())
    found = found if len(found) <= 40 else f"{found[:37]}..."
    return DataError(
        f"{where}, row {number}: expected a text in column {name!r}, found {found}; mend it, or --skip-bad-rows"
    )


def score_table(model: Predictor, table: pa.Table, columns: Columns, bad: np.ndarray) -> pa.Table:
    """Return the kept columns with a prediction for every row; bad rows have nulls in all columns of predictions.

    Args:
        model: the predictor.
        table: rows; texts of one call are batched by length.
        columns: what is read and written.
        bad: (N,) rows that are not predicted (:func:`bad_rows`).
    """
    good = table.select(list(columns.read)).filter(pa.array(~bad))
    values = _predict(model, [good.column(name).to_pylist() for name in columns.read], columns.scores)
    places = pa.array(np.cumsum(~bad) - 1, mask=bad)
    schema = output_schema(model.task, scores=columns.scores)
    made = [pa.array(found, field.type).take(places) for found, field in zip(values, schema, strict=True)]
    kept = table.select(list(columns.keep))
    return pa.table([*kept.columns, *made], names=[*kept.column_names, *schema.names])


def _predict(model: Predictor, texts: list[list[Any]], scores: bool) -> list[Any]:
    """Return the columns of predictions: for millions of rows, without an object and a dictionary for each."""
    if model.task.kind == "token":
        found = model.predict(*texts)
        return [[one.label for one in found], [one.confidence for one in found]]
    if not texts[0]:
        return [[]] * len(output_schema(model.task, scores=scores))
    logits = model.logits(*texts)
    return [*decode(logits, model.task), *(probabilities(logits, model.task.kind).T if scores else [])]

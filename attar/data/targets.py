"""The label column: which labels there are, and what each row's is in the canonical form.

Labels are compared by name, so that ``1``, ``1.0`` and ``"1"`` in different files are one label.
"""

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from attar.data.cells import Mask, class_names, column_of, empty_rows, is_list, list_lengths, null_items, to_floats
from attar.data.columns import Columns
from attar.errors import DataError

_MANY_LABELS = 50


@dataclass(frozen=True, kw_only=True)
class Part:
    """A split, what to call it in errors, and its rows that will be dropped."""

    rows: Dataset
    where: str
    skip: Mask


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The label names in the order of the model's outputs."""

    names: tuple[str, ...]
    indicators: bool = False
    """Whether the file's lists are rows of 0 and 1 already, one number a label."""


def missing_labels(rows: Dataset, names: tuple[str, ...]) -> Mask:
    """Mark the rows that lack one of these labels. A list may be empty: it means that no label applies."""
    found = np.zeros(len(rows), bool)
    for name in names:
        column = column_of(rows, name)
        if is_list(column.type):
            for start, chunk in _chunks(column):
                found[start : start + len(chunk)] |= pc.is_null(chunk).to_numpy(zero_copy_only=False) | null_items(
                    chunk
                )
        else:
            found |= empty_rows(column)
            if class_names(rows, name):  # the hub writes -1 for a label that is kept secret
                found |= pc.less(column, 0).fill_null(True).to_numpy()
    return found


def learn_labels(part: Part, columns: Columns) -> Labels:
    """Return the labels of the training split.

    Raises:
        DataError: where there are too few labels to learn from, or so many that the column is no label.
    """
    if columns.kind == "regression" or (columns.kind == "multi-label" and not _holds_lists(part.rows, columns)):
        return Labels(names=columns.label)
    name = columns.label[0]
    width = _indicator_width(part, columns)
    if width:
        return Labels(names=tuple(map(str, range(width))), indicators=True)
    present: set[str] = set()
    for start, chunk in _chunks(column_of(part.rows, name)):
        kept = chunk.filter(pa.array(~part.skip[start : start + len(chunk)]))
        names = _names(kept.flatten() if is_list(kept.type) else kept, class_names(part.rows, name))
        present.update(names.unique().drop_null().to_pylist())
    _check_labels(part, columns, present)
    declared = class_names(part.rows, name)
    return Labels(names=tuple(declared if declared else sorted(present, key=_natural)))


def encode_labels(part: Part, columns: Columns, labels: Labels) -> pa.Array:
    """Return the canonical label of every row (anything for the rows that will be dropped).

    Raises:
        DataError: naming the first row whose label the training split lacks or that is no number.
    """
    name = columns.label[0]
    if columns.kind == "regression":
        return pa.array(to_floats(column_of(part.rows, name), name, part.where, part.skip))
    if columns.kind == "token":
        return _encode_tags(part, columns, labels)
    if columns.kind == "single-label":
        chunks = _chunks(column_of(part.rows, name))
        parts = [_ids(part, columns, labels, chunk, start) for start, chunk in chunks]
        return pa.concat_arrays([pa.array([], pa.int64()), *parts])
    if labels.indicators:
        matrix = _read_indicators(part, columns, labels)
    elif _holds_lists(part.rows, columns):
        matrix = _encode_lists(part, columns, labels)
    else:
        matrix = _encode_flags(part, columns)
    offsets = pa.array(np.arange(len(matrix) + 1, dtype=np.int32) * matrix.shape[1])
    return pa.ListArray.from_arrays(offsets, pa.array(matrix.ravel()))


def _holds_lists(rows: Dataset, columns: Columns) -> bool:
    return is_list(column_of(rows, columns.label[0]).type)


def _chunks(column: pa.ChunkedArray) -> list[tuple[int, pa.Array]]:
    """Return the chunks, each with the number of its first row."""
    starts = np.cumsum([0, *map(len, column.chunks)]).tolist()
    return list(zip(starts, column.chunks, strict=False))


def _names(values: pa.Array, declared: list[str] | None) -> pa.Array:
    """Return labels as strings; whole numbers lose their point."""
    if declared and pa.types.is_integer(values.type):
        known = pc.and_(pc.greater_equal(values, 0), pc.less(values, len(declared)))
        names = pa.array(declared, pa.string()).take(pc.if_else(known, values, pa.scalar(None, values.type)))
        return pc.if_else(pc.greater_equal(values, len(declared)), values.cast(pa.string()), names)
    if pa.types.is_boolean(values.type):
        return pc.if_else(values, "True", "False")
    names = pc.utf8_trim_whitespace(values.cast(pa.string()))
    return names if pa.types.is_integer(values.type) else pc.replace_substring_regex(names, r"^(-?\d+)\.0*$", r"\1")


def _natural(name: str) -> tuple:
    """Sort ``2`` before ``10``, also within names."""
    if re.fullmatch(r"-?\d+", name):
        return (0, int(name), "")
    return (1, [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", name)], name)


def _check_labels(part: Part, columns: Columns, present: set[str]) -> None:
    name = columns.label[0]
    needed = 2 if columns.kind == "single-label" else 1
    if len(present) < needed:
        found = f"only {present.pop()!r}" if present else "none"
        raise DataError(f"{part.where}: expected at least {needed} labels in column {name!r}, found {found}")
    rows = int((~part.skip).sum())
    if len(present) > _MANY_LABELS and len(present) > rows / 2 and columns.kind != "token":
        raise DataError(
            f"{part.where}: expected a label in column {name!r}, found {len(present)} different values in {rows} rows, "
            "as in an id or a text; name the label column (--label), or use --task regression for numbers"
        )


def _ids(part: Part, columns: Columns, labels: Labels, chunk: pa.Array, start: int) -> pa.Array:
    """Return the output index of every scalar of a chunk, or of every item of a chunk of lists."""
    values = chunk.flatten() if is_list(chunk.type) else chunk
    names = _names(values, class_names(part.rows, columns.label[0]))
    ids = pc.index_in(names, value_set=pa.array(labels.names, pa.string()))
    owners = np.arange(len(chunk))
    if is_list(chunk.type):
        owners = np.repeat(owners, list_lengths(chunk))
    unknown = ids.is_null().to_numpy(zero_copy_only=False) & ~part.skip[start + owners]
    if unknown.any():
        place = int(unknown.argmax())
        known = ", ".join(labels.names[:10]) + (", ..." if len(labels.names) > 10 else "")
        raise DataError(
            f"{part.where}, row {start + owners[place] + 1}: expected a label that the training rows have ({known}), "
            f"found {names[place].as_py()!r} in column {columns.label[0]!r}; mend it, or add such rows to train"
        )
    return ids.cast(pa.int64())


def _encode_tags(part: Part, columns: Columns, labels: Labels) -> pa.Array:
    """Return lists of tag ids, one a token."""
    tokens = column_of(part.rows, columns.text)
    tags = column_of(part.rows, columns.label[0])
    lengths = np.concatenate([list_lengths(chunk) for chunk in tags.chunks])
    expected = np.concatenate([list_lengths(chunk) for chunk in tokens.chunks])
    uneven = (lengths != expected) & ~part.skip
    if uneven.any():
        row = int(uneven.argmax())
        raise DataError(
            f"{part.where}, row {row + 1}: expected one tag a token, found {expected[row]} tokens in "
            f"{columns.text!r} and {lengths[row]} tags in {columns.label[0]!r}; mend the row"
        )
    parts = [_ids(part, columns, labels, chunk, start) for start, chunk in _chunks(tags)]
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, pa.concat_arrays([pa.array([], pa.int64()), *parts]))


def _encode_flags(part: Part, columns: Columns) -> np.ndarray:
    """Return the 0.0/1.0 matrix of several label columns."""
    matrix = np.zeros((len(part.rows), len(columns.label)), np.float32)
    for i, name in enumerate(columns.label):
        column = column_of(part.rows, name)
        values = to_floats(column, name, part.where, part.skip)
        bad = ~np.isin(values, (0.0, 1.0)) & ~part.skip
        if bad.any():
            row = int(bad.argmax())
            found = repr(column[row].as_py())
            raise DataError(f"{part.where}, row {row + 1}: expected 0 or 1 in label column {name!r}, found {found}")
        matrix[:, i] = np.nan_to_num(values)
    return matrix


def _encode_lists(part: Part, columns: Columns, labels: Labels) -> np.ndarray:
    """Return the 0.0/1.0 matrix of lists of labels."""
    matrix = np.zeros((len(part.rows), len(labels.names)), np.float32)
    for start, chunk in _chunks(column_of(part.rows, columns.label[0])):
        owners = start + np.repeat(np.arange(len(chunk)), list_lengths(chunk))
        ids = _ids(part, columns, labels, chunk, start).fill_null(0).to_numpy()
        matrix[owners, ids] = 1.0
    return matrix


def _read_indicators(part: Part, columns: Columns, labels: Labels) -> np.ndarray:
    """Return the matrix that the lists are the rows of."""
    name, width = columns.label[0], len(labels.names)
    matrix = np.zeros((len(part.rows), width), np.float32)
    for start, chunk in _chunks(column_of(part.rows, name)):
        kept = np.flatnonzero(~part.skip[start : start + len(chunk)])
        lists = chunk.take(pa.array(kept))
        values = lists.flatten().to_numpy(zero_copy_only=False)
        lengths = list_lengths(lists)
        wrong = lengths != width
        wrong[np.repeat(np.arange(len(kept)), lengths)[~np.isin(values, (0, 1))]] = True
        if wrong.any():
            place = int(wrong.argmax())
            row, found = start + kept[place] + 1, lists[place].as_py()
            raise DataError(f"{part.where}, row {row}: expected {width} times 0 or 1 in column {name!r}, found {found}")
        matrix[start + kept] = values.reshape(len(kept), width)
    return matrix


def are_indicators(part: Part, columns: Columns, n: int) -> bool:
    """Return whether a column of lists has a number for each of ``n`` labels, or the labels 0, 1, ... themselves.

    Only lists of labels differ in length.
    """
    column = column_of(part.rows, columns.label[0])
    if columns.kind != "multi-label" or n < 2 or not is_list(column.type):
        return False
    kept = (chunk.filter(pa.array(~part.skip[start : start + len(chunk)])) for start, chunk in _chunks(column))
    return all((list_lengths(chunk) == n).all() for chunk in kept)


def _indicator_width(part: Part, columns: Columns) -> int:
    """Return the width of lists of 0 and 1 that are all of one length, or 0 where the lists hold labels.

    ``[0, 0, 1]`` can only be such a row: a list of labels does not name one twice. Were lists of two the labels 0 and
    1, every row would have both.
    """
    column = column_of(part.rows, columns.label[0])
    if columns.kind != "multi-label" or not is_list(column.type):
        return 0
    scalar = column.type.value_type
    if not (pa.types.is_integer(scalar) or pa.types.is_floating(scalar)):
        return 0
    if class_names(part.rows, columns.label[0]):
        return 0
    widths: set[int] = set()
    for start, chunk in _chunks(column):
        kept = chunk.filter(pa.array(~part.skip[start : start + len(chunk)]))
        widths.update(np.unique(list_lengths(kept)).tolist())
        if len(widths) > 1 or not np.isin(kept.flatten().to_numpy(zero_copy_only=False), (0, 1)).all():
            return 0
    return widths.pop() if widths and max(widths) > 1 else 0

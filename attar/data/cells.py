"""Looks at whole columns, chunk by chunk, and never at a Python list of all their values."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset

from attar.errors import DataError

Mask = np.ndarray
"""One boolean a row."""


def column_of(rows: Dataset, name: str) -> pa.ChunkedArray:
    """Return a column as it lies in the file; nothing is read yet."""
    return rows.data.column(name)


def is_list(kind: pa.DataType) -> bool:
    """Tell whether a column holds lists."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def is_string(kind: pa.DataType) -> bool:
    """Tell whether a column holds strings."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def is_number(kind: pa.DataType) -> bool:
    """Tell whether a column holds numbers or booleans."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def class_names(rows: Dataset, name: str) -> list[str] | None:
    """Return the label names that a hub dataset declares for a column (or for its list items)."""
    feature = rows.features[name]
    feature = getattr(feature, "feature", feature)
    return list(feature.names) if isinstance(feature, ClassLabel) else None


def empty_rows(column: pa.ChunkedArray) -> Mask:
    """Mark the rows that hold nothing: null, NaN, only white space, a list that is empty or has a null in it."""
    return np.concatenate([np.zeros(0, bool), *map(_empty, column.chunks)])


def _empty(chunk: pa.Array) -> Mask:
    missing = chunk.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    if is_string(chunk.type):
        blank = pc.or_(pc.utf8_is_space(chunk), pc.equal(pc.binary_length(chunk), 0))
        missing = missing | blank.fill_null(True).to_numpy(zero_copy_only=False)
    elif is_list(chunk.type):
        missing = missing | (list_lengths(chunk) == 0) | null_items(chunk)
    return missing


def null_items(chunk: pa.Array) -> Mask:
    """Mark the lists that have a null among their items."""
    found = np.zeros(len(chunk), bool)
    found[np.repeat(np.arange(len(chunk)), list_lengths(chunk))[_numpy(pc.is_null(chunk.flatten()))]] = True
    return found


def list_lengths(chunk: pa.Array) -> np.ndarray:
    """Return the length of every list; a null has none."""
    return _numpy(pc.list_value_length(chunk).fill_null(0))


def to_floats(column: pa.ChunkedArray, name: str, where: str, skip: Mask) -> np.ndarray:
    """Return numbers, or strings that hold numbers, as float64. Rows in ``skip`` are not looked at (NaN).

    Raises:
        DataError: naming the first row that holds no finite number.
    """
    values = np.full(len(column), np.nan)
    start = 0
    for chunk in column.chunks:
        part = slice(start, start + len(chunk))
        values[part] = _floats(chunk)
        bad = ~np.isfinite(values[part]) & ~skip[part]
        if bad.any():
            row = int(bad.argmax())
            found = repr(chunk[row].as_py())
            raise DataError(
                f"{where}, row {start + row + 1}: expected a number in column {name!r}, found {found}; mend it"
            )
        values[part][skip[part]] = np.nan
        start += len(chunk)
    return values


def _floats(chunk: pa.Array) -> np.ndarray:
    """Return the numbers of a chunk, NaN where there is none."""
    if is_number(chunk.type):
        return _numpy(chunk.cast(pa.float64(), safe=False).fill_null(np.nan))
    if not is_string(chunk.type):
        return np.full(len(chunk), np.nan)
    trimmed = pc.utf8_trim_whitespace(chunk)
    try:
        return _numpy(trimmed.cast(pa.float64()).fill_null(np.nan))
    except pa.ArrowInvalid:
        return np.array([_float(value) for value in trimmed.to_pylist()])


def _float(text: str | None) -> float:
    try:
        return float(text) if text is not None else np.nan
    except ValueError:
        return np.nan


def all_numeric(column: pa.ChunkedArray) -> bool:
    """Tell whether a column holds numbers only, be it as strings (empty cells aside)."""
    if not is_string(column.type):
        return is_number(column.type)
    found = False
    for chunk in column.chunks:
        filled = ~_empty(chunk)
        if np.isnan(_floats(chunk)[filled]).any():
            return False
        found = found or bool(filled.any())
    return found


def has_fractions(column: pa.ChunkedArray) -> bool:
    """Tell whether a column of numbers holds any that is not whole."""
    for chunk in column.chunks:
        values = _floats(chunk)
        values = values[np.isfinite(values)]
        if (values != np.round(values)).any():
            return True
    return False


def distinct_numbers(column: pa.ChunkedArray, most: int) -> np.ndarray:
    """Return the distinct numbers of a column in order; the search ends once there are more than ``most``."""
    found = np.array([])
    for chunk in column.chunks:
        values = _floats(chunk)
        found = np.union1d(found, values[np.isfinite(values)])
        if len(found) > most:
            break
    return found


def _numpy(values: pa.Array) -> np.ndarray:
    return values.to_numpy(zero_copy_only=False)

"""Which columns hold the text and the label, and what kind of task that makes.

What the user names is taken; what they do not is inferred from well-known names and from the values.
"""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from attar.config import DataConfig, TaskKind
from attar.data.cells import (
    all_numeric,
    class_names,
    column_of,
    distinct_numbers,
    has_fractions,
    is_list,
    is_number,
    is_string,
)
from attar.errors import DataError, nearest

_LABELS = (
    *("label", "labels", "target", "targets", "class", "category", "categories", "topic", "topics", "sentiment"),
    *("intent", "emotion", "ner_tags", "pos_tags", "tags", "tag", "upos", "xpos", "chunk_tags", "label_text"),
    *("rating", "ratings", "score", "scores", "stars", "valence", "similarity", "gold", "y"),
)
_TEXTS = (
    *("text", "sentence", "review", "review_text", "content", "body", "document", "comment", "comment_text"),
    *("message", "tweet", "post", "utterance", "description", "abstract", "title", "query", "question"),
)
_TOKENS = ("tokens", "words", "token", "word")
_PAIRS = (
    *(("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"), ("question", "sentence")),
    *(("text_a", "text_b"), ("text1", "text2"), ("text_1", "text_2"), ("sentence_a", "sentence_b")),
    *(("query", "passage"), ("query", "document"), ("question", "passage"), ("question", "answer")),
)
_IDS = ("id", "idx", "index", "guid", "uid", "uuid", "key", "url", "date", "time", "timestamp", "user", "file")
_SCALES = ("rating", "ratings", "score", "scores", "stars", "valence", "similarity")
#: Rows that are looked at where a whole column need not be.
_SAMPLE = 1_000
#: Whole numbers with more distinct values than this may be a scale.
_MANY_CLASSES = 50
_MOST_CLASSES = 10_000


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The user's columns and the kind of task they make."""

    text: str
    pair: str | None
    label: tuple[str, ...]
    kind: TaskKind
    notes: tuple[str, ...]
    """What was inferred, for the user to check."""


def infer(train: Dataset, config: DataConfig) -> Columns:
    """Decide on the columns and the kind of task.

    Raises:
        DataError: where a named column is missing, or nothing fits and a flag must decide.
    """
    for name in (config.text, config.pair, *config.label):
        if name is not None:
            require_column(train, name, config.path)
    label = config.label or _find_label(train, config)
    text, pair = _find_texts(train, config, label)
    if len({text, pair, *label}) < 2 + len(label):
        raise DataError(f"{config.path}: expected different columns as text, pair and label, found one named twice")
    kind, reason = (config.task, "") if config.task else _find_kind(train, text, label)
    _check_types(train, config.path, text, pair, label, kind)
    unused = [name for name in train.column_names if name not in (text, pair, *label)]
    named = f"text column {text!r}" if pair is None else f"text columns {text!r} and {pair!r}"
    given = config.text is not None and bool(config.label) and config.task is not None
    note = (
        f"{named}, label column{'s' if len(label) > 1 else ''} {', '.join(map(repr, label))}, {kind} task"
        f"{'' if given else ' (inferred)'}{'; not used: ' + ', '.join(map(repr, unused)) if unused else ''}"
    )
    return Columns(text=text, pair=pair, label=tuple(label), kind=kind, notes=(note, reason) if reason else (note,))


def text_column(rows: Dataset, wanted: str | None, where: str) -> str:
    """Return the column of a file that holds its documents: the wanted one, or the one that looks like it.

    Raises:
        DataError: where the wanted column is missing or holds no text, or none or several look like texts.
    """
    if wanted is not None:
        require_column(rows, wanted, where)
        if not is_string(column_of(rows, wanted).type):
            raise DataError(f"{where}: expected text in column {wanted!r}, found {column_of(rows, wanted).type}")
        return wanted
    strings = [name for name in rows.column_names if is_string(column_of(rows, name).type)]
    known = _by_name(strings, _TEXTS)
    if known:
        return known
    prose = [name for name in strings if _is_prose(rows, name)]
    if len(prose) == 1:
        return prose[0]
    raise DataError(
        f"{where}: expected one column of texts named text, document, content or the like, found "
        f"{', '.join(rows.column_names)}; name it (--column)"
    )


def require_column(rows: Dataset, name: str, where: str) -> None:
    """Check that a column is there.

    Raises:
        DataError: with the columns found and the nearest name.
    """
    if name not in rows.column_names:
        found = ", ".join(rows.column_names)
        raise DataError(f"{where}: expected a column {name!r}, found {found}{nearest(name, rows.column_names)}")


def _by_name(names: list[str], known: tuple[str, ...]) -> str | None:
    lowered = {name.lower(): name for name in reversed(names)}
    return next((lowered[name] for name in known if name in lowered), None)


def _find_label(train: Dataset, config: DataConfig) -> tuple[str, ...]:
    names = [name for name in train.column_names if name not in (config.text, config.pair)]
    found = _by_name(names, _LABELS)
    if found:
        return (found,)
    texts = {*_TEXTS, *_TOKENS, *(name for pair in _PAIRS for name in pair)}
    rest = [name for name in names if name.lower() not in texts and name.lower() not in _IDS]
    flags = [name for name in rest if _is_flag(train, name)]
    if len(flags) > 1 or len(rest) == 1:
        return tuple(flags if len(flags) > 1 else rest)
    raise DataError(
        f"{config.path}: expected a column named label, class, category, rating or the like, found "
        f"{', '.join(train.column_names)}; name the label column (--label)"
    )


def _is_flag(train: Dataset, name: str) -> bool:
    column = column_of(train, name)
    if pa.types.is_boolean(column.type):
        return True
    head = column.slice(0, _SAMPLE)
    return all_numeric(head) and all_numeric(column) and set(distinct_numbers(column, 2)) <= {0.0, 1.0}


def _find_texts(train: Dataset, config: DataConfig, label: tuple[str, ...]) -> tuple[str, str | None]:
    if config.text is not None:
        return config.text, config.pair
    names = [name for name in train.column_names if name not in (*label, config.pair)]
    if is_list(column_of(train, label[0]).type):
        lists = [name for name in names if _holds_tokens(train, name)]
        tokens = _by_name(lists, _TOKENS) or (lists[0] if len(lists) == 1 else None)
        if tokens:
            return tokens, None
    strings = [name for name in names if is_string(column_of(train, name).type)]
    if config.pair is None:
        lowered = {name.lower(): name for name in strings}
        for first, second in _PAIRS:
            if first in lowered and second in lowered:
                return lowered[first], lowered[second]
    known = _by_name(strings, _TEXTS)
    if known:
        return known, config.pair
    prose = [name for name in strings if _is_prose(train, name)]
    if len(prose) == 1:
        return prose[0], config.pair
    if len(prose) == 2 and config.pair is None:
        return prose[0], prose[1]
    raise DataError(
        f"{config.path}: expected a text column named text, sentence, review or the like, found "
        f"{', '.join(train.column_names)}; name the text column (--text), and the second of a pair (--pair)"
    )


def _holds_tokens(train: Dataset, name: str) -> bool:
    kind = column_of(train, name).type
    return is_list(kind) and is_string(kind.value_type)


def _is_prose(train: Dataset, name: str) -> bool:
    """Tell whether a string column reads like texts: letters in most cells, and several words or few repeats."""
    if name.lower() in _IDS or name.lower().endswith("_id"):
        return False
    head = pa.chunked_array([column_of(train, name).slice(0, _SAMPLE).combine_chunks()])
    letters, spaces = (pc.sum(pc.match_substring_regex(head, mark)).as_py() or 0 for mark in (r"\p{L}", r"\S\s+\S"))
    varied = len(head) < 20 or len(head.unique()) > len(head) / 5
    return letters > len(head) / 2 and (varied or spaces > len(head) / 2)


def _find_kind(train: Dataset, text: str, label: tuple[str, ...]) -> tuple[TaskKind, str]:
    """Return the kind of task and, where it was a close call, a note."""
    if len(label) > 1:
        return "multi-label", ""
    column = column_of(train, label[0])
    if is_list(column.type):
        return ("token" if _holds_tokens(train, text) else "multi-label"), ""
    numeric = class_names(train, label[0]) is None and not pa.types.is_boolean(column.type)
    if not numeric or not (all_numeric(column.slice(0, _SAMPLE)) and all_numeric(column)):
        return "single-label", ""
    if has_fractions(column):
        return "regression", ""
    values = distinct_numbers(column, _MOST_CLASSES)
    if len(values) <= _MANY_CLASSES:
        return "single-label", ""
    # Class numbers run from 0 or 1 without a gap and each comes often; what else has so many values is a scale.
    dense = values[0] in (0, 1) and values[-1] - values[0] == len(values) - 1 and len(values) <= len(column) / 5
    kind: TaskKind = "single-label" if dense and label[0].lower() not in _SCALES else "regression"
    taken = "classes" if kind == "single-label" else "a scale"
    count = f"{len(values)}" if len(values) <= _MOST_CLASSES else f"over {_MOST_CLASSES}"
    return kind, f"label column {label[0]!r} holds {count} whole numbers, taken as {taken} (--task decides otherwise)"


def _check_types(
    train: Dataset, where: str, text: str, pair: str | None, label: tuple[str, ...], kind: TaskKind
) -> None:
    """Refuse columns that cannot make this kind of task."""
    for name in filter(None, (text, pair)):
        found = column_of(train, name).type
        fits = _holds_tokens(train, name) if kind == "token" else is_string(found)
        if not fits and not pa.types.is_null(found):
            wanted = "lists of tokens (JSON Lines or Parquet)" if kind == "token" else "text"
            raise DataError(f"{where}: expected {wanted} in column {name!r}, found {found}; name another (--text)")
    lists = [is_list(column_of(train, name).type) for name in label]
    if kind == "token" and not all(lists):
        raise DataError(
            f"{where}: expected lists of tags in column {label[0]!r}, found {column_of(train, label[0]).type}"
        )
    if kind in ("single-label", "regression") and (len(label) > 1 or lists[0]):
        found = f"{len(label)} columns" if len(label) > 1 else f"lists in {label[0]!r}"
        raise DataError(f"{where}: expected one label a row for a {kind} task, found {found}; see --label and --task")
    if len(label) > 1 and any(lists):
        raise DataError(f"{where}: expected 0 or 1 in every label column, found lists; name one label column (--label)")
    for name in label:
        kind_found = column_of(train, name).type
        scalar = kind_found.value_type if is_list(kind_found) else kind_found
        if not (is_string(scalar) or is_number(scalar) or pa.types.is_null(scalar)):
            raise DataError(f"{where}: expected strings or numbers in label column {name!r}, found {kind_found}")

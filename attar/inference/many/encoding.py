"""Rows of several tasks to token ids: every text once, whatever the number of tasks that ask about it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from attar.data.encoding import Encoded, encode_texts
from attar.inference.many.rows import Asked


class Place(NamedTuple):
    """Where a row's text is among the encoded ones."""

    text: int
    starts: np.ndarray | None
    """Word tasks: the places of the words' first pieces."""
    words: np.ndarray | None
    """Word tasks: the numbers of these words."""


def encode_rows(rows: Sequence[Asked]) -> tuple[Encoded, list[Place]]:
    """Encode the texts of rows, each as its task does.

    Returns:
        The encoded texts, all different, and the place of every row.
    """
    asked: dict[tuple, dict[Any, list[int]]] = {}
    for i, row in enumerate(rows):
        bundle = row.member.predictor.bundle
        way = (bundle.task.kind == "token", row.pair is not None, bundle.max_length, bundle.long)
        content = (tuple(row.text) if way[0] else row.text, row.pair)
        asked.setdefault(way, {}).setdefault(content, []).append(i)
    texts = _Texts()
    places: list[Place | None] = [None] * len(rows)
    for (words, paired, limit, long), contents in asked.items():
        first = rows[next(iter(contents.values()))[0]].member.predictor.bundle
        singles = [list(text) if words else text for text, _ in contents]
        pairs = [pair for _, pair in contents] if paired else None
        encoded = encode_texts(singles, pairs, first.tokenizer, limit, words=words, long=long)
        texts.pad_id = first.tokenizer.pad_token_id or 0
        for number, numbers in enumerate(contents.values()):
            place = texts.add(encoded, number)
            for i in numbers:
                places[i] = place
    return texts.encoded(), places  # type: ignore[return-value]


class _Texts:
    """Encoded texts, all different."""

    def __init__(self) -> None:
        self.pad_id = 0
        self._known: dict[tuple, int] = {}
        self._columns: list[dict[str, np.ndarray]] = []

    def add(self, encoded: Encoded, row: int) -> Place:
        """Take a text over, where it is new."""
        here = slice(encoded.offsets[row], encoded.offsets[row + 1])
        columns = {name: column[here] for name, column in encoded.columns.items()}
        starts = columns.pop("word_starts", None)
        known = tuple(column.tobytes() for column in columns.values())
        if known not in self._known:
            self._known[known] = len(self._columns)
            self._columns.append(columns)
        if starts is None:
            return Place(self._known[known], None, None)
        return Place(self._known[known], np.flatnonzero(starts), encoded.words(row))

    def encoded(self) -> Encoded:
        """Return all texts in the order in which they came."""
        lengths = [len(columns["input_ids"]) for columns in self._columns]
        flat = {name: np.concatenate([columns[name] for columns in self._columns]) for name in self._columns[0]}
        return Encoded(flat, np.cumsum([0, *lengths]), self.pad_id)

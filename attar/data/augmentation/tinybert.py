"""Synthetic texts by word replacement (Jiao et al. 2020, TinyBERT, arXiv 1909.10351, Algorithm 1).

Which words may replace a word is asked of models, on a floor above (:mod:`attar.augment.candidates`). Here they are
drawn.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from datasets import Dataset

from attar.config import TinyBertAugmentation
from attar.data.augmentation.stop_words import STOP_WORDS
from attar.data.augmentation.words import split_words, words_of
from attar.data.texts import digest

Text = str | list[str]
Candidates = list[list[str]]
"""For every word of a text, the words that may replace it; none where the word stays."""

_BATCH = 256  # rows between two reports of progress


def augment(
    examples: Dataset,
    config: TinyBertAugmentation,
    candidates: Sequence[Iterable[Candidates]],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield up to ``config.n_iter`` synthetic versions of each example; the originals are not repeated.

    Each word that has candidates is replaced with ``p_replace`` by one of them, all equally likely. The versions of a
    pair change the first and the second text in turn, beside the other as it was. Texts that occur already are dropped.
    The draws depend on the text and the seed alone, and a larger ``n_iter`` adds to the versions of a smaller one.

    Args:
        examples: canonical columns ``text`` (texts or lists of words), ``pair`` (pairs only) and, where known,
            ``label``.
        config: shares and seed.
        candidates: for each text column, the candidates of every row in order.
        progress: called with (done, total) rows as the work goes on.

    Yields:
        The columns of ``examples`` named above and ``origin``, the number of the row that a text was made from.
        The label is that row's own; words are replaced one by one, so labels of words stay with their words.
    """
    columns = text_columns(examples)
    rows = examples.with_format(None)
    seen = {_digest([row[name] for name in columns]) for row in rows.select_columns(columns)}
    for number, (row, *own) in enumerate(zip(rows, *candidates, strict=True)):
        label = {"label": row["label"]} if "label" in row else {}
        for version in _versions([row[name] for name in columns], own, config):
            key = _digest(version)
            if key not in seen:
                seen.add(key)
                yield {**dict(zip(columns, version, strict=True)), **label, "origin": number}
        if progress and ((number + 1) % _BATCH == 0 or number + 1 == len(examples)):
            progress(number + 1, len(examples))


def replace_words(
    pieces: list[str], candidates: Candidates, rng: np.random.Generator, *, n: int, p_replace: float
) -> list[list[str]]:
    """Return ``n`` versions of one text, each in the pieces of :func:`text_pieces`."""
    places = [i for i, words in enumerate(candidates) if words]
    # All draws of a version lie in one row, so that asking for more versions keeps the ones that there were.
    draws = rng.random((n, 2 * len(places)))
    versions = [pieces.copy() for _ in range(n)]
    for version, at in np.argwhere(draws[:, : len(places)] < p_replace).tolist():
        words = candidates[places[at]]
        chosen = words[int(draws[version, len(places) + at] * len(words))]
        versions[version][2 * places[at] + 1] = chosen
    return versions


def text_columns(examples: Dataset) -> list[str]:
    """Return the columns whose words are replaced, each on its own."""
    return [name for name in ("text", "pair") if name in examples.column_names]


def text_pieces(text: Text) -> list[str]:
    """Split a text into gaps and words in turn, as :func:`split_words` does; a list of words has blanks for gaps."""
    if isinstance(text, str):
        return split_words(text)
    gaps = ["", *[" "] * (len(text) - 1), ""]
    return [piece for pair in zip(gaps, text, strict=False) for piece in pair] + [""]


def is_replaceable(word: str) -> bool:
    """Whether a word is one of letters alone, and not a stop word, as in the authors' script."""
    return word.isalpha() and word.lower() not in STOP_WORDS


def _versions(
    originals: list[Text], candidates: Sequence[Candidates], config: TinyBertAugmentation
) -> list[list[Text]]:
    versions = [list(originals) for _ in range(config.n_iter)]
    seed = int.from_bytes(_digest(originals))
    for side, original in enumerate(originals):
        mine = range(side, config.n_iter, len(originals))
        rng = np.random.default_rng([config.seed, seed, side])
        made = replace_words(text_pieces(original), candidates[side], rng, n=len(mine), p_replace=config.p_replace)
        for i, pieces in zip(mine, made, strict=True):
            versions[i][side] = "".join(pieces) if isinstance(original, str) else words_of(pieces)
    return versions


def _digest(texts: Sequence[Text]) -> bytes:
    text, *pair = texts
    return digest(text, str(pair[0]) if pair else None)

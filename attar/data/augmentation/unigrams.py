"""The words of each part of speech, as often as the texts have them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Unigrams:
    """The unigram distribution of every tag: its words laid end to end, each as wide as its count."""

    words: list[str]
    ends: NDArray[np.int64]
    """Where each word's stretch ends."""
    starts: NDArray[np.int64]
    """Where each tag's stretch starts."""
    totals: NDArray[np.int64]
    """How many words each tag has, with repeats."""


def build_unigrams(counts: Sequence[Mapping[str, int]]) -> Unigrams:
    """Build the distributions from the word counts of each tag.

    Words are sorted, so that a draw does not depend on the order in which they were counted.
    """
    ordered = [sorted(tag.items()) for tag in counts]
    widths = np.array([n for tag in ordered for _, n in tag], dtype=np.int64)
    totals = np.array([sum(n for _, n in tag) for tag in ordered], dtype=np.int64)
    return Unigrams(
        words=[word for tag in ordered for word, _ in tag],
        ends=np.cumsum(widths),
        starts=np.cumsum(totals) - totals,
        totals=totals,
    )


def draw_words(unigrams: Unigrams, tags: NDArray[np.int64], draws: NDArray[np.float64]) -> list[str]:
    """Return one word for each tag index, from that tag's distribution, by uniform draws from [0, 1)."""
    places = unigrams.starts[tags] + (draws * unigrams.totals[tags]).astype(np.int64)
    found = np.searchsorted(unigrams.ends, places, side="right")
    return [unigrams.words[i] for i in found.tolist()]

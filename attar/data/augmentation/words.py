"""Words of a text, for editing: nothing is lost, so an unedited text comes back character by character."""

import re

MASK = "[MASK]"
"""Neutral placeholder for a masked word; a teacher's scorer swaps in its own tokenizer's mask token."""

_WORD = re.compile(r"(\[MASK\]|\w+(?:['’-]\w+)*|[^\w\s])")


def split_words(text: str) -> list[str]:
    """Split a text into white space and words in turn: gap, word, gap, ..., word, gap.

    Words (and punctuation marks) lie at the odd places, the gaps between them, often empty, at the even ones;
    ``"".join`` gives the text back exactly.

    >>> split_words("It isn't bad.")
    ['', 'It', ' ', "isn't", ' ', 'bad', '', '.', '']
    """
    return _WORD.split(text)


def words_of(pieces: list[str]) -> list[str]:
    """Return the words alone of what :func:`split_words` returned."""
    return pieces[1::2]

"""The nearest words by word vectors: what may replace a word that the masked language model's tokenizer splits."""

from collections.abc import Sequence

import numpy as np

from attar.data.vectors import first_vectors
from attar.errors import DataError
from attar.nets.loading import load_tokenizer
from attar.nets.vocabulary import whole_words
from attar.teacher.words import word_states

#: The authors' script reads as many words of GloVe.
_FILE_WORDS = 100_000
_BATCH = 128


def nearest_words(words: Sequence[str], source: str, *, n: int) -> dict[str, list[str]]:
    """Return the ``n`` nearest words by cosine, in alphabetical order, of those of ``words`` that have a vector.

    Args:
        words: all different.
        source: ``file:PATH``, whose first 100,000 words are searched, or ``encoder:NAME``: the whole words of
            its tokenizer, each run alone. States of an encoder share a large common part; their mean is taken off.
        n: neighbours a word; the word itself, in whatever case, is none.
    """
    if not words:
        return {}
    kind, _, name = source.partition(":")
    asked, vectors, known, table = _file(name, words) if kind == "file" else _encoder(name, words)
    vectors, table = _unit(vectors), _unit(table)
    lowered = np.array([word.lower() for word in known])
    found = {}
    for start in range(0, len(asked), _BATCH):
        nearness = vectors[start : start + _BATCH] @ table.T
        for word, row in zip(asked[start : start + _BATCH], nearness, strict=True):
            row[lowered == word.lower()] = -np.inf
            best = np.argpartition(-row, min(n, len(row)) - 1)[:n]
            found[word] = sorted(known[i] for i in best if np.isfinite(row[i]))
    return found


def _file(path: str, words: Sequence[str]) -> tuple[list[str], np.ndarray, list[str], np.ndarray]:
    rows = first_vectors(path, _FILE_WORDS)
    known = [word for word in rows if word.isalpha()]
    if not known:
        raise DataError(f"{path} has a vector for none of its words of letters; expected GloVe or word2vec")
    keys = {word: word if word in rows else word.lower() for word in words}
    asked = [word for word in words if keys[word] in rows]
    vectors = [rows[keys[word]] for word in asked]
    table = np.stack([rows[word] for word in known])
    return asked, np.reshape(vectors, (len(asked), table.shape[1])), known, table


def _encoder(name: str, words: Sequence[str]) -> tuple[list[str], np.ndarray, list[str], np.ndarray]:
    known = sorted(set(whole_words(load_tokenizer(name)).values()))
    states = word_states(name, [*known, *words])
    states -= states[: len(known)].mean(0)
    return list(words), states[len(known) :], known, states[: len(known)]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

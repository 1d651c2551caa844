"""Initial word vectors of the student: from an encoder, from a file, from spaCy, or random."""

from collections.abc import Sequence

import numpy as np
from sklearn.decomposition import PCA

from attar.data.vectors import read_vectors
from attar.errors import ConfigError, DataError, MissingExtra
from attar.methods.bilstm_soft.vocabulary import PAD, SPECIAL
from attar.teacher.words import word_states

#: Standard deviation of every source's entries, close to that of word2vec's published vectors, so that one
#: learning rate and one uniform range for unknown words suit all.
_SCALE = 0.15


def word_vectors(
    source: str, words: Sequence[str], *, width: int, teacher: str | None, seed: int
) -> tuple[np.ndarray, str]:
    """Return one vector a word, float32 (V, W), and a sentence on where they are from.

    Args:
        source: see :class:`attar.methods.bilstm_soft.config.BilstmSoft`.
        words: the vocabulary in the order of its ids. Special words, and words that the source does not know, get
            uniform random vectors; the padding word gets zeros.
        width: width of vectors that are made here. Those of a file or pipeline keep their own.
        teacher: folder of the teacher, for ``source="teacher"``.
        seed: of the random vectors.

    Raises:
        ConfigError: for an unknown source, or ``teacher`` where the teacher is no bundle.
    """
    plain = [word for word in words if word not in SPECIAL]
    known = _known_vectors(source, plain, width, teacher)
    if known:
        width = len(next(iter(known.values())))
    elif source != "random":
        raise DataError(f"{source} has a vector for none of the {len(plain)} words of the training texts")
    note = f"word vectors: {source}, {len(known):,} of {len(plain):,} words, width {width}"
    return _table(words, known, width, seed), note


def _known_vectors(source: str, words: list[str], width: int, teacher: str | None) -> dict[str, np.ndarray]:
    kind, _, name = source.partition(":")
    if source == "random":
        return {}
    if source == "teacher" and teacher is None:
        raise ConfigError(
            "word vectors come from the teacher's encoder, and this teacher is score columns; "
            "set method.vectors to encoder:NAME, file:PATH or random"
        )
    encoder = vector_source(source, teacher)
    if encoder:
        return encoder_vectors(encoder, words, width)
    if kind == "file" and name:
        return read_vectors(name, set(words))
    if kind == "spacy" and name:
        return spacy_vectors(name, words)
    raise ConfigError(
        f"method.vectors expects teacher, encoder:NAME, file:PATH, spacy:PIPELINE or random; found {source!r}"
    )


def vector_source(source: str, teacher: str | None) -> str | None:
    """Return the encoder that word vectors come from; None where they come from elsewhere."""
    if source == "teacher":
        return teacher
    kind, _, name = source.partition(":")
    return name if kind == "encoder" else None


def encoder_vectors(name: str, words: Sequence[str], width: int) -> dict[str, np.ndarray]:
    """Return an encoder's states of the words (see :func:`word_states`), reduced by PCA to ``width``."""
    states = word_states(name, words)
    n = min(width, *states.shape)
    reduced = PCA(n_components=n, svd_solver="full").fit_transform(states.astype(np.float64))
    return dict(zip(words, reduced.astype(np.float32), strict=True))


def spacy_vectors(pipeline: str, words: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the vectors of a spaCy pipeline for those of the words that it knows."""
    try:
        import spacy
    except ImportError as error:
        raise MissingExtra("spacy", "spacy") from error
    try:
        vocabulary = spacy.load(pipeline).vocab
    except OSError as error:
        raise ConfigError(f"spaCy pipeline {pipeline!r} is not installed; python -m spacy download NAME") from error
    return {word: np.asarray(vocabulary[word].vector) for word in words if vocabulary[word].has_vector}


def _table(words: Sequence[str], known: dict[str, np.ndarray], width: int, seed: int) -> np.ndarray:
    """Lay vectors out by word id, scaled; what is not known is uniform with the same deviation (Tang et al., 4.2)."""
    bound = _SCALE * np.sqrt(3)
    table = np.random.default_rng(seed).uniform(-bound, bound, (len(words), width)).astype(np.float32)
    if known:
        scale = _SCALE / max(float(np.std(np.stack(list(known.values())))), 1e-12)
        for i, word in enumerate(words):
            if word in known:
                table[i] = known[word] * scale
    table[list(words).index(PAD)] = 0.0
    return table

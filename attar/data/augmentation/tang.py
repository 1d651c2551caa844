"""Synthetic texts by masking, same-tag replacement and n-gram sampling (Tang et al. 2019, arXiv 1903.12136).

Two passes over the texts: the first tags every word once and counts the words of each tag, the second edits.
Memory holds two bytes a word (its tag), the vocabulary, and a 16-byte digest a text; never the texts.
"""

import dataclasses
import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from datasets import Dataset, Value
from numpy.typing import NDArray

from attar.config import Tang
from attar.data.augmentation.pos import load_tagger
from attar.data.augmentation.store import cached
from attar.data.augmentation.unigrams import Unigrams, build_unigrams, draw_words
from attar.data.augmentation.words import MASK, split_words, words_of
from attar.errors import ConfigError

Progress = Callable[[int, int], None]
"""Called with (done, total); both passes count, so the total is twice the rows."""

LONGEST_NGRAM = 5
_BATCH = 256  # rows between two reports of progress


def augment(examples: Dataset, config: Tang, *, progress: Progress | None = None) -> Iterator[dict[str, Any]]:
    """Yield up to ``config.n_iter`` synthetic versions of each text or pair; the originals are not repeated.

    Each word is masked with ``p_mask``, or else replaced with ``p_pos`` by a word of the same part of speech drawn
    as often as the texts have it; then with ``p_ngram`` the whole text becomes 1 to 5 of its words in a row.
    Pairs cycle: the first text only, the second only, both. Texts that occur already are dropped.
    The draws for a row depend on its text and the seed alone, so the order of the rows does not matter, and a larger
    ``n_iter`` adds to the versions of a smaller one.

    Args:
        examples: canonical columns ``text``, ``pair`` (pairs only) and, where known, ``label``.
        config: shares and seed.
        progress: called with (done, total) as the work goes on.

    Yields:
        The columns of ``examples`` named above and ``origin``, the number of the row that a text was made from.
        The label is that row's own.

    Raises:
        ConfigError: where a share is out of range, or the texts are lists of tokens.
    """
    check(examples, config)
    return _generate(examples, config, progress or (lambda done, total: None))


def augmented_dataset(examples: Dataset, config: Tang, *, progress: Progress | None = None) -> Dataset:
    """Write what :func:`augment` yields to the cache and return it memory-mapped; a second call reuses the file.

    Args:
        examples: canonical columns, see :func:`augment`.
        config: shares and seed.
        progress: called with (done, total) as the work goes on; not called where the cache has the texts.

    Returns:
        The synthetic rows alone: ``text``, ``pair``, ``label`` typed as in ``examples``, and ``origin``.
    """
    check(examples, config)
    kept = examples.select_columns([name for name in ("text", "pair", "label") if name in examples.column_names])
    return cached(kept, dataclasses.asdict(config), lambda: augment(kept, config, progress=progress))


def edit_text(
    pieces: list[str],
    tags: NDArray[np.int64],
    unigrams: Unigrams,
    rng: np.random.Generator,
    *,
    n: int,
    p_mask: float,
    p_pos: float,
    p_ngram: float,
) -> list[str]:
    """Return ``n`` edited versions of one text, given as :func:`split_words` has it, and the tag of each word."""
    if not len(tags):
        return ["".join(pieces)] * n
    # All draws of a version lie in one row, so that asking for more versions keeps the ones that there were,
    # and with them what a teacher has already said of them.
    draws = rng.random((n, 2 * len(tags) + 3))
    x, choices = draws[:, : len(tags)], draws[:, len(tags) : -3]
    edited = x < p_mask + p_pos
    replaced = edited & (x >= p_mask)
    words = iter(draw_words(unigrams, np.broadcast_to(tags, x.shape)[replaced], choices[replaced]))
    versions = [pieces.copy() for _ in range(n)]
    for version, place in np.argwhere(edited).tolist():
        versions[version][2 * place + 1] = next(words) if replaced[version, place] else MASK
    lengths = np.minimum(1 + (draws[:, -3] * LONGEST_NGRAM).astype(np.int64), len(tags))
    starts = (draws[:, -2] * (len(tags) - lengths + 1)).astype(np.int64)
    for version in np.flatnonzero(draws[:, -1] < p_ngram).tolist():
        start, end = starts[version], starts[version] + lengths[version]
        versions[version] = versions[version][2 * start + 1 : 2 * end]
    return ["".join(version) for version in versions]


def check(examples: Dataset, config: Tang) -> None:
    """Refuse what cannot be augmented: see :func:`augment`."""
    for name in ("text", "pair"):
        feature = examples.features.get(name)
        if feature is not None and not (isinstance(feature, Value) and "string" in feature.dtype):
            raise ConfigError(
                f"augmentation expects single texts or pairs; column {name!r} holds {feature}; "
                "for this task use --augment tinybert, or leave augmentation out"
            )
    shares = {name: getattr(config, name) for name in ("p_mask", "p_pos", "p_ngram")}
    shares["p_mask + p_pos"] = config.p_mask + config.p_pos
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ConfigError(f"augment.{name} expects a share from 0 to 1; found {share:g}")
    if config.n_iter < 1 or config.seed < 0:
        raise ConfigError(
            f"augment expects n_iter of 1 or more and seed of 0 or more; found {config.n_iter} and {config.seed}"
        )


def _generate(examples: Dataset, config: Tang, progress: Progress) -> Iterator[dict[str, Any]]:
    columns = [name for name in ("text", "pair") if name in examples.column_names]
    tags, unigrams, seen = _tag_examples(examples, columns, config.tagger, progress)
    at = 0
    for row, example in enumerate(examples.with_format(None)):
        originals = [example[name] for name in columns]
        pieces = [split_words(text) for text in originals]
        ends = at + np.cumsum([len(words_of(side)) for side in pieces])
        row_tags = np.split(tags[at : ends[-1]].astype(np.int64), ends[:-1] - at)
        at = int(ends[-1])
        seed = [config.seed, int.from_bytes(_digest(originals))]
        for version in _versions(originals, pieces, row_tags, unigrams, seed, config):
            digest = _digest(version)
            if digest not in seen:
                seen.add(digest)
                label = {"label": example["label"]} if "label" in example else {}
                yield {**dict(zip(columns, version, strict=True)), **label, "origin": row}
        if (row + 1) % _BATCH == 0 or row + 1 == len(examples):
            progress(len(examples) + row + 1, 2 * len(examples))


def _versions(
    originals: list[str],
    pieces: list[list[str]],
    tags: list[NDArray[np.int64]],
    unigrams: Unigrams,
    seed: list[int],
    config: Tang,
) -> list[list[str]]:
    """Return ``n_iter`` versions of an example, each a list of its texts; more of them begin with the same ones."""
    cycle = [(0,)] if len(originals) == 1 else [(0,), (1,), (0, 1)]
    versions = [list(originals) for _ in range(config.n_iter)]
    for side in range(len(originals)):
        passes = [i for i in range(config.n_iter) if side in cycle[i % len(cycle)]]
        shares = {"p_mask": config.p_mask, "p_pos": config.p_pos, "p_ngram": config.p_ngram}
        rng = np.random.default_rng([*seed, side])
        edited = edit_text(pieces[side], tags[side], unigrams, rng, n=len(passes), **shares)
        for i, text in zip(passes, edited, strict=True):
            versions[i][side] = text
    return versions


def _tag_examples(
    examples: Dataset, columns: list[str], tagger: str, progress: Progress
) -> tuple[NDArray[np.uint16], Unigrams, set[bytes]]:
    """Tag every word once; return the tags in reading order, each tag's words, and the digests of the examples."""
    tag_words = load_tagger(tagger)
    ids: dict[str, int] = {}
    counts: list[Counter[str]] = []
    tags, seen = array("H"), set()
    for row, example in enumerate(examples.select_columns(columns).with_format(None)):
        texts = [example[name] for name in columns]
        seen.add(_digest(texts))
        for text in texts:
            words = words_of(split_words(text))
            for word, tag in zip(words, tag_words(words), strict=True):
                index = ids.setdefault(tag, len(ids))
                if index == len(counts):
                    counts.append(Counter())
                counts[index][word] += 1
                tags.append(index)
        if (row + 1) % _BATCH == 0:
            progress(row + 1, 2 * len(examples))
    return np.asarray(tags, dtype=np.uint16), build_unigrams(counts), seen


def _digest(texts: list[str]) -> bytes:
    """Return 16 bytes that stand for a text, or a pair, among all that were seen."""
    return hashlib.blake2b(f"{len(texts[0])}:{''.join(texts)}".encode(), digest_size=16).digest()

"""Candidates of every word of many texts: from a masked language model where a word is one piece, else from vectors."""

from collections.abc import Iterator, Sequence

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from attar.augment.masked_lm import masked_lm_candidates
from attar.augment.neighbours import nearest_words
from attar.augment.pieces import Cut, cut_texts
from attar.config import TinyBertAugmentation
from attar.data.augmentation.tinybert import Candidates, text_columns
from attar.data.texts import TextSource
from attar.nets.loading import load_tokenizer
from attar.nets.vocabulary import whole_words
from attar.teacher.signals import ShardSignals

_BATCH = 1024


def word_candidates(examples: Dataset, config: TinyBertAugmentation) -> list[Iterator[Candidates]]:
    """Return, for each text column, the candidates of every row in order, all found before the first is handed out.

    They depend on the one text alone: neither on the other side of a pair nor on the other rows.
    """
    tokenizer = load_tokenizer(config.model)
    sides = [_side(examples, name) for name in text_columns(examples)]
    source = TextSource(sides)
    likely = masked_lm_candidates(
        source, tokenizer, model=config.model, n=config.n_candidates, max_length=config.max_length
    )
    split = sorted({cut.words[i] for _, cut in _cuts(source, range(len(source)), tokenizer) for i in cut.several})
    near = nearest_words(split, vector_source(config), n=config.n_candidates)
    n = len(examples)
    return [_rows(source, range(i * n, i * n + n), tokenizer, likely, near) for i in range(len(sides))]


def vector_source(config: TinyBertAugmentation) -> str:
    """Return where word vectors come from, as :func:`nearest_words` takes it."""
    return f"encoder:{config.model}" if config.vectors == "model" else config.vectors


def carry_case(word: str, candidate: str) -> str:
    """Write a lower-case candidate as the word in whose place it comes: Film, FILM or film."""
    if not candidate.islower() or not word[:1].isupper():
        return candidate
    return candidate.upper() if word.isupper() and len(word) > 1 else candidate.capitalize()


def _side(examples: Dataset, name: str) -> Dataset:
    side = examples.select_columns([name])
    return side if name == "text" else side.rename_column(name, "text")


def _cuts(source: TextSource, rows: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[int, Cut]]:
    for start in range(0, len(rows), _BATCH):
        some = rows[start : start + _BATCH]
        yield from zip(some, cut_texts(source.take(np.array(some))[0], tokenizer), strict=True)


def _rows(
    source: TextSource,
    rows: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    likely: ShardSignals | None,
    near: dict[str, list[str]],
) -> Iterator[Candidates]:
    known = whole_words(tokenizer)
    for row, cut in _cuts(source, rows, tokenizer):
        found: Candidates = [[] for _ in cut.words]
        assert likely is not None, "a row has an answer"
        lines = likely.take(np.array([row])).astype(np.int64)
        for (word, _), ids in zip(cut.single, lines.tolist(), strict=True):
            found[word] = [carry_case(cut.words[word], known[i]) for i in ids]
        for word in cut.several:
            found[word] = [carry_case(cut.words[word], each) for each in near.get(cut.words[word], [])]
        yield found

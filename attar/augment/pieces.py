"""Texts cut by a tokenizer, and the rows that a masked language model reads: one for every masked word."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from attar.data.augmentation.tinybert import Text, is_replaceable, text_pieces
from attar.data.augmentation.words import words_of
from attar.data.encoding import Encoded
from attar.nets.loading import length_limit


@dataclass(frozen=True)
class Cut:
    """One text as a tokenizer cuts it."""

    words: list[str]
    ids: np.ndarray
    """(T,) int32, special tokens left out."""
    single: list[tuple[int, int]]
    """(word, place in ``ids``) of the replaceable words that are one piece, in order."""
    several: list[int]
    """The replaceable words that are several pieces, or unknown to the tokenizer."""


def cut_texts(texts: Sequence[Text], tokenizer: PreTrainedTokenizerBase) -> list[Cut]:
    """Cut texts, or lists of words."""
    pieces = [text_pieces(text) for text in texts]
    found = tokenizer(
        ["".join(each) for each in pieces],
        add_special_tokens=False,
        truncation=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # it would warn of texts longer than the model reads; they are cut to windows later
    )
    return [
        _cut(each, np.array(ids, np.int32), offsets, tokenizer)
        for each, ids, offsets in zip(pieces, found["input_ids"], found["offset_mapping"], strict=True)
    ]


def mask_each(cuts: Sequence[Cut], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
    """Return one row for every single-piece word: its text with the word masked and nothing else changed.

    Of a text longer than ``max_length`` (special tokens included) the row has the part around the word.
    """
    before, after = _special_ends(tokenizer)
    room = min(max_length, length_limit(tokenizer)) - len(before) - len(after)
    rows: list[np.ndarray] = []
    for cut in cuts:
        for _, place in cut.single:
            start = max(0, min(place - room // 2, len(cut.ids) - room))
            row = np.concatenate([before, cut.ids[start : start + room], after])
            row[len(before) + place - start] = tokenizer.mask_token_id
            rows.append(row)
    ids = np.concatenate([np.zeros(0, np.int32), *rows])
    return Encoded({"input_ids": ids}, np.cumsum([0, *map(len, rows)]), tokenizer.pad_token_id or 0)


def _cut(pieces: list[str], ids: np.ndarray, offsets: list[tuple[int, int]], tokenizer: PreTrainedTokenizerBase) -> Cut:
    text, words = "".join(pieces), words_of(pieces)
    single, several = [], []
    for number, places in enumerate(_places(pieces, offsets)):
        if not places or not is_replaceable(words[number]):
            continue
        start, end = offsets[places[0]]
        whole = len(places) == 1 and text[start:end].strip() == words[number]
        if whole and ids[places[0]] != tokenizer.unk_token_id:
            single.append((number, places[0]))
        else:
            several.append(number)
    # A mask that stands in the text itself must not pass for the one whose word is asked for.
    ids[ids == tokenizer.mask_token_id] = tokenizer.unk_token_id
    return Cut(words, ids, single, several)


def _places(pieces: list[str], offsets: list[tuple[int, int]]) -> Iterator[range]:
    """Yield, for every word, the places of the tokens that share a character with it."""
    at = first = 0
    for i, piece in enumerate(pieces):
        start, at = at, at + len(piece)
        if i % 2 == 0:
            continue
        while first < len(offsets) and offsets[first][1] <= start:
            first += 1
        last = first
        while last < len(offsets) and offsets[last][0] < at:
            last += 1
        yield range(first, last)


def _special_ends(tokenizer: PreTrainedTokenizerBase) -> tuple[np.ndarray, np.ndarray]:
    """Return the special tokens that a tokenizer puts before and after a text."""
    found = tokenizer("a", return_special_tokens_mask=True)
    ids, special = np.array(found["input_ids"], np.int32), np.array(found["special_tokens_mask"], bool)
    inner = np.flatnonzero(~special)
    return ids[: inner[0]], ids[inner[-1] + 1 :]

"""Texts to token ids, once, flat and memory-mapped; batches padded to their own longest row."""

import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain

import numpy as np
import torch
from datasets import Dataset, List
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.tokenization_utils_base import TruncationStrategy
from transformers.utils import PaddingStrategy

from attar.data.augmentation.words import MASK
from attar.data.batching import split_batch
from attar.data.long_texts import HEAD_TAIL, POOLS, cut_long, require_single
from attar.data.texts import TextSource

_DTYPES: dict[str, type[np.generic]] = {
    "input_ids": np.int32,
    "token_type_ids": np.int8,
    "word_starts": np.int32,
    "chunk_starts": np.int8,
}
_PAD = {"input_ids": 0, "attention_mask": 0, "token_type_ids": 0, "word_starts": 0}


class Encoded:
    """Token ids of N examples in flat arrays on disk; row i holds ``offsets[i]:offsets[i + 1]``.

    Where texts were cut into chunks, a batch has a line a chunk, and ``chunks_mean`` (or ``chunks_max``, by how their
    logits become the text's) says which of the batch's rows each chunk is from.

    Args:
        columns: flat arrays by input name: ``input_ids`` (int32), ``token_type_ids`` (int8) and, for texts given as
            words, ``word_starts`` (int32): 1 + the word's number on the first piece of each word, 0 elsewhere; for
            texts in chunks ``chunk_starts`` (int8): 1 on the first token of each chunk.
        offsets: (N + 1,) int64.
        pad_id: id that fills rows up to the longest of a batch.
        pool: "mean" or "max", how the logits of chunks become a text's.
    """

    def __init__(
        self, columns: dict[str, np.ndarray], offsets: np.ndarray, pad_id: int, pool: str | None = None
    ) -> None:
        self.columns, self.pool = columns, pool
        self.offsets = offsets
        self.lengths = np.diff(offsets)
        self._pad = {**_PAD, "input_ids": pad_id}

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """Return padded tensors (B, T) of the given rows, T being their longest length; a line a chunk in chunks."""
        real, flat, owners = self.places(rows)
        batch = {"attention_mask": torch.from_numpy(real.astype(np.int64))}
        if self.pool is not None:
            batch[f"chunks_{self.pool}"] = torch.from_numpy(owners)
        for name, column in self.columns.items():
            if name == "chunk_starts":
                continue
            padded = np.full(real.shape, self._pad[name], np.int64)
            padded[real] = column[flat]
            batch[name] = torch.from_numpy(padded)
        if "word_starts" in batch:
            batch["word_starts"] = batch["word_starts"] > 0
        return batch

    def places(self, rows: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return where a batch's tokens stand.

        Returns:
            What of the batch's (B, T) is no padding, its tokens' places in the flat arrays, and by line the place of
            its row among ``rows``.
        """
        rows = np.asarray(rows)
        flat = np.concatenate([np.arange(self.offsets[r], self.offsets[r + 1]) for r in rows])
        ends, owners = np.cumsum(self.lengths[rows]), np.arange(len(rows))
        if self.pool is not None:
            ends = np.append(np.flatnonzero(self.columns["chunk_starts"][flat])[1:], len(flat))
            owners = np.searchsorted(np.cumsum(self.lengths[rows]), ends)
        lengths = np.diff(ends, prepend=0)
        return np.arange(lengths.max())[None, :] < lengths[:, None], flat, owners

    @cached_property
    def lines(self) -> tuple[np.ndarray, np.ndarray]:
        """How many lines of a batch each row takes, and how many tokens the longest of them has."""
        if self.pool is None:
            return np.ones(len(self), np.int64), self.lengths
        starts = np.flatnonzero(self.columns["chunk_starts"])
        firsts = np.searchsorted(starts, self.offsets[:-1])
        longest = np.maximum.reduceat(np.diff(starts, append=self.offsets[-1]), firsts)
        return np.diff(firsts, append=len(starts)), longest

    def first_tokens(self) -> "Encoded":
        """Return the same rows with nothing but their first token; that of each chunk, in chunks."""
        firsts = self.offsets[:-1] if self.pool is None else np.flatnonzero(self.columns["chunk_starts"])
        columns = {name: column[firsts] for name, column in self.columns.items()}
        return Encoded(columns, np.searchsorted(firsts, self.offsets), self._pad["input_ids"], self.pool)

    def words(self, row: int) -> np.ndarray:
        """Return the numbers of the row's words that have a prediction: those neither cut off nor empty."""
        starts = self.columns["word_starts"][self.offsets[row] : self.offsets[row + 1]]
        return starts[starts > 0].astype(np.int64) - 1

    @property
    def counts(self) -> np.ndarray:
        """Lines of output of every row: one, or one a word."""
        if "word_starts" not in self.columns:
            return np.ones(len(self), np.int64)
        marks = np.concatenate([[0], np.cumsum(self.columns["word_starts"] > 0)])
        return np.diff(marks[self.offsets])

    def batches(self, max_tokens: int) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
        """Yield (row numbers, batch), longest lines first, each batch of at most ``max_tokens`` with its padding."""
        if len(self) == 0:
            return
        counts, longest = self.lines
        order = np.argsort(-longest, kind="stable")
        for piece in split_batch(longest[order], max_tokens, counts[order]):
            yield order[piece], self.batch(order[piece])


def encode(
    parts: Dataset | Sequence[Dataset], tokenizer: PreTrainedTokenizerBase, max_length: int, *, long: str = "truncate"
) -> Encoded:
    """Tokenize splits with canonical columns into one :class:`Encoded`, streaming.

    Args:
        parts: one split or several, in order.
        tokenizer: any tokenizer of transformers.
        max_length: longer inputs are cut (the longer side of a pair first).
        long: how, see :mod:`attar.data.long_texts`.

    Raises:
        ConfigError: for pairs or lists of words that would be cut in another way than at their end.

    Where the texts are lists of words, ``word_starts`` marks the first piece of each that the tokenizer kept.
    """
    parts = [parts] if isinstance(parts, Dataset) else list(parts)
    words = any(isinstance(part.features["text"], List) for part in parts)
    source = TextSource(parts)
    flat = {name: _Spool(dtype) for name, dtype in _DTYPES.items()}
    lengths: list[int] = []
    for texts, pairs in source.chunks():
        rows = tokenize(texts, pairs, tokenizer, max_length, words=words, long=long)
        lengths.extend(len(ids) for ids in rows["input_ids"])
        for name, values in rows.items():
            flat[name].extend(values)
    columns = {name: spool.array() for name, spool in flat.items() if spool.size}
    return Encoded(columns, np.cumsum([0, *lengths]), tokenizer.pad_token_id or 0, POOLS.get(long))


def encode_texts(
    texts: list,
    pairs: list | None,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    *,
    words: bool = False,
    long: str = "truncate",
) -> Encoded:
    """Tokenize a few texts in memory; the same as :func:`encode` without its files."""
    rows = tokenize(texts, pairs, tokenizer, max_length, words=words, long=long)
    columns = {name: _flat(values, _DTYPES[name]) for name, values in rows.items()}
    offsets = np.cumsum([0, *map(len, rows["input_ids"])])
    return Encoded(columns, offsets, tokenizer.pad_token_id or 0, POOLS.get(long))


def tokenize(
    texts: list,
    pairs: list | None,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    *,
    words: bool = False,
    long: str = "truncate",
) -> dict[str, list[list[int]]]:
    """Return ``input_ids`` and, where the model reads them, ``token_type_ids``; ``word_starts`` with ``words``."""
    if long in (*POOLS, HEAD_TAIL):
        require_single(long, pairs=pairs is not None, words=words)
    if not words:
        texts = _with_own_mask(texts, tokenizer)
        pairs = _with_own_mask(pairs, tokenizer) if pairs else None
    cut = long not in (*POOLS, HEAD_TAIL)
    if cut and not words and tokenizer.is_fast:
        return _tokenize_fast(texts, pairs, tokenizer, max_length)
    found = tokenizer(
        texts,
        pairs,
        truncation=cut,
        max_length=max_length,
        is_split_into_words=words,
        return_attention_mask=False,
        verbose=False,
    )
    names = [n for n in ("input_ids", "token_type_ids") if n in found and n in ("input_ids", *_segments(tokenizer))]
    rows: dict[str, list[list[int]]] = {name: found[name] for name in names}
    if not cut:
        return cut_long(rows, found, max_length, long)
    if words:
        rows["word_starts"] = [_word_starts(found.word_ids(i)) for i in range(len(texts))]
    return rows


def _tokenize_fast(
    texts: list[str], pairs: list[str] | None, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> dict[str, list[list[int]]]:
    """Do what calling the tokenizer does, without the places of tokens in the text that it also finds.

    Half of a call's time goes there, and a BiLSTM spends a third of its own on the tokenizer.
    """
    tokenizer.set_truncation_and_padding(
        PaddingStrategy.DO_NOT_PAD, TruncationStrategy.LONGEST_FIRST, max_length, 0, None, None
    )
    backend = tokenizer.backend_tokenizer
    if backend.encode_special_tokens != tokenizer.split_special_tokens:
        backend.encode_special_tokens = tokenizer.split_special_tokens
    found = backend.encode_batch_fast(texts if pairs is None else list(zip(texts, pairs, strict=True)))
    rows = {"input_ids": [one.ids for one in found]}
    if _segments(tokenizer):
        rows["token_type_ids"] = [one.type_ids for one in found]
    return rows


def _segments(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    return ("token_type_ids",) if "token_type_ids" in tokenizer.model_input_names else ()


def _with_own_mask(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Write this tokenizer's mask token where augmentation left its neutral placeholder."""
    own = tokenizer.mask_token
    return texts if own in (None, MASK) else [text.replace(MASK, own) for text in texts]


def _word_starts(word_ids: list[int | None]) -> list[int]:
    previous: list[int | None] = [None, *word_ids[:-1]]
    starts = zip(word_ids, previous, strict=True)
    return [word + 1 if word is not None and word != before else 0 for word, before in starts]


def _flat(rows: list[list[int]], dtype: np.dtype | type[np.generic]) -> np.ndarray:
    return np.fromiter(chain.from_iterable(rows), dtype)


class _Spool:
    """A growing flat array in an unnamed temporary file, read back memory-mapped; gone with the process."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self.dtype = np.dtype(dtype)
        self.size = 0
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (kept open: the map reads from it)

    def extend(self, rows: list[list[int]]) -> None:
        values = _flat(rows, self.dtype)
        self._file.write(values.tobytes())
        self.size += len(values)

    def array(self) -> np.ndarray:
        self._file.flush()
        return np.memmap(self._file, self.dtype, mode="r", shape=(self.size,))

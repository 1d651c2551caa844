"""The words that a masked language model puts in the place of a masked word, kept in the cache."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.augment.pieces import Cut, cut_texts, mask_each
from attar.data.paths import cache_root
from attar.data.texts import TextSource
from attar.errors import ModelError
from attar.nets.first_token import cut_of
from attar.nets.hardware import pick_device, resolve_precision
from attar.nets.loading import fingerprint, require_masked_lm
from attar.nets.scoring import score_encoded
from attar.nets.vocabulary import whole_words
from attar.progress import progress
from attar.teacher.cache import SHARD_ROWS, SignalCache
from attar.teacher.signals import ShardSignals

_VERSION = 1  # raise it when the same model gives other candidates than before

#: Masked words a shard of the cache: what a kill can lose.
_SHARD_WORDS = 10_000


def masked_lm_candidates(
    source: TextSource, tokenizer: PreTrainedTokenizerBase, *, model: str, n: int, max_length: int
) -> ShardSignals | None:
    """Return the ids of the ``n`` likeliest words for every single-piece word, running the model where they are new.

    A candidate is a whole word of the tokenizer: no rest of a word (``##ing``), mark, number or single letter.

    Args:
        source: texts or lists of words, one side of a pair at a time.
        tokenizer: the model's.
        model: masked language model, local folder or hub name.
        n: candidates a word.
        max_length: tokens that the model sees around the word.

    Returns:
        For every row the ids of the candidates in ascending order, one line of ``n`` for each word that
        :attr:`Cut.single` lists; None where there are no rows.
    """
    if not len(source):
        return None
    known = whole_words(tokenizer)
    if len(known) < n:
        raise ModelError(
            f"augment.n_candidates = {n} expects as many whole words in the tokenizer of {model}; found {len(known)}"
        )
    precision = resolve_precision(pick_device(), "auto")
    parts = ("masked-lm", fingerprint(model), str(n), str(max_length), precision, str(_VERSION))
    key = hashlib.blake2b("|".join(parts).encode(), digest_size=12).hexdigest()
    cache = SignalCache(cache_root() / "candidates" / key)
    digests = source.digests()
    missing = cache.missing(digests)
    if len(missing):
        asked = _Masked(require_masked_lm(model), tokenizer, list(known), n).to(pick_device())
        with progress("masked words", len(missing), unit=" texts") as bar:
            for rows, cuts in _shards(source, missing, tokenizer):
                counts = np.array([len(cut.single) for cut in cuts])
                cache.add(digests[rows], _ask(asked, cuts, max_length), counts)
                bar.update(len(rows))
    return ShardSignals(*cache.find(digests))


def _shards(
    source: TextSource, missing: np.ndarray, tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[np.ndarray, list[Cut]]]:
    """Yield (row numbers, cut texts) with about as many words as a shard should have."""
    for start in range(0, len(missing), SHARD_ROWS):
        rows = missing[start : start + SHARD_ROWS]
        cuts = cut_texts(source.take(rows)[0], tokenizer)
        shard = np.cumsum([len(cut.single) for cut in cuts]) // _SHARD_WORDS
        for part in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(shard)) + 1):
            yield rows[part], [cuts[i] for i in part]


def _ask(asked: "_Masked", cuts: Sequence[Cut], max_length: int) -> np.ndarray:
    masked = mask_each(cuts, asked.tokenizer, max_length)
    if not len(masked):
        return np.zeros((0, asked.n), np.int32)
    return score_encoded(asked, masked, read=lambda output, batch: output).astype(np.int32)


class _Masked(nn.Module):
    """The likeliest words at the one mask of every row. The head sees that place alone: over all places, the
    projection onto the vocabulary would cost more than a small encoder. So does what the last layer does behind its
    attention, where the family allows it.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, words: list[int], n: int) -> None:
        super().__init__()
        self.model, self.tokenizer, self.n = model, tokenizer, n
        self.words: Tensor
        self.register_buffer("words", torch.tensor(words))
        self._places: Tensor | None = None
        path = cut_of(model)
        cut = model.base_model.get_submodule(path) if path else model.base_model
        cut.register_forward_hook(self._keep_masked)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return ids of words, (B, n), ascending, of input (B, T)."""
        self._places = input_ids == self.tokenizer.mask_token_id
        logits = self.model(input_ids=input_ids, attention_mask=attention_mask).logits[:, 0]
        best = logits[:, self.words].topk(self.n).indices
        return self.words[best].sort().values

    def _keep_masked(self, part: nn.Module, inputs: Any, output: Any) -> Any:
        if isinstance(output, Tensor):
            return output[self._places].unsqueeze(1)  # (B, 1, W)
        output.last_hidden_state = output.last_hidden_state[self._places].unsqueeze(1)
        return output

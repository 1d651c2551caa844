"""Score texts with a frozen model, through the signal cache."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.data.encoding import Encoded, encode_texts
from attar.data.paths import cache_root
from attar.data.texts import TextSource
from attar.engines.contract import Engine
from attar.nets.hardware import pick_device, resolve_precision
from attar.nets.scoring import mean_hidden, score_encoded
from attar.process_group import barrier, rank, world_size
from attar.progress import progress
from attar.teacher.cache import SHARD_ROWS, SignalCache
from attar.teacher.signals import ShardSignals

#: How a signal is read off a model's output.
_READERS = {"logits": None, "embedding": mean_hidden}


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Everything that decides what is scored, and so the key of the cache."""

    load: Callable[[], tuple[PreTrainedModel | Engine, PreTrainedTokenizerBase]]
    """Called only where something is missing from the cache. An engine gives logits and knows its own precision."""
    fingerprint: str
    """Of weights, configuration and tokenizer."""
    signal: str
    """"logits" of the head, or "embedding": mean of the last hidden states."""
    max_length: int
    precision: str = "auto"
    words: bool = False
    """Texts are lists of words, and there is one line of output a word."""
    long: str = "truncate"
    """How texts beyond ``max_length`` are read, see :mod:`attar.data.long_texts`."""

    def score(self, parts: Sequence[Dataset], title: str) -> ShardSignals:
        """Return the signal of every row, running the model only on texts that the cache does not have.

        In a distributed run every process scores its share of what is missing and then reads the others'.
        """
        cache = SignalCache(cache_root() / "signals" / self.key())
        source = TextSource(parts)
        digests = source.digests()
        missing = cache.missing(digests)
        barrier()  # Nobody writes before everybody has seen what is missing.
        if len(missing):
            self._fill(cache, source, digests, missing, title)
        barrier()
        return ShardSignals(*cache.find(digests))

    def key(self) -> str:
        """Return the name of the cache folder: equal for equal models, settings and signals."""
        precision = resolve_precision(pick_device(), self.precision)
        parts = (self.fingerprint, self.signal, str(self.max_length), precision, str(self.words), "1")
        how = () if self.long in ("truncate", "windowed") else (self.long,)
        return hashlib.blake2b("|".join((*parts, *how)).encode(), digest_size=12).hexdigest()

    def _fill(
        self, cache: SignalCache, source: TextSource, digests: np.ndarray, missing: np.ndarray, title: str
    ) -> None:
        mine = missing[rank() :: world_size()]
        model, tokenizer = self.load()
        score = self._torch(model) if isinstance(model, PreTrainedModel) else model.score
        with progress(title, len(mine), unit=" texts") as bar:
            for start in range(0, len(mine), SHARD_ROWS):
                rows = mine[start : start + SHARD_ROWS]
                texts = source.take(rows)
                encoded = encode_texts(*texts, tokenizer, self.max_length, words=self.words, long=self.long)
                cache.add(digests[rows], score(encoded), encoded.counts)
                bar.update(len(rows))

    def _torch(self, model: PreTrainedModel) -> Callable[[Encoded], np.ndarray]:
        model.requires_grad_(False).to(pick_device())  # type: ignore[arg-type]
        return partial(score_encoded, model, precision=self.precision, read=_READERS[self.signal])

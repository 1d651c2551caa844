"""What an engine is, and the loop that all but PyTorch's share."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from itertools import chain, islice
from typing import Protocol, TypeVar

import numpy as np
import torch
from transformers.modeling_outputs import SequenceClassifierOutput

from attar.data.encoding import Encoded
from attar.nets.scoring import TOKENS_PER_BATCH, head_logits

T = TypeVar("T")
R = TypeVar("R")
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class Engine(Protocol):
    """Turns token ids into logits. Calls from several threads at a time are safe."""

    @property
    def name(self) -> str:
        """``torch``, ``onnx`` or ``openvino``."""

    def score(self, encoded: Encoded, max_tokens: int | None = None) -> np.ndarray:
        """Return logits in row order, float32 (sum of ``encoded.counts``, C).

        Args:
            encoded: texts as token ids.
            max_tokens: tokens a batch, padding included; by default what suits the device.
        """


def score_batches(
    run: Callable[[Mapping[str, np.ndarray]], np.ndarray], encoded: Encoded, max_tokens: int | None, workers: int = 1
) -> np.ndarray:
    """Run a function over length-sorted batches and return its outputs in row order, as :meth:`Engine.score`.

    Args:
        run: takes ``input_ids``, ``attention_mask`` and, where the tokenizer makes them, ``token_type_ids``, each
            int64 (B, T); returns logits (B, C), or (B, T, C) for token classification.
        encoded: texts as token ids.
        max_tokens: tokens a batch.
        workers: batches at a time.
    """

    def score(one: tuple[np.ndarray, dict[str, torch.Tensor]]) -> tuple[np.ndarray, np.ndarray]:
        rows, batch = one
        logits = run({name: tensor.numpy() for name, tensor in batch.items() if name in _INPUTS})
        return rows, head_logits(SequenceClassifierOutput(logits=torch.from_numpy(logits)), batch).numpy()

    starts = np.concatenate([[0], np.cumsum(encoded.counts)])
    values: np.ndarray | None = None
    for rows, found in _spread(score, encoded.batches(max_tokens or TOKENS_PER_BATCH["cpu"]), workers):
        if values is None:
            values = np.empty((starts[-1], found.shape[-1]), np.float32)
        values[np.concatenate([np.arange(starts[r], starts[r + 1]) for r in rows])] = found
    assert values is not None, "at least one row"
    return values


def _spread(score: Callable[[T], R], batches: Iterator[T], workers: int) -> Iterator[R]:
    """Yield what a function makes of every batch, in any order; one batch more is in memory than there are workers.

    Without the one that waits, a worker would stand idle while its next batch is made.
    """
    first = list(islice(batches, workers + 1 if workers > 1 else 1))
    if len(first) < 2:  # starting threads takes longer than a BiLSTM's single text
        yield from map(score, chain(first, batches))
        return
    with ThreadPoolExecutor(workers) as pool:
        ahead = {pool.submit(score, one) for one in first}
        while ahead:
            done, ahead = wait(ahead, return_when=FIRST_COMPLETED)
            ahead |= {pool.submit(score, one) for one in islice(batches, len(done))}
            yield from (one.result() for one in done)

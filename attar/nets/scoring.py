"""Run a frozen model over many texts, length-sorted, in inference mode."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from attar.nets.first_token import first_token_twin
from attar.nets.hardware import autocast

#: Tokens a batch (padding included): enough to fill the arithmetic units, little enough to stay in a CPU's cache.
TOKENS_PER_BATCH = {"cpu": 2048, "cuda": 65536, "mps": 16384}
_INPUTS = ("input_ids", "inputs_embeds", "attention_mask", "token_type_ids")


class Rows(Protocol):
    """Encoded texts, as :class:`attar.data.encoding.Encoded` holds them."""

    @property
    def counts(self) -> np.ndarray:
        """Lines of output of every row."""

    def batches(self, max_tokens: int) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
        """Yield (row numbers, padded batch)."""


def score_encoded(
    model: nn.Module,
    encoded: Rows,
    *,
    precision: str = "auto",
    read: Callable[..., Tensor] | None = None,
    max_tokens: int | None = None,
) -> np.ndarray:
    """Return the model's outputs in row order, float32 (sum of ``encoded.counts``, C).

    ``max_tokens`` bounds a batch, padding included; by default :data:`TOKENS_PER_BATCH`.
    """
    device = next(model.parameters()).device
    counts = encoded.counts
    starts = np.concatenate([[0], np.cumsum(counts)])
    values: np.ndarray | None = None
    batches = encoded.batches(max_tokens or TOKENS_PER_BATCH[device.type])
    for rows, output in forward_batches(model, batches, precision=precision, read=read):
        if values is None:
            values = np.empty((starts[-1], output.shape[-1]), np.float32)
        values[np.concatenate([np.arange(starts[r], starts[r + 1]) for r in rows])] = output
    assert values is not None, "at least one row"
    return values


def forward_batches(
    model: nn.Module,
    batches: Iterable[tuple[np.ndarray, Mapping[str, Tensor]]],
    *,
    precision: str = "auto",
    read: Callable[..., Tensor] | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (row numbers, float32 outputs) for every batch.

    Args:
        model: put into eval mode for the time of the call.
        batches: pairs of row numbers and a padded batch of tensors.
        precision: "auto", "float32" or "bfloat16".
        read: turns (model output, batch) into the tensor wanted, by default :func:`head_logits`, for which no more than
            the head reads is computed (:mod:`attar.nets.first_token`).
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    asked = first_token_twin(model) if read is None else model
    try:
        for rows, batch in batches:
            inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
            with torch.inference_mode(), autocast(device, precision):
                output = asked(**model_inputs(inputs))
                values = (read or head_logits)(output, inputs)
            yield rows, values.float().cpu().numpy()
    finally:
        model.train(was_training)


def model_inputs(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what goes into the model's forward: ids (or stored states) and masks, neither labels nor signals."""
    return {name: batch[name] for name in _INPUTS if name in batch}


def head_logits(output: object, batch: Mapping[str, Tensor]) -> Tensor:
    """Return logits as rows of predictions, (N, C): one a text, or one a word for token classification.

    ``batch["word_starts"]`` (B, T) marks the first piece of every word where predictions are per word;
    ``batch["chunks_mean"]`` or ``batch["chunks_max"]`` (B,) says which text each line is a chunk of.
    """
    logits: Tensor = output.logits  # type: ignore[attr-defined]
    for name, how in (("chunks_mean", "mean"), ("chunks_max", "amax")):
        if name in batch:
            owners = batch[name][:, None].expand_as(logits)
            pooled = logits.new_zeros(int(batch[name][-1]) + 1, logits.shape[-1])
            return pooled.scatter_reduce(0, owners, logits, reduce=how, include_self=False)
    return logits[batch["word_starts"]] if "word_starts" in batch else logits


def mean_hidden(output: object, batch: Mapping[str, Tensor]) -> Tensor:
    """Return the mean of the last hidden states over real tokens, the two special tokens at the ends left out, (B, W).

    A text with nothing between its special tokens gets the mean over them.
    """
    hidden: Tensor = output.last_hidden_state  # type: ignore[attr-defined]
    mask = batch["attention_mask"].bool()
    inner = mask.clone()
    inner[:, 0] = False
    last = mask.sum(-1) - 1
    inner[torch.arange(len(inner), device=inner.device), last] = False
    inner = torch.where(inner.any(-1, keepdim=True), inner, mask).unsqueeze(-1)
    return (hidden * inner).sum(1) / inner.sum(1)

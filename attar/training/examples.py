"""What the loop draws batches from: token ids, labels and signals under one row number."""

import copy
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from transformers import PreTrainedModel

from attar.data.batching import split_batch
from attar.data.encoding import Encoded, encode
from attar.data.labels import Labels, collect_labels, count_known
from attar.nets.anatomy import require_positions
from attar.nets.bilstm import BilstmForSequenceClassification
from attar.teacher.signals import Signals
from attar.training.stage import OnLogits, Stage

#: Tokens that run through an encoder at a time in training, padding included. What is kept of a layer for its
#: gradients would else grow with the texts: sixteen documents in chunks of 512 tokens take more than 24 GiB with a
#: network of six layers. No processor does more tokens at a time faster.
PIECE = 8192


class Examples(TorchDataset):
    """Rows that are fetched a batch at a time, already padded and joined with labels and signals.

    Args:
        encoded: inputs of all rows.
        labels: of all rows.
        teacher_logits: of all rows.
        most_tokens: with padding, in a piece of a batch; a batch is one piece where None.
    """

    def __init__(
        self,
        encoded: Encoded,
        labels: Labels | None = None,
        teacher_logits: Signals | None = None,
        most_tokens: int | None = None,
    ) -> None:
        self.encoded, self.labels, self.teacher_logits = encoded, labels, teacher_logits
        self.most_tokens = most_tokens
        self.lengths = encoded.lengths
        """Tokens of every text, by which batches are drawn."""

    def __len__(self) -> int:
        return len(self.encoded)

    def reading(self, encoded: Encoded) -> "Examples":
        """Return the same rows, in the same batches, with other inputs."""
        twin = copy.copy(self)
        twin.encoded = encoded
        return twin

    def __getitem__(self, row: int) -> list[dict[str, Tensor]]:
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Tensor]]:
        """Return the batch of the given rows, in pieces; torch's fetcher calls this with a whole batch.

        Each has its ``share`` of the batch's predictions, by which the mean over the batch is the sum of the pieces'
        means, and a ``label_weight``: what its mean over labelled rows counts more or less than that, since labelled
        rows may be many in one piece and few in another.
        """
        places = np.asarray(rows)
        if self.most_tokens is None:
            return [self.batch(places)]
        # A long text's chunks may be shorter than those beside them.
        lines, lengths = (of_all[places] for of_all in self.encoded.lines)
        pieces = [places[piece] for piece in split_batch(lengths, self.most_tokens, lines)]
        if len(pieces) == 1:
            return [self.batch(places)]
        batches = [self.batch(piece) for piece in pieces]
        shares = _shares([self._counts[piece].sum() for piece in pieces])
        labelled = _shares([count_known(b["labels"]) if "labels" in b else 0 for b in batches])
        for batch, share, known in zip(batches, shares, labelled, strict=True):
            batch.update(share=share, label_weight=known / share.clamp(min=1e-9))
        return batches

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """Return the given rows' inputs, labels and signals, padded."""
        places = np.asarray(rows)
        batch = self.encoded.batch(places)
        if self.labels is not None:
            batch["labels"] = self.labels.take(places)
        if self.teacher_logits is not None:
            batch["teacher_logits"] = torch.from_numpy(self.teacher_logits.take(places))
        return batch

    @cached_property
    def _counts(self) -> np.ndarray:
        return self.encoded.counts


def stage_examples(stage: Stage) -> Examples:
    """Encode a stage's texts, gather their labels, and have the teacher answer for all of them."""
    model = next((m for m in stage.model.modules() if isinstance(m, PreTrainedModel)), None)  # it may be wrapped
    if model is not None:
        require_positions(model, stage.train.max_length)
    if isinstance(stage.learn, Encoded):
        return Examples(stage.learn)
    splits = [split for split, _ in stage.learn]
    signals = stage.teacher.logits(splits, "score teacher") if stage.teacher is not None else None
    encoded = encode(splits, stage.tokenizer, stage.train.max_length, long=stage.train.long)
    labels = collect_labels(stage.learn, stage.task, encoded) if stage.task is not None else None
    return Examples(encoded, labels, signals, _most_tokens(stage))


def _shares(counts: Sequence[int]) -> Tensor:
    found = torch.tensor(counts, dtype=torch.float32)
    return found / found.sum().clamp(min=1)


def _most_tokens(stage: Stage) -> int | None:
    """Return the limit where pieces add up to the whole, and are not much slower.

    Other objectives take means over masked words or over tokens; a BiLSTM goes through its words one by one, so that
    the texts of a batch are all that is done at a time.
    """
    small = isinstance(stage.model, BilstmForSequenceClassification)
    return PIECE if isinstance(stage.objective, OnLogits) and not small else None


def as_batch(batch: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Collate nothing: :class:`Examples` returns whole batches."""
    return batch

"""What the loop draws batches from: token ids, labels and signals under one row number."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from transformers import PreTrainedModel

from attar.data.encoding import Encoded, encode
from attar.data.labels import Labels, collect_labels
from attar.nets.anatomy import require_positions
from attar.teacher.signals import Signals
from attar.training.stage import Stage


class Examples(TorchDataset):
    """Rows that are fetched a batch at a time, already padded and joined with labels and signals."""

    def __init__(self, encoded: Encoded, labels: Labels | None, teacher_logits: Signals | None) -> None:
        self.encoded, self.labels, self.teacher_logits = encoded, labels, teacher_logits

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Return the batch of the given rows; torch's fetcher calls this with a whole batch."""
        places = np.asarray(rows)
        batch = self.encoded.batch(places)
        if self.labels is not None:
            batch["labels"] = self.labels.take(places)
        if self.teacher_logits is not None:
            batch["teacher_logits"] = torch.from_numpy(self.teacher_logits.take(places))
        return batch


def stage_examples(stage: Stage) -> Examples:
    """Encode a stage's texts, gather their labels, and have the teacher answer for all of them."""
    model = next((m for m in stage.model.modules() if isinstance(m, PreTrainedModel)), None)  # it may be wrapped
    if model is not None:
        require_positions(model, stage.train.max_length)
    if isinstance(stage.learn, Encoded):
        return Examples(stage.learn, None, None)
    splits = [split for split, _ in stage.learn]
    signals = stage.teacher.logits(splits, "score teacher") if stage.teacher is not None else None
    encoded = encode(splits, stage.tokenizer, stage.train.max_length, long=stage.train.long)
    labels = collect_labels(stage.learn, stage.task, encoded) if stage.task is not None else None
    return Examples(encoded, labels, signals)


def as_batch(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Collate nothing: :class:`Examples` returns whole batches."""
    return batch

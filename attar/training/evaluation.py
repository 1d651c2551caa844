"""Evaluate a model on a split: outputs once, metrics from them."""

from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.data.encoding import Encoded, encode
from attar.data.labels import collect_labels
from attar.data.task import Task
from attar.nets.hardware import autocast
from attar.nets.scoring import TOKENS_PER_BATCH, score_encoded
from attar.teacher.signals import Signals
from attar.training.metrics import evaluate_logits
from attar.training.stage import Objective


@dataclass(frozen=True)
class Outputs:
    """A model's logits on a split, the labels in the same rows, and the rows a text (1, or its words)."""

    logits: np.ndarray
    labels: np.ndarray
    counts: np.ndarray
    words: np.ndarray | None = None
    """For words: the number of each in its text, where some were cut off or have no token; None for all of them."""

    def metrics(self, task: Task) -> dict:
        """Return the metrics of the task."""
        return evaluate_logits(self.logits, self.labels, task, self.counts)


@dataclass(frozen=True)
class EvalSplit:
    """A labelled split, encoded for one tokenizer."""

    encoded: Encoded
    labels: np.ndarray
    task: Task

    def outputs(self, model: PreTrainedModel, precision: str) -> Outputs:
        """Run the model over the split."""
        logits = score_encoded(model, self.encoded, precision=precision)
        return Outputs(logits, self.labels, self.encoded.counts, self.words)

    @property
    def words(self) -> np.ndarray | None:
        """The numbers of the words that have a token, text after text."""
        if self.task.kind != "token":
            return None
        return np.concatenate([self.encoded.words(i) for i in range(len(self.encoded))])


def eval_split(
    split: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, task: Task, *, long: str = "truncate"
) -> EvalSplit:
    """Encode a labelled split for evaluation."""
    encoded = encode(split, tokenizer, max_length, long=long)
    return EvalSplit(encoded, collect_labels([(split, True)], task, encoded).values, task)


def mean_losses(model: nn.Module, objective: Objective, encoded: Encoded, precision: str) -> dict[str, float]:
    """Return the mean of an objective and of its parts over encoded texts, in eval mode.

    The random draws inside the objective (masked positions) are the same in every call, and leave the state of the
    random numbers as it was.
    """
    device = next(model.parameters()).device
    sums: dict[str, float] = {}
    was_training = model.training
    model.eval()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
            torch.manual_seed(0)
            for rows, batch in encoded.batches(TOKENS_PER_BATCH[device.type]):
                inputs = {name: tensor.to(device) for name, tensor in batch.items()}
                with autocast(device, precision):
                    losses = objective(model, inputs)
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + float(value) * len(rows)
    finally:
        model.train(was_training)
    return {name: total / len(encoded) for name, total in sums.items()}


def signal_outputs(signals: Signals, split: EvalSplit) -> Outputs:
    """Return a teacher's cached answers for a split as outputs."""
    return Outputs(signals.take(np.arange(len(split.encoded))), split.labels, split.encoded.counts, split.words)

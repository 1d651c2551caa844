"""Evaluate a model on a split: outputs once, metrics from them."""

from dataclasses import dataclass

import numpy as np
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.data.encoding import Encoded, encode
from attar.data.labels import collect_labels
from attar.data.task import Task
from attar.nets.scoring import score_encoded
from attar.teacher.signals import Signals
from attar.training.metrics import evaluate_logits


@dataclass(frozen=True)
class Outputs:
    """A model's logits on a split, the labels in the same rows, and the rows a text (1, or its words)."""

    logits: np.ndarray
    labels: np.ndarray
    counts: np.ndarray

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
        return Outputs(logits, self.labels, self.encoded.counts)


def eval_split(split: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, task: Task) -> EvalSplit:
    """Encode a labelled split for evaluation."""
    encoded = encode(split, tokenizer, max_length, words=task.kind == "token")
    return EvalSplit(encoded, collect_labels([(split, True)], task, encoded).values, task)


def signal_outputs(signals: Signals, split: EvalSplit) -> Outputs:
    """Return a teacher's cached answers for a split as outputs."""
    return Outputs(signals.take(np.arange(len(split.encoded))), split.labels, split.encoded.counts)

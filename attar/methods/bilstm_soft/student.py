"""Build the BiLSTM student."""

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from attar.data.task import PROBLEM_TYPES, Task
from attar.methods.bilstm_soft.config import BilstmSoft
from attar.nets.bilstm import BilstmConfig, BilstmForSequenceClassification


def build_student(
    config: BilstmSoft, task: Task, tokenizer: PreTrainedTokenizerFast, vectors: np.ndarray, seed: int
) -> BilstmForSequenceClassification:
    """Return an untrained student whose two channels both start from ``vectors``, (V, W).

    With width 300, hidden 150, projection 200 and two classes it has 963,002 parameters beside the vectors, as
    the paper counts.
    """
    torch.manual_seed(seed)
    student = BilstmForSequenceClassification(
        BilstmConfig(
            vocab_size=len(vectors),
            embedding_width=vectors.shape[1],
            hidden_size=config.hidden,
            projection_size=config.projection,
            dropout=config.dropout,
            siamese=task.pair is not None,
            pad_token_id=tokenizer.pad_token_id,
            id2label=task.id2label,
            label2id=task.label2id,
            problem_type=PROBLEM_TYPES[task.kind],
        )
    )
    with torch.no_grad():
        for channel in (student.frozen_vectors, student.tuned_vectors):
            channel.weight.copy_(torch.from_numpy(vectors))
    return student

"""Settings of fine-tuning all of an encoder, or its top."""

import dataclasses
from dataclasses import dataclass

from attar.config import TrainConfig

#: BERT's fine-tuning recipe (Devlin et al. 2019, appendix A.3): 2-4 epochs, batch 16 or 32, 2e-5 to 5e-5; the upper
#: end, since at 2e-5 a small encoder is far from done with 1,000 labels (benchmarks/LOG.md).
#: The head's last map, which starts from random numbers, has ten times that (ours): with 20 classes it lags behind.
TRAIN = TrainConfig(
    epochs=3, batch_size=32, lr=5e-5, head_lr_factor=10.0, schedule="linear", warmup=0.1, weight_decay=0.01
)
#: Top layers: Lee et al. 2019 name no rate; twice that of all layers, since fewer weights have to do the work.
TRAIN_TOP = dataclasses.replace(TRAIN, lr=1e-4)
#: Head only: at 5e-5 it stays at the majority class (51 % on SST-2 with 1,000 labels, RoBERTa-base, 10 epochs); the
#: value is ours, 20 times that.
TRAIN_HEAD = dataclasses.replace(TRAIN, lr=1e-3, head_lr_factor=1.0)


@dataclass(frozen=True, kw_only=True)
class Full:
    """Fine-tune every weight of a pre-trained encoder on the task: how teachers are made."""


@dataclass(frozen=True, kw_only=True)
class Freezing:
    """Train the top layers and the head; embeddings and all below stay frozen (Lee et al. 2019)."""

    layers: int = 3
    """How many layers move, counted from the top. 0 trains the head alone (and a pooler, where the encoder has one);
    3 is the paper's "a fourth of the final layers" for a network of 12."""
    embeddings: bool = False
    """With all layers: whether the embeddings move too. The paper freezes from the bottom up, embeddings first."""

    def __post_init__(self) -> None:
        if self.layers < 0:
            raise ValueError(f"layers expects 0 (head only) or more, found {self.layers}")


def train_of(config: Full | Freezing) -> TrainConfig:
    """Return the training defaults: the fewer weights move, the larger the rate."""
    if isinstance(config, Full):
        return TRAIN
    return TRAIN_TOP if config.layers else TRAIN_HEAD

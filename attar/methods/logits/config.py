"""Settings of logit distillation."""

from dataclasses import dataclass
from typing import Literal

from attar.config import TrainConfig

#: As for fine-tuning BERT, with the larger rate that smaller students want (Turc et al. 2019 search 3e-5 to 3e-4).
TRAIN = TrainConfig(epochs=5, batch_size=32, lr=5e-5, schedule="linear", warmup=0.1, weight_decay=0.01)


@dataclass(frozen=True, kw_only=True)
class Logits:
    """Distil into any encoder through the teacher's output alone (Hinton et al. 2015)."""

    student: str = "half"
    """A local transformers folder or hub name; or ``layers:0,2,4``: those layers of the teacher; or ``half``:
    every other layer of the teacher."""
    loss: Literal["kl", "soft-ce", "mse"] = "kl"
    """KL divergence or cross-entropy of softened probabilities, or squared error of raw logits.
    Multi-label tasks use one sigmoid a label; regression always uses squared error."""
    temperature: float = 2.0
    """Softens both sides of kl and soft-ce; the loss is multiplied by its square."""
    alpha: float = 0.0
    """Weight of the labels; 1 - alpha is the teacher's. 1 learns from labels alone."""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha expects a weight from 0 to 1, found {self.alpha}")
        if self.temperature <= 0:
            raise ValueError(f"temperature expects a number above 0, found {self.temperature}")

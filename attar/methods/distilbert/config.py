"""Settings of DistilBERT: distilling before the task, and on it."""

from dataclasses import dataclass
from typing import Literal

from attar.config import TrainConfig

#: Of the pre-training: the defaults and the published command of the released code (Sanh et al. 2019), which trains on
#: 5 x 50 texts a step and process.
PRETRAIN = TrainConfig(
    epochs=3,
    batch_size=5,
    accumulation=50,
    lr=5e-4,
    schedule="linear",
    warmup=0.05,
    weight_decay=0.0,
    max_grad_norm=5.0,
    adam_beta2=0.98,
    adam_epsilon=1e-6,
    max_length=512,
)
#: On the task: the rate of the released script for SQuAD; the rest is as for fine-tuning BERT.
TRAIN = TrainConfig(epochs=3, batch_size=32, lr=5e-5, schedule="linear", warmup=0.1, weight_decay=0.01)


@dataclass(frozen=True, kw_only=True)
class DistilBertPretraining:
    """Half of an encoder's layers learn to fill in masked words as the whole does (Sanh et al. 2019, section 3)."""

    student: str = "half"
    """``half`` of the teacher's layers (0, 2, 4, 7, 9, 11 of 12), or those named, as ``layers:0,2,4``."""
    init: Literal["teacher", "random"] = "teacher"
    """The student's first weights; ``random`` is the paper's ablation (table 4)."""
    temperature: float = 2.0
    """Softens both sides of the soft loss, which is multiplied by its square (released code)."""
    alpha_ce: float = 5.0
    """Weight of the soft loss against the teacher's words (published command: 5, 2, 1; its example for four GPUs has
    0.33 thrice; the paper gives none). 0 leaves a loss out."""
    alpha_mlm: float = 2.0
    """Weight of filling in the masked words."""
    alpha_cos: float = 1.0
    """Weight of the cosine distance of the last hidden states."""
    soft_tokens: Literal["real", "masked"] = "real"
    """Where the soft loss is taken: at all tokens but padding, or at the masked ones (``--restrict_ce_to_mask``)."""
    mask_share: float = 0.15
    """Share of a batch's real tokens that is drawn to be filled in."""
    smoothing: float = 0.7
    """Tokens are drawn with weight max(count, 1)^-smoothing (released code); 0 draws all alike."""

    def __post_init__(self) -> None:
        weights = (self.alpha_ce, self.alpha_mlm, self.alpha_cos)
        if min(weights) < 0 or not any(weights):
            raise ValueError(f"alpha_ce, alpha_mlm, alpha_cos expect weights of 0 or more, not all 0; found {weights}")
        if self.temperature <= 0:
            raise ValueError(f"temperature expects a number above 0, found {self.temperature}")
        if not 0 < self.mask_share < 1 or self.smoothing < 0:
            raise ValueError(
                "expected mask_share between 0 and 1 and smoothing of 0 or more; "
                f"found {self.mask_share} and {self.smoothing}"
            )


@dataclass(frozen=True, kw_only=True)
class DistilBert:
    """Distil a fine-tuned teacher into fewer layers, from its probabilities and the labels (Sanh et al. 2019, 3.1)."""

    student: str = "half"
    """``half`` of the teacher's layers, or ``layers:0,2,4``; or a folder or hub name, such as what
    ``attar pretrain --method distilbert`` left."""
    temperature: float = 2.0
    """Softens both sides of the teacher's loss, which is multiplied by its square."""
    alpha: float = 0.5
    """Weight of the labels; 1 - alpha is the teacher's. The released script for tasks has 0.5 and 0.5."""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha expects a weight from 0 to 1, found {self.alpha}")
        if self.temperature <= 0:
            raise ValueError(f"temperature expects a number above 0, found {self.temperature}")

"""Settings of training a masked-language-model head."""

from dataclasses import dataclass

from attar.config import TrainConfig

#: Ours: a head alone wants a larger rate than an encoder does.
PRETRAIN = TrainConfig(
    epochs=3, batch_size=32, lr=1e-3, schedule="linear", warmup=0.05, weight_decay=0.0, max_length=128
)


@dataclass(frozen=True, kw_only=True)
class MlmHead:
    """Train the head that fills in masked words on a frozen encoder that came without one."""

    mask_share: float = 0.15
    """Share of a batch's real tokens that is drawn to be filled in (Devlin et al. 2019)."""
    smoothing: float = 0.7
    """Tokens are drawn with weight max(count, 1)^-smoothing, as DistilBERT's pre-training will draw them."""

    encoder: bool = False
    """Train the encoder too: continued masked-language-model training, as of one that was just made longer."""

    def __post_init__(self) -> None:
        if not 0 < self.mask_share < 1 or self.smoothing < 0:
            raise ValueError(
                "expected mask_share between 0 and 1 and smoothing of 0 or more; "
                f"found {self.mask_share} and {self.smoothing}"
            )

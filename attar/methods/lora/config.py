"""Settings of LoRA, DoRA, IA3 and SHiRA."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from attar.config import TrainConfig

Target = Literal["query", "key", "value", "attention_out", "feed_forward_in", "feed_forward_out"]

#: LoRA's released script for RoBERTa-base on QNLI: 4e-4, batch 32, warm-up over 6 % of the steps, decay 0.1. Its 25
#: epochs are 10 here (ours).
TRAIN = TrainConfig(
    epochs=10, batch_size=32, lr=4e-4, head_lr_factor=10.0, schedule="linear", warmup=0.06, weight_decay=0.1
)
#: The rate of IA3's released configuration. Its scales start at one, and decay would pull them to zero.
TRAIN_IA3 = dataclasses.replace(TRAIN, lr=3e-3, head_lr_factor=1.0, weight_decay=0.0)


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Train low-rank updates of linear maps, scales of them or single weights, and the head; needs the extra ``peft``.

    SHiRA trains weights at places drawn at random: with rank 1 as many as BERT-base has biases, within 2 %, so it is
    the baseline of BitFit.
    """

    kind: Literal["lora", "dora", "ia3", "shira"] = "lora"
    """LoRA (Hu et al. 2022), DoRA (Liu et al. 2024), IA3 (Liu et al. 2022) or SHiRA (Bhardwaj et al. 2024)."""
    rank: int = 8
    """Inner width of LoRA and DoRA; as in the released script. SHiRA trains as many numbers as LoRA would."""
    alpha: float = 16.0
    """LoRA's and DoRA's update is scaled by alpha / rank; as in the released script."""
    dropout: float = 0.0
    """On the input of LoRA's and DoRA's update."""
    targets: tuple[Target, ...] = ()
    """Linear maps to change, in every layer; none given means query and value for LoRA and DoRA, key, value and
    feed_forward_out for IA3, query, key, value and feed_forward_in for SHiRA. ModernBERT has one map for query, key and
    value: it is changed whole."""

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ValueError(
                "expected rank of 1 or more, alpha above 0 and dropout from 0 to below 1; "
                f"found {self.rank}, {self.alpha} and {self.dropout}"
            )


def train_of(config: Lora) -> TrainConfig:
    """Return the training defaults of the kind."""
    return TRAIN_IA3 if config.kind == "ia3" else TRAIN

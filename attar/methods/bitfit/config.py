"""Settings of BitFit."""

from dataclasses import dataclass
from typing import Literal

from attar.config import TrainConfig

Bias = Literal["query", "key", "value", "intermediate", "output", "attention_layernorm", "output_layernorm"]

#: The released code's rate, 50 times that of full fine-tuning. Its 16 epochs of batches of 8 are 8 epochs of batches
#: of 16 here (ours). The decay reaches the classifier alone: the loop never decays biases.
TRAIN = TrainConfig(
    epochs=8, batch_size=16, lr=1e-3, head_lr_factor=10.0, schedule="linear", warmup=0.1, weight_decay=0.01
)


@dataclass(frozen=True, kw_only=True)
class BitFit:
    """Train the biases and the head; all else stays frozen (Ben-Zaken et al. 2022)."""

    biases: tuple[Bias, ...] = ()
    """Kinds of biases to train, in every layer; none given means all of them, embeddings included. The paper's small
    subset is ``query`` and ``intermediate``. ``output`` is the output projection of the attention and of the
    feed-forward; the pooler's bias is added to any subset (both as in the released code)."""

"""Settings of adapters."""

from dataclasses import dataclass
from typing import Literal

from attar.config import TrainConfig

#: The released code's example (MRPC, BERT-base): 3e-4, 5 epochs. The paper searches 3e-5, 3e-4 and 3e-3, 3 or 20
#: epochs, at batch 32 with a linear warm-up over a tenth of the steps.
TRAIN = TrainConfig(
    epochs=5, batch_size=32, lr=3e-4, head_lr_factor=10.0, schedule="linear", warmup=0.1, weight_decay=0.01
)


@dataclass(frozen=True, kw_only=True)
class Adapters:
    """Train small modules inside a frozen encoder, with the LayerNorms and the head (Houlsby et al. 2019)."""

    bottleneck: int = 64
    """Inner width of an adapter; the paper tries 8, 64 and 256 on GLUE, 2 to 64 elsewhere."""
    activation: Literal["gelu", "relu", "silu", "tanh"] = "gelu"
    """The released code's."""
    init_std: float = 0.01
    """Standard deviation of the initial weights, cut off at two of them; the paper's. The released code has 1e-3."""
    placement: Literal["houlsby", "pfeiffer"] = "houlsby"
    """After the attention and after the feed-forward of every layer, or after the feed-forward alone."""
    norms: bool = True
    """Whether the LayerNorms move too, as in the paper."""
    drop_first: int = 0
    """Leave this many layers, from the bottom, without adapters and with frozen LayerNorms (AdapterDrop, Rücklé et al.
    2021). No gradient is then needed below."""

    def __post_init__(self) -> None:
        if self.bottleneck < 1:
            raise ValueError(f"bottleneck expects a width of 1 or more, found {self.bottleneck}")
        if self.init_std < 0 or self.drop_first < 0:
            raise ValueError(f"expected init_std and drop_first of 0 or more; found {self.init_std}, {self.drop_first}")

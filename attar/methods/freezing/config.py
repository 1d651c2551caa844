"""Settings of fine-tuning."""

from dataclasses import dataclass

from attar.config import TrainConfig

#: BERT's fine-tuning recipe (Devlin et al. 2019, appendix A.3): 2-4 epochs, batch 16 or 32, 2e-5 to 5e-5.
TRAIN = TrainConfig(epochs=3, batch_size=32, lr=2e-5, schedule="linear", warmup=0.1, weight_decay=0.01)


@dataclass(frozen=True, kw_only=True)
class Full:
    """Fine-tune every weight of a pre-trained encoder on the task: how teachers are made."""

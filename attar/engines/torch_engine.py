"""PyTorch: a bundle's model as it was trained."""

import numpy as np
from transformers import PreTrainedModel

from attar.data.encoding import Encoded
from attar.nets.hardware import pick_device
from attar.nets.scoring import score_encoded


class TorchEngine:
    """Runs a transformers model on the machine's accelerator, or its CPU.

    Args:
        model: moved to the device.
        precision: ``auto``, ``float32`` or ``bfloat16``.
    """

    name = "torch"

    def __init__(self, model: PreTrainedModel, precision: str) -> None:
        self._model, self._precision = model, precision
        model.to(pick_device())  # type: ignore[arg-type]

    def score(self, encoded: Encoded, max_tokens: int | None = None) -> np.ndarray:
        """Return logits in row order (:meth:`attar.engines.contract.Engine.score`)."""
        return score_encoded(self._model, encoded, precision=self._precision, max_tokens=max_tokens)

"""The running average of the weights, which a run at a constant rate ends on better than on its last step."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

#: Steps between two updates, after as many with one each; a pass over all weights in every step would slow a BiLSTM
#: down.
EVERY = 10
_FILE = "average.safetensors"


class WeightAverage(TrainerCallback):
    """The exponential moving average of a model's moving weights (Polyak and Juditsky 1992).

    Update n, counted from 0, makes it ``d * average + (1 - d) * weights``, d the smaller of ``decay ** EVERY`` and
    ``n / (9 + n)``, so that the weights before training have no part in it and those of the first steps are soon
    forgotten. There is an update in each of the first ``EVERY`` steps and then in every ``EVERY``-th. Frozen weights
    have no average.

    Args:
        model: in training.
        decay: a step's, from above 0 to below 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._average = {name: p.detach().clone() for name, p in self._weights.items()}
        self._decay = decay**EVERY

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Move the average towards the weights."""
        step = state.global_step
        if step > EVERY and step % EVERY:
            return
        # Without an update in each of the first steps, a run of fewer than EVERY would end where it began.
        n = step - 1 if step <= EVERY else EVERY + step // EVERY - 2
        decay = min(self._decay, n / (9 + n))
        with torch.no_grad():
            for name, weight in self._weights.items():
                self._average[name].lerp_(weight, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the model the average meanwhile."""
        before = {name: weight.detach().clone() for name, weight in self._weights.items()}
        self.apply()
        try:
            yield
        finally:
            self._copy(before)

    def apply(self) -> None:
        """Give the model the average for good."""
        self._copy(self._average)

    def save(self, checkpoint: str) -> None:
        """Write the average into a checkpoint's folder."""
        save_file(self._average, Path(checkpoint) / _FILE)

    def load(self, checkpoint: str) -> None:
        """Go on from the average in a checkpoint's folder."""
        for name, stored in load_file(Path(checkpoint) / _FILE).items():
            self._average[name].copy_(stored)

    def _copy(self, values: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(values[name])

"""Several deltas over one encoder in memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from attar.bundle import load_bundle
from attar.errors import ConfigError, nearest
from attar.inference.predictor import Prediction, Predictor
from attar.nets.deltas.format import is_delta
from attar.nets.hardware import pick_device
from attar.nets.loading import load_encoder


class DeltaSet:
    """One encoder in memory, and the tasks that named deltas make of it.

    Every task is a :class:`Predictor` with its own labels, head and kind. Their models hold the encoder's own
    parameters wherever the delta leaves them as they are, and nothing is ever written into those
    (:func:`attar.nets.deltas.sharing.share_parameters`): the order of calls does not matter, and without its tasks
    the encoder is bit for bit what it was.

    Args:
        encoder: local folder or hub name.

    Raises:
        ConfigError: for a delta in the place of the encoder.
        ModelError: where it cannot be loaded.
    """

    def __init__(self, encoder: str) -> None:
        if is_delta(encoder):
            raise ConfigError(f"a DeltaSet expects the encoder that deltas share; found the delta {encoder}")
        self.encoder = encoder
        self._base = load_encoder(encoder).eval().requires_grad_(False).to(pick_device())
        self._tasks: dict[str, Predictor] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the deltas, in the order in which they were added."""
        return tuple(self._tasks)

    def add(self, name: str, folder: str) -> None:
        """Load a delta under a name. The encoder's checkpoint is read again meanwhile, and not kept.

        Raises:
            ConfigError: for a name that is taken.
            BundleError: where the folder holds no delta, or a torn one.
            ModelError: for a delta that was trained on another encoder.
        """
        if name in self._tasks:
            raise ConfigError(f"there is a delta named {name!r} already; remove it first, or give another name")
        self._tasks[name] = Predictor(load_bundle(folder, encoder=self.encoder, over=self._base))

    def remove(self, name: str) -> None:
        """Forget a delta."""
        self.use(name)
        del self._tasks[name]

    def use(self, name: str) -> Predictor:
        """Return the task of a delta, ready to predict.

        Raises:
            ConfigError: for a name that is not there.
        """
        if name not in self._tasks:
            there = ", ".join(self._tasks) or "none"
            raise ConfigError(f"no delta is named {name!r}{nearest(name, self._tasks)} (there are: {there})")
        return self._tasks[name]

    def base(self) -> PreTrainedModel:
        """Return the encoder without any delta; do not change it, all tasks use it."""
        return self._base

    def predict(self, name: str, texts: Sequence[Any], pairs: Sequence[str] | None = None) -> list[Prediction]:
        """Return what a delta's task says of texts (:meth:`Predictor.predict`)."""
        return self.use(name).predict(texts, pairs)

    def logits(self, name: str, texts: Sequence[Any], pairs: Sequence[str] | None = None) -> np.ndarray:
        """Return the raw outputs of a delta's task (:meth:`Predictor.logits`)."""
        return self.use(name).logits(texts, pairs)

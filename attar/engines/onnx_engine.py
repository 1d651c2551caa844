"""ONNX Runtime, on the CPU."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from attar.data.encoding import Encoded
from attar.engines.contract import score_batches
from attar.errors import BundleError, MissingExtra

_ERRORS_ONLY = 3


class OnnxEngine:
    """Runs an ONNX file with as many threads as PyTorch has here (``OMP_NUM_THREADS``).

    Args:
        file: the model.
        by_batch: whether every thread takes a batch of its own instead of a part of every product. Recurrent models,
            whose products are small and follow one another, are a third faster so.

    Raises:
        MissingExtra: without onnxruntime.
        BundleError: for a file that it cannot read.
    """

    name = "onnx"

    def __init__(self, file: Path, *, by_batch: bool = False) -> None:
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise MissingExtra("onnxruntime", "onnx") from error
        options = ort.SessionOptions()
        threads = torch.get_num_threads()
        self._workers, options.intra_op_num_threads = (threads, 1) if by_batch else (1, threads)
        options.log_severity_level = _ERRORS_ONLY
        try:
            self._session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own classes are not public
            raise BundleError(
                f"{file} is no ONNX file that onnxruntime {ort.__version__} can run; export the model again ({error})"
            ) from error
        self._inputs = [one.name for one in self._session.get_inputs()]

    def score(self, encoded: Encoded, max_tokens: int | None = None) -> np.ndarray:
        """Return logits in row order (:meth:`attar.engines.contract.Engine.score`)."""
        return score_batches(self._run, encoded, max_tokens, self._workers)

    def _run(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        return self._session.run(["logits"], {name: batch[name] for name in self._inputs})[0]

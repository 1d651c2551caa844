"""OpenVINO, on the CPU."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attar.data.encoding import Encoded
from attar.engines.contract import score_batches
from attar.errors import BundleError, MissingExtra

#: Prepared operators that OpenVINO keeps for shapes it has seen. With its own 5,000, an encoder that serves texts of
#: all lengths in batches of all sizes grows by gigabytes; with 500 it is as fast (MPNet, 8 bits).
_PREPARED = 500
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


class OpenvinoEngine:
    """Runs an OpenVINO model (or an ONNX file) with as many threads as PyTorch has here.

    Args:
        file: ``.xml`` with its ``.bin`` beside it, or ``.onnx``.
        precision: ``float32``, ``bfloat16``, or ``auto``: what OpenVINO takes for the fastest on this machine.

    Raises:
        MissingExtra: without openvino.
        BundleError: for a file that it cannot read.
    """

    name = "openvino"

    def __init__(self, file: Path, precision: str = "auto") -> None:
        try:
            import openvino
        except ImportError as error:
            raise MissingExtra("openvino", "openvino") from error
        settings: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            "CPU_RUNTIME_CACHE_CAPACITY": _PREPARED,
        }
        if precision in _PRECISIONS:
            settings["INFERENCE_PRECISION_HINT"] = _PRECISIONS[precision]
        try:
            self._model = openvino.Core().compile_model(str(file), "CPU", settings)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise BundleError(f"{file} is no model that OpenVINO can run; export the model again ({reason})") from error
        self._inputs = [one.get_any_name() for one in self._model.inputs]

    def score(self, encoded: Encoded, max_tokens: int | None = None) -> np.ndarray:
        """Return logits in row order (:meth:`attar.engines.contract.Engine.score`)."""
        request = self._model.create_infer_request()  # one a call: a request serves one thread at a time

        def run(batch: Mapping[str, np.ndarray]) -> np.ndarray:
            return request.infer({name: batch[name] for name in self._inputs})[0]

        return score_batches(run, encoded, max_tokens)

"""Eight-bit integers: ONNX Runtime's dynamic quantisation, NNCF's static one, and which products bear it worst."""

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from attar.data.encoding import Encoded
from attar.errors import MissingExtra
from attar.exporting.quiet import quiet

#: Rows of a product's input that its error is measured on.
_ROWS = 512
#: Texts that the ranges of activations are measured on.
_CALIBRATION = 300


def quantize(file: Path, target: Path, *, per_channel: bool, keep: Sequence[str] = ()) -> None:
    """Write a float32 ONNX model with int8 weights; activations are quantised while it runs.

    Args:
        file: the float32 model.
        target: where to write.
        per_channel: a scale for every output of a weight, instead of one for all.
        keep: names of the nodes that stay in float32.

    Raises:
        MissingExtra: without onnxruntime.
    """
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise MissingExtra("onnxruntime", "onnx") from error
    with quiet():
        quantize_dynamic(
            file,
            target,
            per_channel=per_channel,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(keep),
            use_external_data_format=file.with_name(f"{file.name}.data").exists(),
        )


def quantize_static(
    file: Path, target: Path, *, inputs: Sequence[str], texts: Encoded, keep: Sequence[str] = ()
) -> None:
    """Write a float32 ONNX model as an OpenVINO model whose weights and activations are int8.

    The ranges of activations are measured beforehand, on up to 300 texts spread over those given, so that nothing has
    to be measured while it runs. NNCF does it, with SmoothQuant (Xiao et al. 2023) and bias correction, as it advises
    for Transformers.

    Args:
        file: the float32 model.
        target: ``.xml`` file to write.
        inputs: names of the model's inputs.
        texts: real ones.
        keep: names of the nodes that stay in float32.

    Raises:
        MissingExtra: without openvino or nncf.
    """
    os.environ.setdefault("NNCF_CI", "1")  # it would send usage statistics
    try:
        import nncf
        import openvino
    except ImportError as error:
        raise MissingExtra(error.name or "nncf", "openvino") from error
    rows = np.linspace(0, len(texts) - 1, min(len(texts), _CALIBRATION)).astype(int)
    examples = nncf.Dataset(rows, lambda row: inputs_of(texts, [row], inputs))
    with quiet(), contextlib.redirect_stdout(sys.stderr):  # its progress bars
        model = nncf.quantize(
            openvino.Core().read_model(str(file)),
            examples,
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(rows),
            ignored_scope=nncf.IgnoredScope(names=list(keep)),
        )
    openvino.save_model(model, str(target), compress_to_fp16=False)


def inputs_of(texts: Encoded, rows: Sequence[int] | range, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return what a model is given for some rows, padded to the longest of them."""
    batch = texts.batch(rows)
    return {name: batch[name].numpy() for name in names}


def product_errors(file: Path, batch: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return for every product with a weight what int8 does to its result on a batch, worst first.

    The error is that of the safest int8 (a scale for every output of the weight, one scale for all inputs), relative
    to the result: |quantised - true| / |true|, Frobenius norms.

    Args:
        file: the float32 model.
        batch: its inputs.
    """
    import onnx
    import onnxruntime as ort

    model = onnx.load(str(file))
    weights = {one.name: one for one in model.graph.initializer}
    products = [n for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in weights]
    for name in dict.fromkeys(node.input[0] for node in products):
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    probe = file.with_name("probe.onnx")
    data = f"{probe.name}.data"
    onnx.save(model, str(probe), save_as_external_data=True, location=data)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(probe), options, providers=["CPUExecutionProvider"])
    names = list(dict.fromkeys(node.input[0] for node in products))
    inputs = dict(zip(names, session.run(names, dict(batch)), strict=True))
    base = str(file.parent)
    errors = {
        node.name: _error(inputs[node.input[0]], onnx.numpy_helper.to_array(weights[node.input[1]], base))
        for node in products
    }
    probe.unlink()
    probe.with_name(data).unlink(missing_ok=True)
    return dict(sorted(errors.items(), key=lambda item: -item[1]))


def _error(values: np.ndarray, weight: np.ndarray) -> float:
    values = values.reshape(-1, values.shape[-1])[:_ROWS]
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    step = max((high - low) / 255, 1e-12)
    rough = np.round(values / step) * step
    steps = np.maximum(np.abs(weight).max(0, keepdims=True) / 127, 1e-12)
    true = values @ weight
    return float(
        np.linalg.norm(rough @ (np.round(weight / steps) * steps) - true) / max(float(np.linalg.norm(true)), 1e-12)
    )

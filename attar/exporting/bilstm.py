"""The BiLSTM as an ONNX file, its input projection folded into the word vectors.

After training, what the LSTM adds to its gates for a word, W_ih x + b_ih + b_hh, depends on the word alone. It is
computed once for every word and direction and kept as a table; a step is then one row of the table plus W_hh h, a fifth
of the arithmetic at the paper's sizes (300 + 300 wide vectors, 150 hidden). An ONNX LSTM cannot take such rows without
multiplying them by an input matrix again, so the recurrence is written out as a Scan, whose step looks the rows up
itself: no tensor of the size batch x length x gates is ever made. Only the last states are wanted, so rows that have
ended keep theirs, and both directions run as one batched product.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attar.nets.bilstm import BilstmForSequenceClassification

OPSET = 18
_IR_VERSION = 10
_DTYPES = {"float32": np.float32, "float16": np.float16, "int8": np.int8}


def folded_bytes(model: BilstmForSequenceClassification, table: str) -> int:
    """Return the size of the folded table: two directions of 4 x hidden gates for every word."""
    return 8 * model.config.hidden_size * model.config.vocab_size * np.dtype(_DTYPES[table]).itemsize


def write_bilstm(model: BilstmForSequenceClassification, file: Path, *, table: str | None) -> None:
    """Write a BiLSTM with its head.

    Args:
        model: on the CPU or not.
        file: where to write.
        table: ``float32``, ``float16``, or ``int8`` with one scale a word; None leaves the projection unfolded.
    """
    import onnx

    tensors = {"R": _by_gate(_lstm(model, "weight_hh")).transpose(0, 2, 1)}  # (2, H, 4H)
    tensors |= _unfolded(model) if table is None else _folded(model, table)
    tensors |= _head(model)
    graph = _graph(model, tensors, table)
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION), file
    )


def _lstm(model: BilstmForSequenceClassification, name: str) -> Tensor:
    """Return a parameter of both directions, (2, 4H, ...)."""
    return torch.stack([getattr(model.lstm, f"{name}_l0{side}").detach().cpu().float() for side in ("", "_reverse")])


def _by_gate(values: Tensor) -> np.ndarray:
    """Reorder (2, 4H, ...) from torch's gates (input, forget, cell, output) so that the three sigmoids are together."""
    i, f, g, o = values.chunk(4, dim=1)
    return torch.cat([i, f, o, g], dim=1).numpy()


def _vectors(model: BilstmForSequenceClassification) -> Tensor:
    """Return both channels side by side, (V, 2E)."""
    channels = (model.frozen_vectors.weight, model.tuned_vectors.weight)
    return torch.cat([channel.detach().cpu().float() for channel in channels], -1)


def _bias(model: BilstmForSequenceClassification) -> np.ndarray:
    return _by_gate(_lstm(model, "bias_ih") + _lstm(model, "bias_hh"))  # (2, 4H)


def _folded(model: BilstmForSequenceClassification, table: str) -> dict[str, np.ndarray]:
    """Return the table (2V, 4H), the forward direction first, and for int8 its scales (2V, 1)."""
    weights, vectors = _by_gate(_lstm(model, "weight_ih")), _vectors(model).numpy()
    rows = np.concatenate([vectors @ w.T + b for w, b in zip(weights, _bias(model), strict=True)])
    if table != "int8":
        return {"table": rows.astype(_DTYPES[table])}
    scales = np.maximum(np.abs(rows).max(-1, keepdims=True), 1e-12) / 127
    return {"table": np.round(rows / scales).astype(np.int8), "scales": scales.astype(np.float32)}


def _unfolded(model: BilstmForSequenceClassification) -> dict[str, np.ndarray]:
    weights = _by_gate(_lstm(model, "weight_ih")).transpose(0, 2, 1)  # (2, 2E, 4H)
    return {"vectors": _vectors(model).numpy(), "W": weights, "b": _bias(model)[:, None, :]}


def _head(model: BilstmForSequenceClassification) -> dict[str, np.ndarray]:
    layers = {"projection": model.projection, "classifier": model.classifier}
    found = {}
    for name, layer in layers.items():
        found[f"{name}.weight"] = layer.weight.detach().cpu().float().numpy()
        found[f"{name}.bias"] = layer.bias.detach().cpu().float().numpy()
    return found


def _graph(model: BilstmForSequenceClassification, tensors: dict[str, np.ndarray], table: str | None) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    config = model.config
    sides, hidden = 2 if config.siamese else 1, config.hidden_size
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if config.siamese else [])]
    nodes = _Nodes(tensors)
    ids, keep = _lanes(nodes, sides, config.pad_token_id, 0 if table is None else config.vocab_size)
    shape = nodes("Concat", nodes("Slice", nodes("Shape", ids), "one", "three"), nodes.ints("H", [hidden]), axis=0)
    start = nodes("ConstantOfShape", shape)
    last, _ = nodes.many("Scan", 2, start, start, ids, keep, num_scan_inputs=2, body=_step(hidden, table))
    states = nodes("Reshape", nodes("Transpose", last, perm=[1, 0, 2]), nodes.ints("row", [-1, 2 * hidden]))
    if sides == 2:
        first, second = nodes.many("Split", 2, states, axis=0, num_outputs=2)
        product, difference = nodes("Mul", first, second), nodes("Abs", nodes("Sub", first, second))
        states = nodes("Concat", first, second, product, difference, axis=-1)
    inner = nodes("Relu", nodes("Gemm", states, "projection.weight", "projection.bias", transB=1))
    nodes("Gemm", inner, "classifier.weight", "classifier.bias", transB=1, output="logits")
    width = tensors["classifier.bias"].shape[0]
    return helper.make_graph(
        nodes.made,
        "bilstm",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in names],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", width])],
        [numpy_helper.from_array(np.ascontiguousarray(values), name) for name, values in tensors.items()],
    )


def _lanes(nodes: "_Nodes", sides: int, pad: int, stride: int) -> tuple[str, str]:
    """Lay every text out from its first word on, and from its last word backwards.

    Args:
        nodes: receives the operators.
        sides: texts a row.
        pad: id of padding. A text without words reads one, as the PyTorch model does.
        stride: what is added to the ids of the backward direction, whose rows of the table come second.

    Returns:
        Names of the ids (L, 2, sides x B), L being the longest text, and of what is not past the text's end,
        bool (L, 2, sides x B, 1).
    """
    for name, values in {"zero": [0], "one": [1], "two": [2], "three": [3]}.items():
        nodes.ints(name, values)
    for name, value in {"0": 0, "1": 1}.items():
        nodes.ints(name, value)
    nodes.ints("pad", pad)
    lengths, offsets = _spans(nodes, sides)
    # A column of padding behind all words, so that there is always one to read.
    rows = nodes("Shape", "input_ids")
    width = nodes("Slice", rows, "one", "two")
    batch = nodes("Slice", rows, "zero", "one")
    filler = nodes("Expand", "pad", nodes("Concat", batch, "one", axis=0))
    words = nodes("Transpose", nodes("Concat", "input_ids", filler, axis=1), perm=[1, 0])  # (T + 1, B)
    words = nodes("Concat", *[words] * sides, axis=1) if sides > 1 else words
    ends = nodes("Max", lengths, "1")  # (sides x B,)
    steps = nodes("ReduceMax", ends, keepdims=0)
    time = nodes("Unsqueeze", nodes("Range", "0", steps, "1"), "one")  # (L, 1)
    real, keep = nodes("Less", time, lengths), nodes("Less", time, ends)
    forward = nodes("Add", offsets, time)
    backward = nodes("Sub", nodes("Add", offsets, nodes("Sub", lengths, "1")), time)
    ids = []
    for at, shift in ((forward, 0), (backward, stride)):
        found = nodes("GatherElements", words, nodes("Where", real, at, width), axis=0)
        ids.append(nodes("Unsqueeze", nodes("Add", found, nodes.ints(f"shift{shift}", shift)), "one"))
    both = nodes("Concat", *[nodes("Unsqueeze", keep, "one")] * 2, axis=1)
    return nodes("Concat", *ids, axis=1), nodes("Unsqueeze", both, "three")


def _spans(nodes: "_Nodes", sides: int) -> tuple[str, str]:
    """Return names of the lengths and first places of all texts, (sides x B,), the first sides before the second."""
    total = nodes("ReduceSum", "attention_mask", "one", keepdims=0)
    if sides == 1:
        return total, nodes("Mul", total, "0")
    second = nodes("ReduceSum", nodes("Mul", "attention_mask", "token_type_ids"), "one", keepdims=0)
    first = nodes("Sub", total, second)
    return nodes("Concat", first, second, axis=0), nodes("Concat", nodes("Mul", first, "0"), first, axis=0)


def _step(hidden: int, table: str | None) -> Any:
    """Return the body of the Scan: states, ids (2, N) and keep (2, N, 1) to the next states (2, N, H)."""
    from onnx import TensorProto, helper

    nodes = _Nodes({})
    if table is None:
        inputs = nodes("Add", nodes("MatMul", nodes("Gather", "vectors", "ids"), "W"), "b")
    else:
        inputs = nodes("Gather", "table", "ids")
        if table != "float32":
            inputs = nodes("Cast", inputs, to=TensorProto.FLOAT)
        if table == "int8":
            inputs = nodes("Mul", inputs, nodes("Gather", "scales", "ids"))
    gates = nodes("Add", inputs, nodes("MatMul", "h", "R"))
    constant = helper.make_tensor("sizes", TensorProto.INT64, [2], [3 * hidden, hidden])
    sigmoid, cell = nodes.many("Split", 2, gates, nodes("Constant", value=constant), axis=2)
    i, f, o = nodes.many("Split", 3, nodes("Sigmoid", sigmoid), axis=2, num_outputs=3)
    state = nodes("Add", nodes("Mul", f, "c"), nodes("Mul", i, nodes("Tanh", cell)))
    nodes("Where", "keep", nodes("Mul", o, nodes("Tanh", state)), "h", output="next_h")
    nodes("Where", "keep", state, "c", output="next_c")
    floats = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, "n", hidden]) for name in ("h", "c")]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [2, "n"])
    keep = helper.make_tensor_value_info("keep", TensorProto.BOOL, [2, "n", 1])
    out = [helper.make_tensor_value_info(f"next_{name}", TensorProto.FLOAT, [2, "n", hidden]) for name in ("h", "c")]
    return helper.make_graph(nodes.made, "step", [*floats, ids, keep], out)


class _Nodes:
    """Operators in order; calling it appends one and returns the name of its output."""

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        self.made: list[Any] = []
        self._tensors = tensors

    def __call__(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        return self._append(operator, inputs, [output or f"{operator}_{len(self.made)}"], attributes)[0]

    def many(self, operator: str, n: int, *inputs: str, **attributes: Any) -> list[str]:
        """Append an operator with n outputs."""
        return self._append(operator, inputs, [f"{operator}_{len(self.made)}_{i}" for i in range(n)], attributes)

    def ints(self, name: str, values: int | list[int]) -> str:
        """Keep a constant and return its name."""
        self._tensors[name] = np.asarray(values, np.int64)
        return name

    def _append(self, operator: str, inputs: tuple[str, ...], outputs: list[str], attributes: Any) -> list[str]:
        from onnx import helper

        self.made.append(helper.make_node(operator, list(inputs), outputs, **attributes))
        return outputs

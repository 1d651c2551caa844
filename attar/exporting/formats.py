"""How each format is written, the fastest way first and safer ones after it."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from attar.errors import ConfigError, MissingExtra
from attar.exporting import bilstm
from attar.exporting.encoder import OPSETS, write_encoder
from attar.exporting.int8 import product_errors, quantize
from attar.nets.bilstm import BilstmForSequenceClassification
from attar.sizes import show_size

#: The engine of every format.
ENGINES = {"onnx": "onnx", "onnx-int8": "onnx", "openvino": "openvino"}
#: The model's file for every engine.
FILES = {"onnx": "model.onnx", "openvino": "model.xml"}
#: Tables of the folded BiLSTM that the user may ask for.
TABLES = ("float32", "float16")

#: Writes a model's file, and what belongs to it, into a folder.
Writer = Callable[[Path], None]


def attempts(
    model: PreTrainedModel,
    inputs: tuple[str, ...],
    kind: str,
    *,
    scratch: Path,
    sample: Mapping[str, np.ndarray],
    table: str,
    table_limit: int,
) -> Iterator[tuple[str, int, Writer]]:
    """Yield (setting, opset, writer), each safer than the one before.

    Args:
        model: what is exported.
        inputs: names of its inputs.
        kind: a key of :data:`ENGINES`.
        scratch: an existing folder for intermediate files.
        sample: a batch of real texts; shows which products int8 harms.
        table: the BiLSTM's, one of :data:`TABLES`.
        table_limit: largest folded table in bytes.
    """
    if isinstance(model, BilstmForSequenceClassification):
        ways = _bilstm(model, kind, table, table_limit)
    elif kind == "onnx-int8":
        ways = _int8(model, inputs, scratch, sample)
    else:
        opset = OPSETS[ENGINES[kind]]
        ways = iter([("float32", opset, partial(write_encoder, model, inputs, opset))])
    for setting, opset, write in ways:
        yield setting, opset, _to_openvino(write, scratch) if kind == "openvino" else _into(write)


def require_engine(kind: str) -> None:
    """Refuse an unknown format, and one whose engine is not installed, before anything is computed.

    Raises:
        ConfigError: for an unknown format.
        MissingExtra: where a package is missing.
    """
    from importlib.util import find_spec

    if kind not in ENGINES:
        raise ConfigError(f"--format expects one of {', '.join(ENGINES)}; found {kind!r}")
    extra = ENGINES[kind]
    for package in ("onnx", "onnxscript", "onnxruntime" if extra == "onnx" else "openvino"):
        if find_spec(package) is None:
            raise MissingExtra(package, extra)


def _bilstm(
    model: BilstmForSequenceClassification, kind: str, table: str, limit: int
) -> Iterator[tuple[str, int, Writer]]:
    names = ["int8", "float16"] if kind == "onnx-int8" else [table]
    for name in [*names, "float32"] if "float32" not in names else names:
        size = bilstm.folded_bytes(model, name)
        if size <= limit:
            yield f"folded, {name} table", bilstm.OPSET, partial(bilstm.write_bilstm, model, table=name)
    size = bilstm.folded_bytes(model, names[0])
    reason = f" ({show_size(size)} of table, limit {show_size(limit)})" if size > limit else ""
    yield (
        f"not folded{reason}",
        bilstm.OPSET,
        partial(bilstm.write_bilstm, model, table=None),
    )


def _int8(
    model: PreTrainedModel, inputs: tuple[str, ...], scratch: Path, sample: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, int, Writer]]:
    opset, whole = OPSETS["onnx"], scratch / "float32.onnx"
    write_encoder(model, inputs, opset, whole)
    yield "int8 per tensor", opset, partial(quantize, whole, per_channel=False)
    yield "int8 per channel", opset, partial(quantize, whole, per_channel=True)
    worst = list(product_errors(whole, {name: sample[name] for name in inputs}))
    for share, told in ((4, "a quarter"), (2, "half")):
        keep = worst[: -(-len(worst) // share)]
        yield (
            f"int8 per channel, {told} of the products float32",
            opset,
            partial(quantize, whole, per_channel=True, keep=keep),
        )


def _into(write: Writer) -> Writer:
    return lambda folder: write(folder / FILES["onnx"])


def _to_openvino(write: Writer, scratch: Path) -> Writer:
    def convert(folder: Path) -> None:
        import openvino

        file = scratch / "model.onnx"
        write(file)
        openvino.save_model(
            openvino.Core().read_model(str(file)), str(folder / FILES["openvino"]), compress_to_fp16=False
        )

    return convert

"""How each format is written, the fastest way first and safer ones after it."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from transformers import PreTrainedModel

from attar.data.encoding import Encoded
from attar.errors import ConfigError, MissingExtra
from attar.exporting import bilstm
from attar.exporting.encoder import OPSETS, write_encoder
from attar.exporting.int8 import inputs_of, product_errors, quantize, quantize_static
from attar.nets.bilstm import BilstmForSequenceClassification
from attar.sizes import show_size

#: The engine of every format.
ENGINES = {"onnx": "onnx", "onnx-int8": "onnx", "openvino": "openvino", "openvino-int8": "openvino"}
#: Packages that a format needs.
_PACKAGES = {
    "onnx": ("onnxruntime",),
    "onnx-int8": ("onnxruntime",),
    "openvino": ("openvino",),
    "openvino-int8": ("openvino", "nncf", "onnxruntime"),
}
#: The model's file for every engine.
FILES = {"onnx": "model.onnx", "openvino": "model.xml"}
#: Tables of the folded BiLSTM that the user may ask for.
TABLES = ("float32", "float16")

#: Writes a model's file, and what belongs to it, into a folder.
Writer = Callable[[Path], None]
#: Rows that show which parts of a model int8 harms.
_SAMPLE = 8


def attempts(
    model: PreTrainedModel,
    inputs: tuple[str, ...],
    kind: str,
    *,
    scratch: Path,
    texts: Encoded,
    table: str,
    table_limit: int,
) -> Iterator[tuple[str, int, Writer]]:
    """Yield (setting, opset, writer), each safer than the one before.

    Args:
        model: what is exported.
        inputs: names of its inputs.
        kind: a key of :data:`ENGINES`.
        scratch: an existing folder for intermediate files.
        texts: real ones; show int8 the range of activations, and which products it harms.
        table: the BiLSTM's, one of :data:`TABLES`.
        table_limit: largest folded table in bytes.
    """
    engine = ENGINES[kind]
    opset, file = OPSETS[engine], FILES[engine]
    if isinstance(model, BilstmForSequenceClassification):
        for setting, write in _bilstm(model, kind, table, table_limit):
            yield setting, bilstm.OPSET, _to_openvino(write, scratch) if engine == "openvino" else _into(write, file)
    elif kind in _INT8:
        whole = scratch / "float32.onnx"
        write_encoder(model, inputs, opset, whole)
        for setting, write in _INT8[kind](whole, inputs, texts):
            yield setting, opset, _into(write, file)
    else:
        write = partial(write_encoder, model, inputs, opset)
        yield "float32", opset, _to_openvino(write, scratch) if engine == "openvino" else _into(write, file)


def require_engine(kind: str) -> None:
    """Refuse an unknown format, and one whose engine is not installed, before anything is computed.

    Raises:
        ConfigError: for an unknown format.
        MissingExtra: where a package is missing.
    """
    from importlib.util import find_spec

    if kind not in ENGINES:
        raise ConfigError(f"--format expects one of {', '.join(ENGINES)}; found {kind!r}")
    for package in ("onnx", "onnxscript", *_PACKAGES[kind]):
        if find_spec(package) is None:
            raise MissingExtra(package, ENGINES[kind])


def _bilstm(model: BilstmForSequenceClassification, kind: str, table: str, limit: int) -> Iterator[tuple[str, Writer]]:
    names = ["int8", "float16"] if kind in _INT8 else [table]
    for name in [*names, "float32"] if "float32" not in names else names:
        size = bilstm.folded_bytes(model, name)
        if size <= limit:
            yield f"folded, {name} table", partial(bilstm.write_bilstm, model, table=name)
    size = bilstm.folded_bytes(model, names[0])
    reason = f" ({show_size(size)} of table, limit {show_size(limit)})" if size > limit else ""
    yield f"not folded{reason}", partial(bilstm.write_bilstm, model, table=None)


def _dynamic_int8(whole: Path, inputs: tuple[str, ...], texts: Encoded) -> Iterator[tuple[str, Writer]]:
    yield "int8 per tensor", partial(quantize, whole, per_channel=False)
    yield "int8 per channel", partial(quantize, whole, per_channel=True)
    for told, keep in _worst(whole, inputs, texts):
        yield f"int8 per channel, {told}", partial(quantize, whole, per_channel=True, keep=keep)


def _static_int8(whole: Path, inputs: tuple[str, ...], texts: Encoded) -> Iterator[tuple[str, Writer]]:
    yield "int8", partial(quantize_static, whole, inputs=inputs, texts=texts)
    for told, keep in _worst(whole, inputs, texts):
        yield f"int8, {told}", partial(quantize_static, whole, inputs=inputs, texts=texts, keep=keep)


_INT8 = {"onnx-int8": _dynamic_int8, "openvino-int8": _static_int8}


def _worst(whole: Path, inputs: tuple[str, ...], texts: Encoded) -> Iterator[tuple[str, list[str]]]:
    """Yield which products int8 had better leave alone, in words and by name."""
    worst = list(product_errors(whole, inputs_of(texts, range(min(_SAMPLE, len(texts))), inputs)))
    for share, told in ((4, "a quarter"), (2, "half")):
        yield f"{told} of the products float32", worst[: -(-len(worst) // share)]


def _into(write: Writer, file: str) -> Writer:
    return lambda folder: write(folder / file)


def _to_openvino(write: Writer, scratch: Path) -> Writer:
    def convert(folder: Path) -> None:
        import openvino

        file = scratch / "model.onnx"
        write(file)
        openvino.save_model(
            openvino.Core().read_model(str(file)), str(folder / FILES["openvino"]), compress_to_fp16=False
        )

    return convert

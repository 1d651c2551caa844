"""What this machine computes in a second, measured on layers of the encoder in question.

The weights are random: how long a multiplication takes does not depend on what is multiplied. A few layers of the
encoder, with a short vocabulary, stand for all of them: a deep encoder takes no longer to judge than a flat one.
"""

import copy
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from transformers import AutoModel, BertConfig, BertModel, PreTrainedConfig, PreTrainedModel

from attar.advice.encoder import Shape
from attar.nets.anatomy import anatomy
from attar.nets.bilstm import BilstmConfig, BilstmForSequenceClassification
from attar.nets.hardware import autocast, denormals_flushed, describe_hardware, pick_device
from attar.nets.lean_attention import lean_attention

#: Tokens of a measured batch.
_TOKENS = 1024
_LAYERS = 1
#: Layers that one text alone runs through, at most: its time goes into fetching weights, and those of one layer would
#: stay in the processor's cache.
_DEEP = 6
#: Words a text of the BiLSTM's measured step, at most.
_LSTM_WORDS = 64


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Measured costs; rates are in floating point operations a second."""

    hardware: dict[str, Any]
    forward_rate: float
    """A batch through the encoder's layers in eval mode."""
    train_rate: float
    """Forward and backward of a batch (three times the forward's operations)."""
    single_rate: float
    """One text through the layers, beyond :attr:`dispatch`."""
    dispatch: float
    """Seconds that a layer takes whatever its size: calls of Python and torch."""
    overhead: float
    """Seconds of one call outside the layers."""
    adam: float
    """Seconds a parameter for a step of AdamW."""
    lstm_step: float
    """Seconds of a training step of the BiLSTM: 50 texts of the data's typical length, without the word tables."""
    table_step: float
    """Seconds a parameter for a step of AdaDelta: the BiLSTM's word vectors move in every step."""
    lstm_single: float
    """Seconds of one text through the BiLSTM."""
    resident: int
    """Bytes of a process that has loaded the libraries."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready table."""
        return {key: (float(f"{v:.4g}") if isinstance(v, float) else v) for key, v in vars(self).items()}


@denormals_flushed()
def measure(shape: Shape, config: PreTrainedConfig, length: int, attended: int, words: int) -> Machine:
    """Time a forward, a training step and the BiLSTM, some two seconds in all.

    Args:
        shape: sizes of the encoder.
        config: its configuration.
        length: tokens of a typical text, as the encoder will read it.
        attended: tokens of the text that a typical token stands in: those of the measured batches.
        words: words of a typical text.
    """
    resident = psutil.Process(os.getpid()).memory_info().rss
    device = pick_device()
    model = _few_layers(config, _LAYERS).to(device)  # type: ignore[arg-type]
    batch = max(1, _TOKENS // attended)
    flops = batch * attended * shape.flops(_LAYERS, attended)
    forward = _forward_seconds(model, batch, attended, device)
    train = _train_seconds(model, batch, attended, device)
    tiny = BertModel(BertConfig(vocab_size=64, hidden_size=64, num_hidden_layers=6, num_attention_heads=1,
                                intermediate_size=64))  # fmt: skip
    tiny = tiny.to(device)  # type: ignore[arg-type]
    short_model = BertModel(_one_layer(tiny.config)).to(device)  # type: ignore[arg-type]
    small = _forward_seconds(tiny, 1, 16, device, repeats=9)
    short = _forward_seconds(short_model, 1, 16, device, repeats=9)
    dispatch = max(1e-5, (small - short) / 5)
    overhead = max(0.0, short - dispatch) + 5e-4  # and half a millisecond for tokenizing and decoding (assumed)
    deep = min(shape.layers, _DEEP)
    single = _forward_seconds(_few_layers(config, deep).to(device), 1, length, device, repeats=5)  # type: ignore[arg-type]
    spent = max(single - overhead - deep * dispatch, 0.2 * single)
    return Machine(
        hardware=describe_hardware(),
        forward_rate=flops / forward,
        train_rate=3 * flops / train,
        single_rate=length * shape.flops(deep, length) / spent,
        dispatch=dispatch,
        overhead=overhead,
        adam=_optimizer_seconds(lambda p: torch.optim.AdamW(p, fused=device.type in ("cpu", "cuda"))),
        table_step=_optimizer_seconds(lambda p: torch.optim.Adadelta(p, lr=1.0)),
        resident=resident,
        **_bilstm(words),
    )


def _few_layers(config: PreTrainedConfig, layers: int) -> PreTrainedModel:
    short = copy.deepcopy(config)
    with torch.device("meta"):
        key = anatomy(AutoModel.from_config(config)).depth_key
    setattr(short, key, layers)
    if getattr(short, "layer_types", None):
        short.layer_types = short.layer_types[:layers]
    short.vocab_size = max(1024, (short.pad_token_id or 0) + 1)
    return AutoModel.from_config(short)


def _one_layer(config: Any) -> Any:
    short = copy.deepcopy(config)
    short.num_hidden_layers = 1
    return short


def _inputs(model: Any, batch: int, length: int, device: torch.device) -> dict[str, torch.Tensor]:
    ids = torch.randint(4, model.config.vocab_size - 1, (batch, length), device=device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _forward_seconds(model: Any, batch: int, length: int, device: torch.device, repeats: int = 3) -> float:
    inputs = _inputs(model.eval(), batch, length, device)

    def call() -> None:
        with torch.inference_mode(), autocast(device, "auto"):
            model(**inputs)

    return _median(call, repeats)


def _train_seconds(model: Any, batch: int, length: int, device: torch.device) -> float:
    inputs = _inputs(model.train(), batch, length, device)

    def call() -> None:
        with lean_attention(model), autocast(device, "auto"):
            out = model(**inputs).last_hidden_state
        out.float().mean().backward()

    return _median(call, 3)


def _optimizer_seconds(make: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]) -> float:
    size = 2_000_000
    parameter = torch.nn.Parameter(torch.zeros(size, device=pick_device()))
    parameter.grad = torch.ones_like(parameter)
    return _median(make([parameter]).step, 3) / size


def _bilstm(words: int) -> dict[str, float]:
    measured = min(max(1, words), _LSTM_WORDS)  # beyond that, time grows with the number of words
    longer = max(1, words) / measured
    model = BilstmForSequenceClassification(BilstmConfig(vocab_size=500))
    ids = torch.randint(1, 500, (50, measured))

    def step() -> None:
        model(input_ids=ids).logits.square().mean().backward()

    def one() -> None:
        with torch.inference_mode():
            model(input_ids=ids[:1])

    seconds = _median(step, 3)
    model.eval()
    return {"lstm_step": longer * seconds, "lstm_single": longer * _median(one, 7)}


def _median(call: Callable[[], Any], repeats: int) -> float:
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)

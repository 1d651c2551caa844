"""A Transformer with its task head as an ONNX file, through torch.onnx."""

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attar.exporting.first_token import read_first_token_only
from attar.exporting.quiet import quiet
from attar.nets.longer import is_windowed

#: ONNX opset by engine. From 20 on GELU is one operator, and ONNX Runtime runs it as one; OpenVINO finds its parts.
OPSETS = {"onnx": 20, "openvino": 18}
#: Models above this size keep their weights beside the file: a single file ends at 2 GiB.
_ONE_FILE = 1_800_000_000


def write_encoder(model: PreTrainedModel, inputs: tuple[str, ...], opset: int, file: Path) -> None:
    """Trace a model and write it, with batch and length left open.

    Args:
        model: a task model in eval mode; modules that hang on it by hooks (adapters) are traced with it. It is moved to
            the CPU, in float32, and its attention set to the plain one, which exports to the fewest operators; an
            encoder with windowed attention keeps its own.
        inputs: names of its inputs, each int64 (batch, length).
        opset: ONNX opset.
        file: where to write; a large model's weights go to ``<file>.data``.
    """
    model = model.to("cpu").float().eval()  # type: ignore[arg-type]
    if not is_windowed(model):
        model.set_attn_implementation("eager")
    # Neither 0 nor 1 long: torch.export takes those sizes for constants.
    example = {name: torch.ones(3, 7, dtype=torch.int64) for name in inputs}
    if "token_type_ids" in example:
        example["token_type_ids"] = torch.zeros(3, 7, dtype=torch.int64)
    size = sum(tensor.nbytes for tensor in model.state_dict().values())
    with quiet(), torch.no_grad():
        torch.onnx.export(
            _Logits(model),
            kwargs=example,
            f=str(file),
            input_names=list(inputs),
            output_names=["logits"],
            dynamic_shapes={name: {0: "batch", 1: "length"} for name in inputs},
            opset_version=opset,
            dynamo=True,
            external_data=size > _ONE_FILE,
            verbose=False,
        )
    read_first_token_only(file)


class _Logits(nn.Module):
    """The model with tensors for results, as an ONNX graph has them."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        further = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        return self.model(input_ids=input_ids, attention_mask=attention_mask, **further).logits

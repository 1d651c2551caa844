"""Heads on the first token: one row of the last layer's output is all that they read, and all that is computed then.

Behind its attention every token of a layer goes its own way. Where the head takes the first one, the last layer's
feed-forward block runs for that one alone: a sixth of an encoder of four layers, a ninth of one of six. The row is the
same but for the order of sums. :mod:`attar.exporting.first_token` does so in exported graphs.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from attar.errors import ModelError
from attar.nets.anatomy import Anatomy, anatomy
from attar.nets.prefix import shallow

#: Families whose layers normalise behind their attention, and whose sequence classifier reads the first token.
_FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "mpnet", "distilbert", "deberta", "deberta-v2")


def reads_first_token(kind: type) -> bool:
    """Tell whether models of a class make their logits of the first token's state alone."""
    return kind.__name__.endswith("ForSequenceClassification") and _family(kind) in _FAMILIES


def _family(kind: type) -> str:
    name: str = getattr(getattr(kind, "config_class", None), "model_type", "")
    return name.removeprefix("attar-windowed-")


def first_token_suffices(model: nn.Module) -> bool:
    """Tell whether a model's head reads one row a text of what its last layer makes, and can have it alone."""
    return _norm_of(model) is not None


def first_token_only(model: nn.Module) -> AbstractContextManager[None]:
    """Have a model compute of its last layer what its head reads; models with other heads are left as they are.

    Meanwhile its last hidden states are those of the first token, (B, 1, W).
    """
    path = _norm_of(model)
    return nullcontext() if path is None else _cut_off(model.get_submodule(path))


@contextmanager
def _cut_off(norm: nn.Module) -> Iterator[None]:
    handle = norm.register_forward_hook(_first)
    try:
        yield
    finally:
        handle.remove()


def first_token_twin(model: nn.Module) -> nn.Module:
    """Return a model that shares all weights with another and computes of its last layer what its head reads.

    The other one stays as it is. A model with another head is returned itself.
    """
    path = _norm_of(model)
    return model if path is None else cut_off_twin(model, path)


def cut_off_twin(module: nn.Module, path: str) -> nn.Module:
    """Return a module that shares all weights with another, and all of whose part at ``path`` but the first token."""
    twin = part = _unwatched(module)
    for name in path.split("."):
        part._modules[name] = part = _unwatched(part.get_submodule(name))
    part._forward_hooks = OrderedDict(part._forward_hooks)
    part.register_forward_hook(_first)
    return twin


def _unwatched(module: nn.Module) -> nn.Module:
    """Return a shallow copy on which transformers hangs no hooks for hidden states and attentions.

    It would do so once a twin, on modules that are those of the other model: with every call there would be more.
    """
    twin: Any = shallow(module)
    twin._output_capturing_hooks_installed = True  # looked for on models alone
    return twin


def last_norm(parts: Anatomy) -> str | None:
    """Return the path, below the base model, of the norm behind the last layer's attention.

    None where the layers are not alone: DeBERTa adds a convolution over all tokens to what its first one makes.
    """
    *_, last = parts.layers._modules  # of a model without its bottom, the layers above keep their numbers
    if last == "0" and "encoder.conv" in parts.bottom:
        return None
    return f"{parts.layers_path}.{last}.{parts.paths.attention_norm}"


def cut_of(model: PreTrainedModel) -> str | None:
    """Return the path, below the base model, of the module behind which every token goes its own way; None for none."""
    if _family(type(model)) not in _FAMILIES:
        return None
    try:
        return last_norm(anatomy(model))
    except ModelError:  # no layer is left of an encoder whose head alone is trained
        return None


def _norm_of(model: nn.Module) -> str | None:
    if not isinstance(model, PreTrainedModel) or not reads_first_token(type(model)):
        return None
    path = cut_of(model)
    return path and f"{model.base_model_prefix}.{path}"


def _first(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output[:, :1]

"""Bottleneck adapters in a loaded encoder (Houlsby et al. 2019, arXiv 1902.00751).

An adapter hangs on the module whose output is a sub-layer's, after its dropout and before the residual is added, and
replaces that output through a forward hook. So the parameters of the encoder keep their names.
"""

from typing import Any, Literal

from torch import Tensor, nn
from transformers import PreTrainedModel

from attar.errors import ConfigError, ModelError, nearest
from attar.nets.anatomy import Anatomy, anatomy

Placement = Literal["houlsby", "pfeiffer"]

#: Parts of a layer that get an adapter. Pfeiffer et al. 2021 keep the one after the feed-forward.
_PLACES: dict[str, tuple[str, ...]] = {
    "houlsby": ("attention_end", "feed_forward_end"),
    "pfeiffer": ("feed_forward_end",),
}
_ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}
#: Name of an adapter below the module that it hangs on.
_CHILD = "adapter"


class Adapter(nn.Module):
    """Bottleneck with a skip of its own: A(u) = u + W_up f(W_down u + b) + b'.

    2 x width x bottleneck + width + bottleneck parameters. Weights are drawn from a zero-mean Gaussian cut off at two
    standard deviations, biases are zero, so that a fresh adapter is near the identity (section 2.1 of the paper).
    """

    hook: Any = None
    """Handle of the forward hook that calls it, to take it away again."""

    def __init__(self, width: int, *, bottleneck: int = 64, activation: str = "gelu", init_std: float = 1e-2) -> None:
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.activation = _ACTIVATIONS[activation]()
        self.up = nn.Linear(bottleneck, width)
        for linear in (self.down, self.up):
            if init_std > 0:
                nn.init.trunc_normal_(linear.weight, std=init_std, a=-2 * init_std, b=2 * init_std)
            else:
                nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Adapt (..., width) to (..., width)."""
        return hidden + self.up(self.activation(self.down(hidden)))


def insert_adapters(
    model: PreTrainedModel,
    *,
    bottleneck: int = 64,
    activation: str = "gelu",
    init_std: float = 1e-2,
    placement: Placement = "houlsby",
    drop_first: int = 0,
) -> None:
    """Put adapters into an encoder, in place.

    Args:
        model: an encoder with or without a task head.
        bottleneck: inner width of an adapter.
        activation: ``gelu``, ``relu``, ``silu`` or ``tanh``.
        init_std: standard deviation of the initial weights; 0 makes every adapter the identity.
        placement: ``houlsby`` after the attention and after the feed-forward of every layer, ``pfeiffer`` after the
            feed-forward alone.
        drop_first: leave the first layers without adapters (AdapterDrop, Rücklé et al. 2021).

    Raises:
        ConfigError: for settings out of range.
        ModelError: for an encoder that has adapters already.
    """
    parts = anatomy(model)
    _check(parts, placement, activation, drop_first)
    if adapter_names(model):
        raise ModelError("the encoder already has adapters; remove them first, or load the encoder again")
    like = next(parts.base.parameters())
    for place in _places(parts, placement, drop_first):
        adapter = Adapter(parts.width, bottleneck=bottleneck, activation=activation, init_std=init_std)
        place.add_module(_CHILD, adapter.to(device=like.device, dtype=like.dtype))
        adapter.hook = place.register_forward_hook(_adapt)


def adapter_places(parts: Anatomy) -> list[str]:
    """Return the dotted paths below the base model of all modules on which adapters can hang."""
    paths = {id(module): path for path, module in parts.base.named_modules()}
    return [paths[id(place)] for place in _places(parts, "houlsby", 0)]


def remove_adapters(model: nn.Module) -> None:
    """Take all adapters out again; the encoder is then as it was before they were inserted."""
    for place in list(model.modules()):
        adapter = place._modules.get(_CHILD)
        if isinstance(adapter, Adapter):
            adapter.hook.remove()
            delattr(place, _CHILD)


def adapter_names(model: nn.Module) -> set[str]:
    """Return the names of all parameters of adapters."""
    adapters = [(path, module) for path, module in model.named_modules() if isinstance(module, Adapter)]
    return {f"{path}.{name}" for path, adapter in adapters for name, _ in adapter.named_parameters()}


def _check(parts: Anatomy, placement: str, activation: str, drop_first: int) -> None:
    for value, known in ((placement, _PLACES), (activation, _ACTIVATIONS)):
        if value not in known:
            raise ConfigError(f"adapters expect one of {', '.join(known)}; found {value!r}{nearest(value, known)}")
    depth = len(parts.layers)
    if not 0 <= drop_first < depth:
        raise ConfigError(f"drop_first expects 0 to {depth - 1}: the encoder has {depth} layers; found {drop_first}")


def _places(parts: Anatomy, placement: str, drop_first: int) -> list[nn.Module]:
    layers = range(drop_first, len(parts.layers))
    return [parts.part(layer, part) for layer in layers for part in _PLACES[placement]]


def _adapt(place: nn.Module, _: Any, output: Tensor) -> Tensor:
    return getattr(place, _CHILD)(output)

"""Make an encoder read longer texts: windowed attention, and positions extended by copies."""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from attar.errors import ConfigError, ModelError
from attar.nets import windowed
from attar.nets.anatomy import position_limit, position_offset

#: Tokens of the window, both sides together, where nobody says otherwise.
WINDOW = 256
#: Why a family is refused; others have an attention that nothing can be plugged into.
_REASONS = {
    "deberta-v2": "its attention scores content against position by code of its own",
    "deberta": "its attention scores content against position by code of its own",
    "modernbert": "its layers have windows already, and it reads 8,192 tokens",
    "longformer": "its layers have windows already",
    "big_bird": "its attention is sparse already",
    "attar-bilstm": "it has no attention",
}


def is_windowed(model: PreTrainedModel) -> bool:
    """Return whether an encoder has windowed attention of this package."""
    return isinstance(model, windowed.Windowed)


def takes_windows(model_type: str) -> bool:
    """Return whether encoders of this type can be made longer."""
    return model_type.replace("-", "") in map(str.lower, windowed.FAMILIES)


def lengthened(model: PreTrainedModel, long: str, max_length: int) -> PreTrainedModel:
    """Return the encoder that a run trains: windowed where its setting ``long`` asks for it and it is not yet."""
    return make_longer(model, max_length=max_length) if long == "windowed" and not is_windowed(model) else model


def describe_windows(model: PreTrainedModel) -> list[str]:
    """Return what is to be said of an encoder's windows; nothing where it has none."""
    if not is_windowed(model):
        return []
    config: Any = model.config
    own = ", with projections of their own" if config.global_projections else ""
    return [
        f"windowed attention: {config.attention_window // 2} tokens to either side, {config.global_tokens} global "
        f"tokens{own}; up to {position_limit(model):,} tokens are read"
    ]


def make_longer(
    model: PreTrainedModel,
    *,
    max_length: int,
    window: int = WINDOW,
    global_tokens: int = 1,
    global_projections: bool = False,
) -> PreTrainedModel:
    """Return an encoder with the weights of ``model`` that reads texts of ``max_length`` tokens, in windows.

    Position embeddings beyond the table are the table again, from its first position on (Beltagy et al. 2020, section
    5: random new positions cost a model nearly all that it knew, copies next to nothing). In texts of at most
    ``window`` tokens the result says bit for bit what ``model`` says.

    Args:
        model: an encoder with full attention, with or without a head; it is left as it is.
        max_length: longest input in tokens.
        window: tokens that a token attends to, half of them on either side.
        global_tokens: tokens at the beginning that attend to all and that all attend to.
        global_projections: give what the global tokens read projections of its own, at first copies.

    Raises:
        ModelError: for a family that cannot be windowed, with the reason.
        ConfigError: for a window that is odd, or no shorter than the texts.
    """
    _check(max_length, window, global_tokens)
    config = _config(model)
    offset = position_offset(model)
    config.max_position_embeddings = max_length + offset
    config.attention_window, config.global_tokens = window, global_tokens
    config.global_projections = global_projections
    long = getattr(windowed, windowed.PREFIX + type(model).__name__)(config)
    with torch.no_grad():
        state = {name: _extended(name, tensor, max_length, offset) for name, tensor in model.state_dict().items()}
        for name in long.state_dict().keys() - state.keys():
            state[name] = state[name.replace("_global.", ".")]
    long.load_state_dict(state)
    return long.to(model.device).train(model.training)


def _check(max_length: int, window: int, global_tokens: int) -> None:
    if window < 2 or window % 2:
        raise ConfigError(
            f"a window reaches equally far to both sides: expected an even number above 0, found {window}"
        )
    if window >= max_length:
        raise ConfigError(
            f"a window of {window} tokens is no shorter than texts of {max_length}: nothing would be left out; "
            "give a larger --max-length, or attar longer a smaller --window"
        )
    if not 0 <= global_tokens <= window:
        raise ConfigError(f"expected 0 to {window} global tokens, as many as the window at most; found {global_tokens}")


def _config(model: PreTrainedModel) -> Any:
    """Return the configuration of the model's windowed twin."""
    name, kind = type(model).__name__, model.config.model_type
    if is_windowed(model):
        raise ModelError(f"{name} is windowed already (window {model.config.attention_window})")
    twin = getattr(windowed, windowed.PREFIX + name, None)
    if twin is None:
        families = ", ".join(windowed.FAMILIES)
        reason = _REASONS.get(kind, "its attention is none that windows can be plugged into")
        raise ModelError(f"{name} cannot be made longer: {reason}; known families: {families}")
    table = {key: value for key, value in model.config.to_dict().items() if key not in ("model_type", "auto_map")}
    return twin.config_class.from_dict(table)


def _extended(name: str, tensor: Tensor, max_length: int, offset: int) -> Tensor:
    """Return a table of positions repeated up to the length, its offset rows once; every other tensor as it is."""
    if not name.endswith("embeddings.position_embeddings.weight"):
        return tensor
    used = tensor[offset:]
    copies = -(-max_length // len(used))
    return torch.cat([tensor[:offset], used.repeat(copies, 1)[:max_length]])

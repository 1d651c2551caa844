"""Logits over the vocabulary, only at the places where they are wanted."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel


def states_and_logits(
    model: nn.Module, inputs: Mapping[str, Tensor], places: Tensor, *, inner: PreTrainedModel
) -> tuple[Tensor, Tensor]:
    """Run a masked language model with its head at some places alone.

    The map to the vocabulary costs more than all layers of a small encoder, and most places of a batch may be padding
    or need no prediction.

    Args:
        model: what is called, possibly ``inner`` wrapped for distributed training.
        inputs: ids and masks, (B, T).
        places: boolean (B, T), N of them true.
        inner: the masked language model itself.

    Returns:
        The last hidden states of all places, (B, T, W), and the logits of the given ones in order, (N, V).
    """
    seen: list[Tensor] = []

    def keep_places(module: nn.Module, arguments: Any, output: Any) -> Any:
        seen.append(output.last_hidden_state)
        output.last_hidden_state = output.last_hidden_state[places].unsqueeze(0)
        return output

    hook = inner.base_model.register_forward_hook(keep_places)
    try:
        logits: Tensor = model(**inputs).logits
    finally:
        hook.remove()
    return seen[0], logits.squeeze(0)


def last_states(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return the last hidden states without running a head, (B, T, W)."""
    states: Tensor = model.base_model(**inputs).last_hidden_state
    return states

"""From a model with a delta in it to a plain transformers model."""

from transformers import PreTrainedModel

from attar.errors import ModelError
from attar.nets.deltas.format import DeltaHeader, is_delta, read_header
from attar.nets.deltas.insertion import by_peft
from attar.nets.loading import load_for_task


def load_whole(name: str, kind: str) -> PreTrainedModel:
    """Load a fine-tuned model for surgery: a plain transformers model, a delta merged.

    Raises:
        ModelError: for what cannot be loaded or merged.
    """
    model = load_for_task(name, kind)
    return merge_insertion(model, read_header(name)) if is_delta(name) else model


def merge_insertion(model: PreTrainedModel, header: DeltaHeader) -> PreTrainedModel:
    """Fold what a delta inserted into the encoder's own weights, in place; a delta without insertions is so already.

    Args:
        model: with the delta in it.
        header: of the delta.

    Raises:
        ModelError: for adapters, which cannot be folded into weights.
    """
    if header.insertion is None:
        return model
    if not by_peft(header.insertion):
        raise ModelError(
            f"{header.method} cannot be merged: its modules run one after another with a non-linear function in "
            "between, and no weight of the encoder computes that; keep the delta beside its encoder"
        )
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            model.set_submodule(name, module.get_base_layer())
    del model.peft_config
    return model.requires_grad_(True)  # peft froze what it wrapped

"""LoRA, DoRA, IA3 and SHiRA in a loaded encoder: the peft library's own modules, where the anatomy says."""

from collections.abc import Sequence
from typing import Any, Literal

from transformers import PreTrainedModel

from attar.errors import ConfigError, MissingExtra, ModelError, nearest
from attar.nets.anatomy import anatomy

PeftKind = Literal["lora", "dora", "ia3", "shira"]

#: Linear maps of a layer that can be targets.
TARGETS = ("query", "key", "value", "attention_out", "feed_forward_in", "feed_forward_out")
#: Where each kind goes by default: Hu et al. 2022 adapt queries and values, Liu et al. 2022 rescale keys, values and
#: what goes into the second feed-forward map. SHiRA's are ours: with rank 1, single weights of these four maps are as
#: many as BERT-base has biases, within 2 %.
_DEFAULT_TARGETS: dict[str, tuple[str, ...]] = {
    "lora": ("query", "value"),
    "dora": ("query", "value"),
    "ia3": ("key", "value", "feed_forward_out"),
    "shira": ("query", "key", "value", "feed_forward_in"),
}
#: Of the positions that SHiRA trains, which are drawn again whenever a delta is loaded.
_SEED = 0


def peft_settings(
    model: PreTrainedModel,
    *,
    kind: PeftKind = "lora",
    rank: int = 8,
    alpha: float = 16,
    dropout: float = 0.0,
    targets: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the entries of peft's configuration for one kind of layers at places that the anatomy names.

    Args:
        model: an encoder with or without a task head.
        kind: ``lora`` (Hu et al. 2022), ``dora`` (Liu et al. 2024), ``ia3`` (Liu et al. 2022) or ``shira`` (Bhardwaj et
            al. 2024: single weights, drawn at random).
        rank: inner width of LoRA and DoRA; SHiRA trains as many numbers as LoRA would.
        alpha: LoRA's and DoRA's update is scaled by alpha / rank.
        dropout: on the input of LoRA's and DoRA's update.
        targets: linear maps of every layer, of :data:`TARGETS`; none for the kind's own.

    Raises:
        ConfigError: for an unknown kind or target.
    """
    if kind not in _DEFAULT_TARGETS:
        raise ConfigError(f"kind expects lora, dora, ia3 or shira; found {kind!r}{nearest(kind, _DEFAULT_TARGETS)}")
    wanted = tuple(targets) or _DEFAULT_TARGETS[kind]
    unknown = [target for target in wanted if target not in TARGETS]
    if unknown:
        known = ", ".join(TARGETS)
        raise ConfigError(f"unknown target {unknown[0]!r}{nearest(unknown[0], TARGETS)} (known: {known})")
    maps = module_names(model, wanted)
    if kind == "ia3":
        inner = module_names(model, [target for target in wanted if target == "feed_forward_out"])
        return {"peft_type": "IA3", "target_modules": maps, "feedforward_modules": inner}
    if kind == "shira":
        return {"peft_type": "SHIRA", "target_modules": maps, "r": rank, "random_seed": _SEED}
    return {
        "peft_type": "LORA",
        "target_modules": maps,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "use_dora": kind == "dora",
    }


def insert_peft(model: PreTrainedModel, **settings: Any) -> None:
    """Put peft's layers into an encoder, in place; they alone may move then.

    The parameters of a target gain ``base_layer`` in their names.

    Args:
        model: an encoder with or without a task head.
        settings: entries of peft's configuration, see :func:`peft_settings`.

    Raises:
        ModelError: where peft cannot put them there.
        MissingExtra: without peft.
    """
    try:
        import peft
    except ImportError as error:
        raise MissingExtra("peft", "peft") from error
    try:
        peft.inject_adapter_in_model(peft.get_peft_config(settings), model)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"peft cannot put its layers into {type(model).__name__}: {error}") from error


def module_names(model: PreTrainedModel, targets: Sequence[str]) -> list[str]:
    """Return the dotted paths of every layer's linear maps of the given names, each once (ModernBERT fuses three)."""
    parts = anatomy(model)
    paths = {id(module): path for path, module in model.named_modules()}
    places = [parts.part(layer, target) for layer in range(len(parts.layers)) for target in targets]
    return list(dict.fromkeys(paths[id(place)] for place in places))

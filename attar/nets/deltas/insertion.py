"""Modules that a delta needs before its tensors fit: attar's adapters, or what the peft library inserts."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from attar.errors import BundleError, MissingExtra

#: The name under which peft keeps a model's one adapter.
_NAME = "default"


def by_peft(insertion: Mapping[str, Any] | None) -> bool:
    """Return whether the peft library makes an insertion."""
    return insertion is not None and insertion["kind"] == "peft"


def insert(model: PreTrainedModel, insertion: Mapping[str, Any] | None, tensors: Iterable[str]) -> set[str]:
    """Make a delta's modules in a task model, in place, with weights of no account.

    Args:
        model: the task model.
        insertion: of the delta; None inserts nothing.
        tensors: names of the delta's tensors. By them peft finds the very modules that were changed.

    Returns:
        The names of what was inserted, as the model's state has them.

    Raises:
        BundleError: for a kind of insertion that is not known, or settings that it does not know.
        MissingExtra: where peft is needed and not installed.
    """
    before = {id(tensor) for tensor in model.state_dict(keep_vars=True).values()}
    if insertion is not None:
        settings = {key: value for key, value in insertion.items() if key != "kind"}
        makers = {"adapters": _insert_adapters, "peft": _inject_peft}
        if insertion["kind"] not in makers:
            raise BundleError(f"unknown insertion {insertion['kind']!r}; this version of attar knows adapters and peft")
        try:
            makers[insertion["kind"]](model, settings, tensors)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"the delta's insertion cannot be made: {type(error).__name__}: {error}") from error
    return {name for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) not in before}


def fill_peft(model: PreTrainedModel, tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Give the modules that peft inserted their tensors.

    Args:
        model: the task model, the modules in it.
        tensors: of a delta.
        where: the delta's folder, for errors.

    Returns:
        The delta's other tensors.

    Raises:
        BundleError: where a tensor of the modules is lacking, or has another shape.
    """
    from peft import set_peft_model_state_dict

    wanted = peft_tensors(model)
    for name, tensor in wanted.items():
        if name not in tensors:
            raise BundleError(f"the delta {where} lacks {name}, which its configuration expects")
        if tensors[name].shape != tensor.shape:
            found, expected = tuple(tensors[name].shape), tuple(tensor.shape)
            raise BundleError(f"the delta {where} has {name} of shape {found}; its configuration expects {expected}")
    with _quiet():
        set_peft_model_state_dict(model, {name: tensors[name] for name in wanted}, adapter_name=_NAME)
    return {name: tensor for name, tensor in tensors.items() if name not in wanted}


def peft_tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return the tensors of the modules that peft inserted, by peft's names, which lack the adapter's."""
    from peft import get_peft_model_state_dict

    with _quiet():
        found = get_peft_model_state_dict(model, adapter_name=_NAME, save_embedding_layers=False)
    plain = model.state_dict().keys()  # peft counts trained biases of the encoder as its own, too
    return {name: tensor for name, tensor in found.items() if name not in plain}


def peft_configuration(model: PreTrainedModel) -> dict[str, Any]:
    """Return the configuration of what peft inserted, as JSON holds it."""
    table = model.peft_config[_NAME].to_dict()  # type: ignore[attr-defined]
    return {key: _plain(value) for key, value in table.items()}


def _insert_adapters(model: PreTrainedModel, settings: dict[str, Any], _: Iterable[str]) -> None:
    from attar.nets.deltas.adapters import insert_adapters

    insert_adapters(model, **settings)


def _inject_peft(model: PreTrainedModel, settings: dict[str, Any], tensors: Iterable[str]) -> None:
    try:
        import peft
    except ImportError as error:
        raise MissingExtra("peft", "peft") from error
    # The head is not wrapped: its tensors have the names of the task model, as in any other delta.
    config = peft.get_peft_config({**settings, "modules_to_save": None})
    names: Any = dict.fromkeys(tensors)  # peft reads the names alone
    with _quiet():
        peft.inject_adapter_in_model(config, model, adapter_name=_NAME, state_dict=names)


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    return value.value if hasattr(value, "value") else value


def _quiet() -> Any:
    """Silence peft's remarks on how modules were found; what matters is checked and raised here."""
    return warnings.catch_warnings(action="ignore")

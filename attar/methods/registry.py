"""The lists of methods. A method is a name, a room, the room's settings, and what the room is for."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, Literal

from attar.config import TrainConfig
from attar.errors import ConfigError, nearest

#: For every use, the module of a room that holds the plan, and the name of its training defaults.
_PLANS = {"distill": ("plan", "TRAIN"), "finetune": ("plan", "TRAIN"), "pretrain": ("pretrain", "PRETRAIN")}


@dataclass(frozen=True)
class Method:
    """One entry; the room is imported when it is used."""

    name: str
    room: str
    config: str
    """Name of the settings class in the room's ``config.py``."""
    use: Literal["distill", "finetune", "pretrain"]
    summary: str

    def config_class(self) -> type:
        """Return the settings class; it loads neither torch nor transformers."""
        return getattr(import_module(f"attar.methods.{self.room}.config"), self.config)

    def train_defaults(self, config: Any) -> TrainConfig:
        """Return the room's training defaults: its constant, or what its ``train_of`` makes of the settings."""
        room = import_module(f"attar.methods.{self.room}.config")
        return room.train_of(config) if hasattr(room, "train_of") else getattr(room, _PLANS[self.use][1])

    def plan(self) -> Callable[..., list[Any]]:
        """Return the room's plan."""
        return import_module(f"attar.methods.{self.room}.{_PLANS[self.use][0]}").plan


METHODS = {
    method.name: method
    for method in (
        Method("bilstm-soft", "bilstm_soft", "BilstmSoft", "distill", "one-layer BiLSTM that regresses logits"),
        Method("logits", "logits", "Logits", "distill", "any encoder that learns the teacher's probabilities"),
        Method("distilbert", "distilbert", "DistilBert", "distill", "half of the teacher's layers, teacher and labels"),
        Method("tinybert", "tinybert", "TinyBert", "distill", "a thin student learns layers, then predictions"),
        Method("full", "freezing", "Full", "finetune", "fine-tune all weights"),
        Method("freezing", "freezing", "Freezing", "finetune", "train the top layers and the head"),
        Method("bitfit", "bitfit", "BitFit", "finetune", "train the biases and the head"),
        Method("adapters", "adapters", "Adapters", "finetune", "train small modules inside the frozen encoder"),
        Method(
            "lora",
            "lora",
            "Lora",
            "finetune",
            "train low-rank updates (LoRA, DoRA), scales (IA3) or single weights (SHiRA), by peft",
        ),
    )
}

#: Methods of ``attar pretrain``. A room that distils before and on the task has one entry in each list.
PRETRAINING = {
    method.name: method
    for method in (
        Method("distilbert", "distilbert", "DistilBertPretraining", "pretrain", "half of the layers learn to fill in"),
        Method("tinybert", "tinybert", "TinyBertPretraining", "pretrain", "a thin encoder learns an encoder's layers"),
        Method("mlm-head", "mlm_head", "MlmHead", "pretrain", "a masked-language-model head on a frozen encoder"),
    )
}


def find_method(name: str, use: str) -> Method:
    """Return the method of a name.

    Raises:
        ConfigError: for a name that is unknown, or belongs to the other command.
    """
    table = PRETRAINING if use == "pretrain" else METHODS
    known = [m for m, entry in table.items() if entry.use == use]
    found = table.get(name) or PRETRAINING.get(name) or METHODS.get(name)
    if found is None:
        raise ConfigError(f"unknown method {name!r}{nearest(name, known)} (attar {use} knows: {', '.join(known)})")
    if found.use != use:
        raise ConfigError(f"method {name!r} belongs to attar {found.use}; attar {use} knows: {', '.join(known)}")
    return found


def method_of(config: object) -> Method:
    """Return the entry whose settings ``config`` is an instance of."""
    entries = [*METHODS.values(), *PRETRAINING.values()]
    for entry in entries:
        if entry.config == type(config).__name__:
            return entry
    known = ", ".join(entry.config for entry in entries)
    raise ConfigError(f"method expects settings such as attar.BilstmSoft(); found {type(config).__name__} ({known})")


def plan_of(config: object) -> Callable[..., list[Any]]:
    """Return the plan of a method's settings, the settings filled in."""
    return partial(method_of(config).plan(), config)

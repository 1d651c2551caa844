"""Recipes: a whole run as a table, from a TOML file, from flags, or back from a config."""

from typing import Any

from attar.config import PretrainConfig, PretrainRun, RunConfig, from_table, to_table
from attar.errors import ConfigError
from attar.methods.registry import find_method, method_of

#: What is used where a recipe names no method.
_DEFAULT_METHODS = {"finetune": "full", "distill": "bilstm-soft", "pretrain": "distilbert"}


def config_of(table: dict[str, Any]) -> RunConfig | PretrainRun:
    """Resolve a recipe's table into a config: the method's own training defaults below what the table says.

    Raises:
        ConfigError: for an unknown method or setting, or one that is missing.
    """
    command = table.get("command", "distill")
    if command not in _DEFAULT_METHODS:
        known = ", ".join(f'"{name}"' for name in _DEFAULT_METHODS)
        raise ConfigError(f"recipe expects command = one of {known}; found {command!r}")
    resolved = _with_method({**table, "command": command}, command)
    if command == "pretrain":
        return from_table(PretrainRun, resolved)
    if "pretrain" in table:
        if command != "distill":
            raise ConfigError(f"a section [pretrain] belongs to a recipe that distils; found command = {command!r}")
        section = _section(table, "pretrain")
        resolved["pretrain"] = from_table(PretrainConfig, _with_method(section, "pretrain", "pretrain."), "pretrain.")
    return from_table(RunConfig, resolved)


def recipe_table(config: RunConfig | PretrainRun) -> dict[str, Any]:
    """Return the table that :func:`config_of` turns into the same config."""
    table = _told(to_table(config), config.method)
    if isinstance(config, RunConfig) and config.pretrain is not None:
        table["pretrain"] = _told(table["pretrain"], config.pretrain.method)
    return table


def _with_method(table: dict[str, Any], command: str, where: str = "") -> dict[str, Any]:
    """Return the table with the method's settings resolved and its training defaults below what is said."""
    settings = dict(_section(table, "method", where))
    method = find_method(str(settings.pop("name", _DEFAULT_METHODS[command])), command)
    config: Any = from_table(method.config_class(), settings, f"{where}method.")
    train = {**to_table(method.train_defaults(config)), **_section(table, "train", where)}
    return {**table, "train": train, "method": config}


def _section(table: dict[str, Any], name: str, where: str = "") -> dict[str, Any]:
    found = table.get(name, {})
    if not isinstance(found, dict):
        raise ConfigError(f"recipe expects a section [{where}{name}]; found {where}{name} = {found!r}")
    return found


def _told(table: dict[str, Any], config: Any) -> dict[str, Any]:
    """Return a config's table with the method's name in it."""
    method = method_of(config)
    # What the room sets by default and this run does not (patience) must be said, or the default would come back.
    off = {key: False for key in to_table(method.train_defaults(config)) if key not in table["train"]}
    return {
        **table,
        "method": {"name": method.name, **table["method"]},
        "train": {**table["train"], **off},
    }

"""Recipes: a whole run as a table, from a TOML file, from flags, or back from a config."""

from typing import Any

from attar.config import RunConfig, from_table, to_table
from attar.errors import ConfigError
from attar.methods.registry import find_method, method_of


def config_of(table: dict[str, Any]) -> RunConfig:
    """Resolve a recipe's table into a config: the method's own training defaults below what the table says.

    Raises:
        ConfigError: for an unknown method or setting, or one that is missing.
    """
    table = dict(table)
    command = table.get("command", "distill")
    if command not in ("finetune", "distill"):
        raise ConfigError(f'recipe expects command = "finetune" or "distill"; found {command!r}')
    for name in ("method", "train"):
        if not isinstance(table.get(name, {}), dict):
            raise ConfigError(f"recipe expects a section [{name}]; found {name} = {table[name]!r}")
    settings = dict(table.get("method", {}))
    default = "bilstm-soft" if command == "distill" else "full"
    method = find_method(str(settings.pop("name", default)), command)
    config: Any = from_table(method.config_class(), settings, "method.")
    train = {**to_table(method.train_defaults(config)), **table.get("train", {})}
    resolved = {**table, "command": command, "method": config, "train": train}
    return from_table(RunConfig, resolved)


def recipe_table(config: RunConfig) -> dict[str, Any]:
    """Return the table that :func:`config_of` turns into the same config."""
    table = to_table(config)
    method = method_of(config.method)
    table["method"] = {"name": method.name, **table["method"]}
    # What the room sets by default and this run does not (patience) must be said, or the default would come back.
    off = {key: False for key in to_table(method.train_defaults(config.method)) if key not in table["train"]}
    table["train"] = {**table["train"], **off}
    return table

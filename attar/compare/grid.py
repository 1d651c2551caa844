"""The grid: methods x seeds over one data set, as a table, and the run that each cell is."""

import re
from dataclasses import dataclass, field
from typing import Any

from attar.config import dump_toml, from_table
from attar.errors import ConfigError, nearest
from attar.methods.registry import METHODS
from attar.recipe import config_of, recipe_table
from attar.sizes import parse_duration

#: Of a [[method]] table, what is not a setting of the method.
_OWN_KEYS = ("name", "as", "train", "augment")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What is compared. Data, split seed and test texts are the same for every run."""

    out: str
    """Folder of the comparison; every run is a bundle in ``OUT/runs``."""
    data: dict
    """The section ``[data]`` of every run's recipe."""
    method: tuple[Any, ...]
    """One table a method: ``name``, its own settings, ``train`` and ``augment``, and ``as``, what it is called here."""
    model: str | None = None
    """Encoder that the methods of ``attar finetune`` tune."""
    teacher: str | None = None
    """Bundle that the methods of ``attar distill`` learn from; by default the grid's best ``full`` run on dev."""
    train: dict = field(default_factory=dict)
    """The section ``[train]`` below every method's own."""
    seeds: tuple[int, ...] = (0,)
    budget: str | None = None
    """Time for all runs together, such as ``2h``."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run: a method with its settings, and a seed."""

    label: str
    seed: int
    method: str
    command: str
    table: dict[str, Any]
    """The recipe; of a distillation without its teacher where the grid makes that."""

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return f"{self.label}-{self.seed}"


def grid_of(table: dict[str, Any]) -> Grid:
    """Check a grid's table.

    Raises:
        ConfigError: for an unknown key, method or setting, two methods of one name, a repeated seed, a budget that is
            no duration, and a distillation in a grid that has neither a teacher nor a ``full`` run to make one.
    """
    grid = from_table(Grid, table)
    if not grid.method or not grid.seeds or len(set(grid.seeds)) < len(grid.seeds):
        raise ConfigError(
            "a grid expects at least one [[method]] and different seeds; "
            f"found {len(grid.method)} methods and seeds {list(grid.seeds)}"
        )
    try:
        budget_of(grid)
    except ValueError as error:
        raise ConfigError(f"budget: {error}") from error
    cells = cells_of(grid)
    names = [cell.name for cell in cells]
    if len(set(names)) < len(names):
        twice = next(cell.label for cell in cells if names.count(cell.name) > 1)
        raise ConfigError(f'two methods of the grid are called {twice!r}; tell them apart with as = "…"')
    for cell in cells:
        # The teacher may be a run of this grid; what a recipe says of it is checked with any name.
        config_of(cell.table if cell.command == "finetune" else with_teacher(cell.table, grid.teacher or "teacher"))
    makes_teacher = any(cell.method == "full" for cell in cells)
    distils = next((cell.label for cell in cells if cell.command == "distill"), None)
    if distils is not None and grid.teacher is None and not makes_teacher:
        raise ConfigError(f"{distils} needs a teacher; give one (teacher = …), or the method full in the grid")
    return grid


def cells_of(grid: Grid) -> list[Cell]:
    """Return the runs of a grid, seed by seed in the order of its methods."""
    return [_cell(grid, table, seed) for seed in grid.seeds for table in grid.method]


def budget_of(grid: Grid) -> float | None:
    """Return the budget in seconds."""
    return None if grid.budget is None else parse_duration(grid.budget)


def with_teacher(table: dict[str, Any], teacher: str) -> dict[str, Any]:
    """Return a recipe that learns from a bundle."""
    return {**table, "teacher": {"bundles": [teacher]}}


def recipe_text(table: dict[str, Any]) -> str:
    """Return the resolved recipe as the run itself writes it."""
    return dump_toml(recipe_table(config_of(table)))


def _cell(grid: Grid, table: Any, seed: int) -> Cell:
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        raise ConfigError(f"a grid expects [[method]] tables with a name; found {table!r}")
    method = METHODS.get(table["name"])
    if method is None:
        known = ", ".join(METHODS)
        raise ConfigError(f"unknown method {table['name']!r}{nearest(table['name'], METHODS)} (known: {known})")
    label = str(table.get("as", method.name))
    if not re.fullmatch(r"[\w.+-]+", label):
        raise ConfigError(f"as names a folder, so it expects letters, digits and . + - _; found {label!r}")
    if method.use == "finetune" and grid.model is None:
        raise ConfigError(f"{label} tunes an encoder; give one (model = …)")
    if "augment" in table and method.use == "finetune":
        raise ConfigError(f"{label}: synthetic texts are for a teacher to label; {method.name} has no teacher")
    if not isinstance(table.get("train", {}), dict):
        raise ConfigError(f"{label}: train expects a table of settings; found {table['train']!r}")
    recipe: dict[str, Any] = {
        "command": method.use,
        "out": f"{grid.out}/runs/{label}-{seed}",
        "data": grid.data,
        "method": {key: value for key, value in table.items() if key not in _OWN_KEYS} | {"name": method.name},
        "train": {**grid.train, **table.get("train", {}), "seed": seed},
        # The grid's other runs are what each is compared with; baselines of its own would double its time.
        "baseline": False,
    }
    if method.use == "finetune":
        recipe["model"] = grid.model
    elif grid.teacher is not None:
        recipe = with_teacher(recipe, grid.teacher)
    if "augment" in table:
        recipe["augment"] = table["augment"]
    return Cell(label=label, seed=seed, method=method.name, command=method.use, table=recipe)

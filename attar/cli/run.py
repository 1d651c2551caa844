"""``attar run``."""

from typing import Annotated

import typer

from attar.cli import options as o


def run(
    recipe: Annotated[str, typer.Argument(help="TOML file; every bundle holds one, recipe.toml.")],
    out: Annotated[str | None, typer.Option(help="Another folder than the recipe's.")] = None,
    set_: o.Set = None,
    json: o.Json = False,
    resume: o.Resume = False,
    overwrite: o.Overwrite = False,
) -> None:
    """Run a whole recipe.

    Example: attar run student/recipe.toml --out again --set train.seed=1
    """
    from attar.cli.execute import execute
    from attar.config import read_toml

    table = read_toml(recipe)
    if out is not None:
        table["out"] = out
    execute(table, settings=set_, resume=resume, overwrite=overwrite, as_json=json)

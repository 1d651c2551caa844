"""``attar compare``."""

import json as jsonlib
import sys
from typing import Annotated, Any

import typer

from attar.cli import options as o


def compare(
    grid: Annotated[str | None, typer.Argument(help="TOML file of a grid; flags below replace what it says.")] = None,
    data: Annotated[str | None, typer.Option(help="Data as of attar finetune; every run has the same splits.")] = None,
    out: Annotated[str | None, typer.Option(help="Folder to write; every run is a bundle in OUT/runs.")] = None,
    model: Annotated[str | None, typer.Option(help="Encoder that the tuning methods start from.")] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Bundle that distillations learn from; by default the grid's best full run.")
    ] = None,
    methods: Annotated[str | None, typer.Option(help="Names, such as full,bitfit,lora,bilstm-soft.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Numbers, such as 0,1,2.")] = None,
    budget: Annotated[str | None, typer.Option(help="Time for all runs together, such as 2h or 90min.")] = None,
    set_: o.Set = None,
    json: o.Json = False,
    resume: o.Resume = False,
) -> None:
    """Run methods x seeds on the same splits within a time budget, and say which differences are more than chance.

    Example: attar compare --data reviews.csv --model bert-base-uncased --methods full,bitfit,lora --seeds 0,1,2 --out c
    """
    from attar.compare.loop import compare_methods
    from attar.config import override, read_toml
    from attar.report.grid import render_grid

    table: dict[str, Any] = read_toml(grid) if grid is not None else {}
    table |= o.given({"out": out, "model": model, "teacher": teacher, "budget": budget})
    if data is not None:
        table["data"] = {**table.get("data", {}), "path": data}
    if methods is not None:
        table["method"] = [{"name": name.strip()} for name in methods.split(",")]
    if seeds is not None:
        table["seeds"] = [_seed(text) for text in seeds.split(",")]
    for assignment in set_ or []:
        override(table, assignment)
    record = compare_methods(table, resume=resume)
    if json:
        print(jsonlib.dumps({**record, "out": table["out"]}, ensure_ascii=False))
        return
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 120).print(render_grid(record))
    print(f"comparison: {table['out']}    page: attar report {table['out']}", file=sys.stderr)


def _seed(text: str) -> int:
    from attar.errors import ConfigError

    try:
        return int(text)
    except ValueError as error:
        raise ConfigError(f"--seeds expects numbers such as 0,1,2; found {text!r}") from error

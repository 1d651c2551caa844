"""From a recipe's table to a finished run and what the user sees of it."""

import json
import sys
from typing import Any


def execute(table: dict[str, Any], *, settings: list[str] | None, resume: bool, overwrite: bool, as_json: bool) -> None:
    """Resolve a recipe, run it, and print its table (or its record as JSON)."""
    from attar.config import override
    from attar.process_group import is_main
    from attar.recipe import config_of

    for assignment in settings or []:
        override(table, assignment)
    config = config_of(table)

    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    from attar.nets.hardware import denormals_flushed

    with denormals_flushed():  # here too, before torch starts its threads
        record = _run(config, resume=resume, overwrite=overwrite)
    if is_main():
        show(record, config.out, as_json=as_json)


def _run(config: Any, *, resume: bool, overwrite: bool) -> dict[str, Any]:
    from attar.config import PretrainRun

    if isinstance(config, PretrainRun):
        from attar.pretraining import pretrain

        return pretrain(config, resume=resume, overwrite=overwrite)
    from attar.runner import run

    return run(config, resume=resume, overwrite=overwrite)


def show(record: dict[str, Any], out: str, *, as_json: bool) -> None:
    """Print a record for a person, or for a program."""
    if as_json:
        print(json.dumps({**record, "out": out}, ensure_ascii=False))
        return
    from rich.console import Console

    from attar.report.tables import render_terminal
    from attar.sizes import show_size

    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(render_terminal(record))
    for warning in record["warnings"]:
        print(f"WARNING: {warning}", file=sys.stderr)
    own = record["models"][0].get("delta_bytes") if record["models"] else None
    if own:
        print(f"delta: {show_size(own)} beside its encoder, which is stored once for all tasks", file=sys.stderr)
    what = "encoder" if record["command"] == "pretrain" else "bundle"
    print(f"{what}: {out}    page: attar report {out}", file=sys.stderr)

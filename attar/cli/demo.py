"""``attar demo``."""

import json as jsonlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from attar.cli import options as o


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the three runs and the page.")] = Path("attar-demo"),
    json: o.Json = False,
    overwrite: o.Overwrite = False,
) -> None:
    """Show the whole story on bundled film reviews and a small real encoder, in minutes on a laptop.

    Example: attar demo --out attar-demo
    """
    from attar.demo import run_demo
    from attar.report.tables import render_terminal

    records, page = run_demo(out, overwrite=overwrite)
    if json:
        print(jsonlib.dumps({"records": records, "page": str(page)}, ensure_ascii=False))
        return
    from rich.console import Console

    for record in records:
        Console(width=None if sys.stdout.isatty() else 120).print(render_terminal(record))
    print(f"page: {page}", file=sys.stderr)

"""``attar report``."""

import json as jsonlib
from pathlib import Path
from typing import Annotated

import typer

from attar.cli import options as o


def report(
    runs: Annotated[list[Path], typer.Argument(help="Bundles (folders with a record.json).")],
    out: Annotated[
        Path | None, typer.Option(help="HTML file to write; by default report.html in the first run.")
    ] = None,
    json: o.Json = False,
) -> None:
    """Write one self-contained HTML page about one or several runs.

    Example: attar report student student-6-layers --out report.html
    """
    from attar.report.page import write_page

    page = write_page(runs, out or runs[0] / "report.html")
    print(jsonlib.dumps({"out": str(page)}) if json else f"page: {page}")

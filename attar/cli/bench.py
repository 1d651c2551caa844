"""``attar bench``."""

import json as jsonlib
import sys
from typing import Annotated

import typer

from attar.cli import options as o


def bench(
    bundles: Annotated[list[str], typer.Argument(help="Bundles, transformers folders, deltas or exported models.")],
    data: Annotated[str | None, typer.Option(help="Your texts; by default those kept with the first bundle.")] = None,
    lengths: Annotated[
        str | None, typer.Option(help="Instead of --data, words a text: 12, or 8,16,64 in turn.")
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="Where the deltas' encoder is now, if it was moved.")] = None,
    json: o.Json = False,
) -> None:
    """Measure latency, throughput, memory and size of models side by side, from raw text.

    Example: attar bench student student-int8 --lengths 8,16,64
    """
    from attar.bench.bench import bench as measure

    found = measure(bundles, data=data, lengths=lengths, encoder=encoder)
    if json:
        print(jsonlib.dumps(found, ensure_ascii=False))
        return
    from rich.console import Console

    from attar.bench.table import bench_table

    Console(width=None if sys.stdout.isatty() else 160).print(bench_table(found))

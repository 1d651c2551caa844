"""``attar longer``."""

import json as jsonlib
from typing import Annotated

import typer

from attar.cli import options as o


def longer(
    model: Annotated[str, typer.Option(help="Encoder or bundle: a local transformers folder or a hub name.")],
    out: o.Out,
    max_length: Annotated[int, typer.Option(help="Longest input in tokens that it shall read.")] = 4096,
    window: Annotated[int, typer.Option(help="Tokens that a token attends to, half of them on either side.")] = 256,
    global_projections: Annotated[
        bool, typer.Option("--global-projections", help="Give what the first token reads projections of its own.")
    ] = False,
    json: o.Json = False,
    overwrite: o.Overwrite = False,
) -> None:
    """Make an encoder read longer texts: windowed attention, whose cost is linear in length, and copied positions.

    Example: attar longer --model bert-base-uncased --max-length 4096 --window 256 --out long-bert
    """
    from transformers.utils.logging import disable_progress_bar

    from attar.lengthen import lengthen
    from attar.nets.longer import describe_windows

    disable_progress_bar()
    settings = {"max_length": max_length, "window": window, "global_projections": global_projections}
    made = lengthen(model, out, overwrite=overwrite, **settings)  # type: ignore[arg-type]
    print(jsonlib.dumps({"out": out, "model": model, **settings}) if json else f"{out}: {describe_windows(made)[0]}")

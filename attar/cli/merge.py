"""``attar merge``."""

import json as jsonlib
from typing import Annotated

import typer

from attar.cli import options as o


def merge(
    delta: Annotated[str, typer.Argument(help="Delta: what attar finetune left with a method that freezes.")],
    out: o.Out,
    encoder: Annotated[str | None, typer.Option(help="Where its encoder is now, if it was moved.")] = None,
    json: o.Json = False,
    overwrite: o.Overwrite = False,
) -> None:
    """Make a whole transformers folder of a delta and its encoder, that loads without attar.

    Example: attar merge delta --out model
    """
    from attar.bundle import folder_bytes, merge_bundle

    merge_bundle(delta, out, encoder=encoder, overwrite=overwrite)
    size = folder_bytes(out)
    print(jsonlib.dumps({"out": out, "delta": delta, "bytes": size}) if json else f"{out}: {size / 1e6:,.1f} MB")

"""``attar push``."""

import json as jsonlib
from typing import Annotated

import typer

from attar.cli import options as o


def push(
    bundle: Annotated[str, typer.Argument(help="Bundle that attar finetune or attar distill left.")],
    repo: Annotated[str, typer.Argument(help="Repository on the hub, such as name/reviews; a new one is private.")],
    json: o.Json = False,
) -> None:
    """Upload a bundle with its model card to the hub; the predictions on your test texts stay here.

    Example: attar push student name/reviews-student
    """
    from attar.hub import push_bundle

    address = push_bundle(bundle, repo)
    print(jsonlib.dumps({"bundle": bundle, "url": address}) if json else f"pushed: {address}")

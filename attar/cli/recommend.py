"""``attar recommend``."""

import json as jsonlib
import sys
from typing import Annotated

import typer

from attar.cli import options as o


def recommend(
    data: o.Data,
    model: Annotated[
        str | None,
        typer.Option(help="Encoder to tune: a local transformers folder or a hub name. No weights are read."),
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="Bundle to distil.")] = None,
    tasks: Annotated[int, typer.Option(help="How many tasks of this kind share the encoder.")] = 1,
    unlabelled: Annotated[
        list[str] | None, typer.Option(help="More texts without labels; repeat for more files.")
    ] = None,
    max_latency_ms: Annotated[float | None, typer.Option(help="Limit of milliseconds a text, one text a call.")] = None,
    max_memory: Annotated[str | None, typer.Option(help="Limit of the peak memory of training, e.g. 2GiB.")] = None,
    max_size: Annotated[str | None, typer.Option(help="Limit of what all tasks take on disk, e.g. 50MB.")] = None,
    train_budget: Annotated[str | None, typer.Option(help="Time for all training of a candidate, e.g. 2h.")] = None,
    probe: Annotated[bool, typer.Option("--probe", help="Measure the best three by a few real steps.")] = False,
    probe_budget: Annotated[str, typer.Option(help="Time for all probes together, e.g. 90s or 5min.")] = "5min",
    text: o.Text = None,
    pair: o.Pair = None,
    label: o.Label = None,
    task: o.TaskKind = None,
    limit: o.Limit = None,
    drop_bad_rows: o.DropBadRows = False,
    json: o.Json = False,
) -> None:
    """Say which way to go: distil or tune, by which method, at what cost, for this data on this machine.

    Example: attar recommend --data reviews.csv --model bert-base-uncased --max-latency-ms 5 --max-size 50MB
    """
    from attar.advice.recommend import recommend as advise
    from attar.config import DataConfig, from_table

    columns = {"text": text, "pair": pair, "label": label, "task": task, "drop_bad_rows": drop_bad_rows}
    table = o.data_table(data, limit=limit, unlabelled=unlabelled, **columns)  # type: ignore[arg-type]
    found = advise(
        from_table(DataConfig, table, "data."),
        model=model,
        teacher=teacher,
        tasks=tasks,
        max_latency_ms=max_latency_ms,
        max_memory=max_memory,
        max_size=max_size,
        train_budget=train_budget,
        probe=probe,
        probe_budget=probe_budget,
    )
    if json:
        print(jsonlib.dumps(found, ensure_ascii=False))
        return
    from rich.console import Console

    from attar.advice.show import show

    show(found, Console(width=None if sys.stdout.isatty() else 120))

"""``attar pretrain``."""

from typing import Annotated

import typer

from attar.cli import options as o


def pretrain(
    teacher: Annotated[str, typer.Option(help="Pre-trained encoder: a local transformers folder or a hub name.")],
    text: Annotated[
        list[str],
        typer.Option(
            help="File or folder of texts (plain text with one document a line, CSV, TSV, JSON, JSONL, Parquet; "
            "also .gz); repeat for several."
        ),
    ],
    out: o.Out,
    method: Annotated[str, typer.Option(help="distilbert, tinybert or mlm-head.")] = "distilbert",
    column: Annotated[str | None, typer.Option(help="Column of the text. Inferred.")] = None,
    student: Annotated[
        str | None, typer.Option(help="For distilbert: half of the teacher's layers, or layers:0,2,4.")
    ] = None,
    epochs: o.Epochs = None,
    lr: o.Lr = None,
    batch_size: o.BatchSize = None,
    max_length: o.MaxLength = None,
    seed: o.Seed = None,
    cache_limit: o.CacheLimit = None,
    set_: o.Set = None,
    report_to: o.ReportTo = None,
    json: o.Json = False,
    resume: o.Resume = False,
    overwrite: o.Overwrite = False,
) -> None:
    """Distil an encoder into a smaller one on texts without labels, for any task that comes later.

    Example: attar pretrain --teacher bert-base-uncased --method distilbert --text corpus/ --out student
    """
    from attar.cli.execute import execute

    table = o.given(
        {
            "command": "pretrain",
            "out": out,
            "teacher": teacher,
            "text": o.given({"paths": text, "column": column}),
            "method": o.given({"name": method, "student": student}),
            "train": o.train_table(epochs, lr, batch_size, max_length, seed, cache_limit),
            "report_to": report_to,
        }
    )
    execute(table, settings=set_, resume=resume, overwrite=overwrite, as_json=json)

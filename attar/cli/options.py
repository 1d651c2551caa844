"""Flags that several commands share, each defined once."""

from typing import Annotated

import typer

Data = Annotated[
    str, typer.Option(help="CSV, TSV, JSON, JSONL or Parquet file (also .gz), folder of splits, or hub dataset name.")
]
Out = Annotated[str, typer.Option(help="Folder to write; never overwritten without --overwrite.")]
Text = Annotated[str | None, typer.Option(help="Column of the text or of the tokens. Inferred.")]
Pair = Annotated[str | None, typer.Option(help="Column of the second text of a pair. Inferred.")]
Label = Annotated[
    list[str] | None, typer.Option(help="Column of the label; repeat for a multi-label task of 0/1 columns. Inferred.")
]
TaskKind = Annotated[
    str | None, typer.Option("--task", help="single-label, multi-label, regression or token. Inferred.")
]
DropBadRows = Annotated[bool, typer.Option("--drop-bad-rows", help="Drop and count rows without text or label.")]
Limit = Annotated[int | None, typer.Option(help="Use the labels of this many training rows; the rest is unlabelled.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training texts.")]
Lr = Annotated[float | None, typer.Option("--lr", help="Learning rate.")]
BatchSize = Annotated[int | None, typer.Option(help="Examples a step, over all processes.")]
MaxLength = Annotated[int | None, typer.Option(help="Longest input in tokens.")]
Long = Annotated[
    str | None, typer.Option(help="How longer texts are read: truncate, head-tail, chunks, chunks-max or windowed.")
]
CacheLimit = Annotated[
    str | None,
    typer.Option(help="Disk space for what frozen layers, or tinybert's teacher, say of a text, e.g. 8GiB; 0: none."),
]
Seed = Annotated[int | None, typer.Option(help="Seed of initial weights and of the order of examples.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="Any setting of the recipe, e.g. --set train.warmup=0.06.")
]
ReportTo = Annotated[list[str] | None, typer.Option(help="tensorboard, wandb or mlflow.")]
NoBaseline = Annotated[bool, typer.Option("--no-baseline", help="Leave out the models to compare with.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is at --out when the new run is done.")]


def data_table(
    data: str,
    *,
    text: str | None,
    pair: str | None,
    label: list[str] | None,
    task: str | None,
    drop_bad_rows: bool,
    limit: int | None = None,
    unlabelled: list[str] | None = None,
) -> dict:
    """Return the recipe's ``[data]`` section of the flags that were given."""
    table = {
        "path": data,
        "unlabelled": unlabelled,
        "text": text,
        "pair": pair,
        "label": label,
        "task": task,
        "drop_bad_rows": drop_bad_rows or None,
        "limit": limit,
    }
    return given(table)


def train_table(
    epochs: int | None,
    lr: float | None,
    batch_size: int | None,
    max_length: int | None,
    seed: int | None,
    cache_limit: str | None,
    long: str | None = None,
) -> dict:
    """Return the recipe's ``[train]`` section of the flags that were given."""
    table = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "max_length": max_length, "seed": seed}
    return given({**table, "cache_limit": cache_limit, "long": long})


def given(table: dict) -> dict:
    """Return the entries of a table that were given."""
    return {key: value for key, value in table.items() if value is not None and value != []}

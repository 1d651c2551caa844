"""``attar finetune``."""

from typing import Annotated

import typer

from attar.cli import options as o


def finetune(
    model: Annotated[str, typer.Option(help="Pre-trained encoder: a local transformers folder or a hub name.")],
    data: o.Data,
    out: o.Out,
    method: Annotated[str, typer.Option(help="full, freezing, bitfit, adapters or lora.")] = "full",
    layers: Annotated[
        int | None, typer.Option(help="Layers that freezing trains, from the top; 0 trains the head alone.")
    ] = None,
    text: o.Text = None,
    pair: o.Pair = None,
    label: o.Label = None,
    task: o.TaskKind = None,
    limit: o.Limit = None,
    drop_bad_rows: o.DropBadRows = False,
    epochs: o.Epochs = None,
    lr: o.Lr = None,
    batch_size: o.BatchSize = None,
    max_length: o.MaxLength = None,
    long: o.Long = None,
    seed: o.Seed = None,
    cache_limit: o.CacheLimit = None,
    set_: o.Set = None,
    report_to: o.ReportTo = None,
    no_baseline: o.NoBaseline = False,
    json: o.Json = False,
    resume: o.Resume = False,
    overwrite: o.Overwrite = False,
) -> None:
    """Fine-tune a pre-trained encoder on labelled texts, whole or a part of it.

    full trains every weight: how teachers are made. The other methods leave a small delta beside the frozen encoder:
    freezing trains the top layers, bitfit the biases, adapters and lora what they put into it.

    Example: attar finetune --model bert-base-uncased --data reviews.csv --out teacher
    """
    from attar.cli.execute import execute

    columns = {"text": text, "pair": pair, "label": label, "task": task, "drop_bad_rows": drop_bad_rows}
    table = o.given(
        {
            "command": "finetune",
            "out": out,
            "model": model,
            "data": o.data_table(data, limit=limit, **columns),  # type: ignore[arg-type]
            "method": o.given({"name": method, "layers": layers}),
            "train": o.train_table(epochs, lr, batch_size, max_length, seed, cache_limit, long),
            "report_to": report_to,
            "baseline": False if no_baseline else None,
        }
    )
    execute(table, settings=set_, resume=resume, overwrite=overwrite, as_json=json)

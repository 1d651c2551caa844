"""``attar augment``."""

import json as jsonlib
from typing import Annotated

import typer

from attar.cli import options as o


def augment(
    data: o.Data,
    out: Annotated[str, typer.Option(help="Parquet file to write: text, pair, label, origin (row of the original).")],
    method: Annotated[str, typer.Option(help="tang or tinybert.")] = "tang",
    n_iter: Annotated[
        int | None, typer.Option(help="Synthetic versions of each text, before duplicates are dropped: 20.")
    ] = None,
    tagger: Annotated[str | None, typer.Option(help="For tang: hanta (the default), or a spaCy pipeline.")] = None,
    model: Annotated[
        str | None, typer.Option(help="For tinybert: masked language model, a local folder or hub name.")
    ] = None,
    text: o.Text = None,
    pair: o.Pair = None,
    label: o.Label = None,
    task: o.TaskKind = None,
    drop_bad_rows: o.DropBadRows = False,
    seed: o.Seed = None,
    set_: o.Set = None,
    json: o.Json = False,
    overwrite: o.Overwrite = False,
) -> None:
    """Write synthetic versions of the training texts, for a teacher to label.

    Example: attar augment --data reviews.csv --method tang --out more.parquet
    """
    from pathlib import Path

    from attar.config import DataConfig, augment_config, from_table, override
    from attar.errors import BundleError, ConfigError

    if Path(out).exists() and not overwrite:
        raise BundleError(f"{out} exists already; choose another --out, or --overwrite to replace it")
    columns = {"text": text, "pair": pair, "label": label, "task": task, "drop_bad_rows": drop_bad_rows}
    table = {
        "data": o.data_table(data, **columns),  # type: ignore[arg-type]
        "augment": o.given({"method": method, "n_iter": n_iter, "tagger": tagger, "model": model, "seed": seed}),
    }
    for assignment in set_ or []:
        override(table, assignment)
    settings = augment_config(table["augment"])
    if Path(out).suffix != ".parquet":
        raise ConfigError(f"--out expects a name that ends in .parquet; found {out!r}")

    from attar.augment.synthetic import synthetic_texts
    from attar.data.augmentation.store import write_rows
    from attar.data.prepare import load_data

    examples = load_data(from_table(DataConfig, table["data"], "data."))
    found = synthetic_texts(examples.train, settings)
    write_rows(found, examples.task, Path(out))
    summary = {"out": out, "rows": len(found), "from": len(examples.train)}
    print(jsonlib.dumps(summary) if json else f"{out}: {len(found):,} synthetic texts from {len(examples.train):,}")

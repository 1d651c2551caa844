"""``attar augment``."""

import json as jsonlib
from typing import Annotated

import typer

from attar.cli import options as o


def augment(
    data: o.Data,
    out: Annotated[str, typer.Option(help="Parquet file to write: text, pair, label, origin (row of the original).")],
    method: Annotated[str, typer.Option(help="tang")] = "tang",
    n_iter: Annotated[int, typer.Option(help="Synthetic versions of each text, before duplicates are dropped.")] = 20,
    tagger: Annotated[str, typer.Option(help="hanta, or a spaCy pipeline.")] = "hanta",
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

    from attar.config import AugmentConfig, DataConfig, from_table, override
    from attar.errors import BundleError, ConfigError

    if Path(out).exists() and not overwrite:
        raise BundleError(f"{out} exists already; choose another --out, or --overwrite to replace it")
    columns = {"text": text, "pair": pair, "label": label, "task": task, "drop_bad_rows": drop_bad_rows}
    table = {
        "data": o.data_table(data, **columns),  # type: ignore[arg-type]
        "augment": o.given({"method": method, "n_iter": n_iter, "tagger": tagger, "seed": seed}),
    }
    for assignment in set_ or []:
        override(table, assignment)
    settings = from_table(AugmentConfig, table["augment"], "augment.")
    if Path(out).suffix != ".parquet":
        raise ConfigError(f"--out expects a name that ends in .parquet; found {out!r}")

    from attar.data.augmentation.store import write_rows
    from attar.data.augmentation.tang import augmented_dataset
    from attar.data.prepare import load_data
    from attar.progress import progress

    examples = load_data(from_table(DataConfig, table["data"], "data."))
    with progress("augment", 2 * len(examples.train), unit=" texts") as bar:
        found = augmented_dataset(examples.train, settings, progress=lambda done, _: bar.update(done - bar.n))
    write_rows(found, examples.task, Path(out))
    summary = {"out": out, "rows": len(found), "from": len(examples.train)}
    print(jsonlib.dumps(summary) if json else f"{out}: {len(found):,} synthetic texts from {len(examples.train):,}")

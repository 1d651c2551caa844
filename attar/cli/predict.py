"""``attar predict``."""

import json as jsonlib
from typing import Annotated

import typer

from attar.cli import options as o


def predict(
    bundle: Annotated[str, typer.Argument(help="Bundle or fine-tuned transformers folder.")],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to label; or give --data.")] = None,
    data: Annotated[
        str | None, typer.Option(help="File of texts: CSV, TSV, JSON, JSONL, Parquet or plain text.")
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="File to write: .parquet, .csv or .jsonl. Needed with --data.")
    ] = None,
    text: o.Text = None,
    pair: o.Pair = None,
    json: o.Json = False,
    overwrite: o.Overwrite = False,
) -> None:
    """Label texts.

    Example: attar predict student "a great film" "what a waste of time"

    Example: attar predict student --data reviews.csv --out labelled.parquet
    """
    from attar.errors import ConfigError

    if bool(texts) == bool(data):
        raise ConfigError("attar predict expects texts, or --data FILE; found " + ("both" if data else "neither"))
    if data:
        from attar.inference.files import predict_file

        if out is None:
            raise ConfigError("attar predict --data expects --out FILE (.parquet, .csv or .jsonl)")
        summary = predict_file(bundle, data, out, text=text, pair=pair, overwrite=overwrite)
        print(jsonlib.dumps(summary) if json else f"{out}: {summary['rows']:,} rows")
        return

    from attar.inference.predictor import load

    model = load(bundle)
    inputs = [t.split() for t in texts or []] if model.task.kind == "token" else list(texts or [])
    found = model.predict(inputs)
    if json:
        rows = [{"text": t, **vars(p)} for t, p in zip(inputs, found, strict=True)]
        print(jsonlib.dumps({"predictions": rows}, ensure_ascii=False))
        return
    for given, one in zip(texts or [], found, strict=True):
        sure = f"{one.confidence:.3f}" if isinstance(one.confidence, float) else ""
        label = f"{one.label:.4f}" if isinstance(one.label, float) else one.label
        print(f"{label}\t{sure}\t{given}")

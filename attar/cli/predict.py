"""``attar predict``."""

import json as jsonlib
from typing import Annotated, Any

import typer

from attar.cli import options as o


def predict(
    bundle: Annotated[str, typer.Argument(help="Bundle or fine-tuned transformers folder.")],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to label; or give --data.")] = None,
    data: Annotated[
        str | None, typer.Option(help="File of texts: CSV, TSV, JSON, JSONL, Parquet or plain text.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(help="File to write: .parquet, .csv or .jsonl (also .gz); a folder with --ray. For --data."),
    ] = None,
    text: o.Text = None,
    pair: o.Pair = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="Column to write beside the predictions; repeat. By default the texts.")
    ] = None,
    scores: Annotated[bool, typer.Option("--scores", help="Write the probability of every label, as p_LABEL.")] = False,
    skip_bad_rows: Annotated[
        bool,
        typer.Option(
            "--skip-bad-rows", help="Give rows without a text, and broken lines, no prediction, and count them."
        ),
    ] = False,
    encoder: Annotated[str | None, typer.Option(help="For a delta whose encoder was moved: where it is now.")] = None,
    ray: Annotated[
        str | None, typer.Option(help="Run --data on a Ray cluster: its address, auto, or local for this machine.")
    ] = None,
    json: o.Json = False,
    resume: o.Resume = False,
    overwrite: o.Overwrite = False,
) -> None:
    """Label texts.

    Example: attar predict student "a great film" "what a waste of time"

    Example: attar predict student --data reviews.csv --out labelled.parquet --keep id --scores
    """
    from attar.errors import ConfigError

    if bool(texts) == bool(data):
        raise ConfigError("attar predict expects texts, or --data FILE; found " + ("both" if data else "neither"))
    if data:
        if out is None:
            raise ConfigError("attar predict --data expects --out FILE (.parquet, .csv or .jsonl)")
        wanted = {"text": text, "pair": pair, "keep": keep or (), "scores": scores, "skip_bad_rows": skip_bad_rows}
        summary = _predict_data(
            bundle, data, out, ray, {**wanted, "encoder": encoder, "overwrite": overwrite}, resume=resume
        )
        skipped = f", {summary['bad_rows']:,} of them without a prediction" if summary["bad_rows"] else ""
        print(jsonlib.dumps(summary) if json else f"{out}: {summary['rows']:,} rows{skipped}")
        return
    of_files = {"--out": out, "--keep": keep, "--scores": scores, "--skip-bad-rows": skip_bad_rows, "--ray": ray}
    for flag, value in {**of_files, "--resume": resume, "--overwrite": overwrite}.items():
        if value:
            raise ConfigError(f"{flag} belongs to a file of texts; give it with --data FILE, or leave it out")

    from attar.inference.predictor import load

    model = load(bundle, encoder=encoder)
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


def _predict_data(
    bundle: str, data: str, out: str, ray: str | None, settings: dict[str, Any], *, resume: bool
) -> dict[str, Any]:
    """Predict over a file, here or on a Ray cluster."""
    from attar.errors import ConfigError

    if ray is None:
        from attar.inference.files import predict_file

        return predict_file(bundle, data, out, **settings, resume=resume)
    if resume:
        raise ConfigError("--resume does not go with --ray; Ray repeats what a lost machine had in work by itself")
    from attar.inference.ray_job import predict_ray

    return predict_ray(bundle, data, out, address=ray, **settings)

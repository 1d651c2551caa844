"""``attar distill``."""

from typing import Annotated

import typer

from attar.cli import options as o


def distill(
    data: o.Data,
    out: o.Out,
    teacher: Annotated[
        list[str] | None, typer.Option(help="Bundle or fine-tuned transformers folder; repeat for an ensemble.")
    ] = None,
    teacher_export: Annotated[
        list[str] | None,
        typer.Option(help="What attar export made of the teacher, to answer in its place, faster; one a teacher."),
    ] = None,
    teacher_scores: Annotated[
        str | None,
        typer.Option(help="Columns with a black box's answers: probs:LABEL=COLUMN,… or logits:… or value:COLUMN"),
    ] = None,
    method: Annotated[str, typer.Option(help="bilstm-soft, logits, distilbert or tinybert.")] = "bilstm-soft",
    student: Annotated[
        str | None, typer.Option(help="Folder, hub name, layers:0,2,4 of the teacher, half, or (tinybert) thin.")
    ] = None,
    unlabelled: Annotated[
        list[str] | None, typer.Option(help="More texts for the teacher to label; plain text has one document a line.")
    ] = None,
    augment: Annotated[
        str | None, typer.Option(help="tang or tinybert: synthetic texts for the teacher to label.")
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Weight of the labels against the teacher, 0 to 1.")] = None,
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
    """Distil a fine-tuned teacher into a small student, and account for what was lost and gained.

    Example: attar distill --teacher teacher --data reviews.csv --augment tang --out student
    """
    from attar.cli.execute import execute

    columns = {"text": text, "pair": pair, "label": label, "task": task, "drop_bad_rows": drop_bad_rows}
    table = o.given(
        {
            "command": "distill",
            "out": out,
            "teacher": o.given({"bundles": teacher, "exports": teacher_export, "scores": teacher_scores}),
            "data": o.data_table(data, limit=limit, unlabelled=unlabelled, **columns),  # type: ignore[arg-type]
            "method": o.given({"name": method, "student": student, "alpha": alpha}),
            "augment": {"method": augment} if augment else None,
            "train": o.train_table(epochs, lr, batch_size, max_length, seed, cache_limit, long),
            "report_to": report_to,
            "baseline": False if no_baseline else None,
        }
    )
    execute(table, settings=set_, resume=resume, overwrite=overwrite, as_json=json)

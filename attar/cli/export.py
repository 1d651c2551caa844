"""``attar export``."""

import json as jsonlib
import sys
from typing import Annotated, Any

import typer

from attar.cli import options as o


def export(
    bundle: Annotated[str, typer.Argument(help="Bundle, fine-tuned transformers folder, or delta.")],
    out: o.Out,
    format: Annotated[str, typer.Option(help="onnx, onnx-int8, openvino or openvino-int8.")] = "onnx",
    data: Annotated[
        str | None, typer.Option(help="Validation texts; by default those that the run left with the bundle.")
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Largest drop of the task's metric, in points.")] = 0.5,
    encoder: Annotated[str | None, typer.Option(help="Where a delta's encoder is now, if it was moved.")] = None,
    table: Annotated[str, typer.Option(help="Folded table of a BiLSTM: float32 or float16.")] = "float32",
    table_limit: Annotated[str, typer.Option(help="Size above which a BiLSTM is not folded.")] = "1GiB",
    json: o.Json = False,
    overwrite: o.Overwrite = False,
) -> None:
    """Write a model for ONNX Runtime or OpenVINO, and refuse it where it is worse than its source.

    Example: attar export student --format onnx-int8 --out student-int8
    """
    from attar.errors import QualityError
    from attar.exporting.export import export_bundle

    try:
        report = export_bundle(
            bundle,
            out,
            format=format,
            data=data,
            tolerance=tolerance,
            encoder=encoder,
            table=table,
            table_limit=table_limit,
            overwrite=overwrite,
        )
    except QualityError as error:
        _show(error.report, json)
        raise
    _show(report, json)


def _show(report: dict[str, Any], json: bool) -> None:
    if json:
        print(jsonlib.dumps(report, ensure_ascii=False))
        return
    from rich.console import Console

    from attar.exporting.table import gate_table
    from attar.sizes import show_size

    Console(width=None if sys.stdout.isatty() else 140).print(gate_table(report))
    if "out" in report:
        sizes = f"{show_size(report['bytes'])}; source {show_size(report['source_bytes'])}"
        print(f"{report['out']}: {report['format']}, {report['setting']} ({sizes})")

"""Records to one self-contained HTML page: no network, no fonts, nothing beside the file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from attar.errors import BundleError
from attar.records import COMPARISON_FILE, read_comparison, read_record, write_text
from attar.report.across import overview
from attar.report.predictions import MAX_ROWS, read_predictions
from attar.report.view import run_view

_HERE = Path(__file__).parent
_SCRIPTS = ("charts.js", "figures.js", "pareto.js", "page.js")
#: Texts that a page of many runs carries of each.
_LEAST_ROWS = 40


def write_page(records_or_folders: Sequence[str | Path], out: str | Path) -> Path:
    """Write one page about one or several runs, complete or not at all.

    Args:
        records_or_folders: ``record.json`` files, or the folders that hold them.
        out: The HTML file to write; its folder is made where it is missing.

    Raises:
        BundleError: where a folder holds no record, its predictions cannot be read, or ``out`` is a folder.
    """
    out = Path(out)
    if not records_or_folders:
        raise BundleError("a report needs at least one run; give a folder that attar wrote")
    if out.is_dir():
        raise BundleError(f"{out} is a folder; give the name of an HTML file, such as {out / 'report.html'}")
    html = render_page([Path(path) for path in records_or_folders])
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(html, out)
    return out


def render_page(paths: Sequence[Path]) -> str:
    """Return the page's HTML."""
    comparisons, paths = _opened(paths)
    records = [read_record(path) for path in paths]
    folders = [path if path.is_dir() else path.parent for path in paths]
    most = max(_LEAST_ROWS, MAX_ROWS // max(1, len(paths)))
    views = [
        run_view(record, read_predictions(folder), f"run-{index}", most)
        for index, (record, folder) in enumerate(zip(records, folders, strict=True), start=1)
    ]
    across = overview(records, views, comparisons) if len(views) > 1 or comparisons else None
    charts = {"runs": {view["key"]: view["charts"] for view in views}, "overview": across and _drawn(across)}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html.j2").render(
        runs=views,
        across=across,
        style=_own("style.css"),
        script=markupsafe.Markup("\n").join(_own(name) for name in _SCRIPTS),
        data=embed_json(charts),
    )


def _opened(paths: Sequence[Path]) -> tuple[list[dict[str, Any]], list[Path]]:
    """Return the records of comparisons, and the runs: those that were given and those of the comparisons."""
    comparisons, runs = [], []
    for path in paths:
        if not (path / COMPARISON_FILE).exists():
            runs.append(path)
            continue
        record = read_comparison(path)
        comparisons.append(record)
        runs += [path / run["folder"] for run in record["runs"] if run["status"] == "done"]
    if not runs:
        raise BundleError(f"{paths[0]} holds no finished run; continue it with attar compare --resume")
    return comparisons, runs


def _drawn(across: dict[str, Any]) -> dict[str, Any]:
    """Return what the script needs of the overview; the rest is in the page already."""
    return {key: across[key] for key in ("points", "metrics", "costs", "caution")}


def embed_json(value: Any) -> markupsafe.Markup:
    """Return JSON that is safe inside a ``<script>`` element, whatever the users' texts hold."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # Without these four characters no text can end the element, open a comment in it, or break a line of script.
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # A lone surrogate is legal JSON and cannot be written as UTF-8.
    return markupsafe.Markup(text.encode("utf-8", "replace").decode("utf-8"))


def _own(name: str) -> markupsafe.Markup:
    """Return one of the package's own files, which is inlined as it is."""
    return markupsafe.Markup((_HERE / name).read_text(encoding="utf-8"))

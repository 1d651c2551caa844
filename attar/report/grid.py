"""A comparison of methods x seeds, for the terminal: the table, the differences, what did not run."""

from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from attar.report import format as fmt
from attar.report.costs import COSTS, said

_SURE = 0.05
_MOST_PAIRS = 12


def render_grid(record: dict[str, Any]) -> Group:
    """Return the comparison as tables that fit 120 columns."""
    parts: list[Any] = [_methods(record)]
    if record["differences"]:
        parts.append(_differences(record))
    parts += [Text(line) for line in notes(record)]
    return Group(*parts)


def notes(record: dict[str, Any]) -> list[str]:
    """Return what a reader has to know: the splits, the fronts, what failed or was left out."""
    splits = record["splits"]
    found = [
        f"{'Same splits in every run' if splits['same'] else 'The runs did not have the same data'} "
        f"(split seed {splits['seed']}), judged on {splits['judged_on']}; ± is the standard deviation over seeds."
    ]
    for cost, labels in record["fronts"].items():
        found.append(f"Pareto front, quality against {COSTS[cost]}: {', '.join(labels) or fmt.DASH}.")
    for run in record["runs"]:
        if run["status"] != "done":
            found.append(f"{run['label']}, seed {run['seed']}: {run['status']}, {run.get('error', 'not reached')}.")
    return found


def spread(value: dict[str, Any]) -> str:
    """Return a mean with its spread."""
    deviation = f" ± {fmt.score(value['std'])}" if value["std"] is not None else ""
    return fmt.score(value["mean"]) + deviation


def verdict(pair: dict[str, Any]) -> str:
    """Return whether a difference is more than chance."""
    return "yes" if pair["p_holm"] < _SURE else "no"


def _methods(record: dict[str, Any]) -> Table:
    title = f"{record['name']}: {record['splits']['judged_on']} split"
    table = _table(title, ["method", "seeds"], [fmt.metric_name(record["metric"]), *COSTS.values()])
    for method in record["methods"]:
        fronts = [cost for cost, labels in record["fronts"].items() if method["label"] in labels]
        costs = [said(cost, method[cost]["mean"]) + (" *" if cost in fronts else "") for cost in COSTS]
        seeds = ", ".join(map(str, method["seeds"]))
        table.add_row(method["label"], seeds, spread(method["quality"]), *costs)
    table.caption = "* on the Pareto front of quality against this cost"
    return table


def _differences(record: dict[str, Any]) -> Table:
    pairs = sorted(record["differences"], key=lambda pair: (pair["p_holm"], -pair["difference"]))
    more = f" (the first {_MOST_PAIRS} of {len(pairs)})" if len(pairs) > _MOST_PAIRS else ""
    table = _table(f"differences{more}", ["between"], ["difference", "95 % interval", "p, corrected", "beyond chance"])
    for pair in pairs[:_MOST_PAIRS]:
        interval = f"{pair['low']:+.3f} to {pair['high']:+.3f}"
        words = f"{pair['a']} − {pair['b']}"
        table.add_row(words, f"{pair['difference']:+.3f}", interval, f"{pair['p_holm']:.3f}", verdict(pair))
    return table


def _table(title: str, left: list[str], right: list[str]) -> Table:
    table = Table(
        title=Text(title),
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in left:
        table.add_column(name)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table

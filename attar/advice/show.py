"""Advice for the terminal: what was found, the short list, and what to run next."""

from typing import Any

from rich.console import Console
from rich.table import Table

from attar.report.format import count, millis, seconds, size
from attar.sizes import show_size

#: Candidates that are shown in full.
_SHOWN = 3


def show(advice: dict[str, Any], console: Console) -> None:
    """Print advice."""
    for line in _facts(advice):
        console.print(line, markup=False, highlight=False)
    console.print()
    for rule in advice["rules"]:
        console.print(f"[{rule['rule']}] {rule['fact']}: {rule['advice']}", markup=False, highlight=False)
    console.print()
    if advice["impossible"]:
        console.print(f"NOT POSSIBLE: {advice['impossible']}\n", markup=False, highlight=False)
    console.print(_table(advice["candidates"]))
    for place, entry in enumerate(advice["candidates"][:_SHOWN], 1):
        for line in _details(place, entry):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _facts(advice: dict[str, Any]) -> list[str]:
    facts, encoder, hardware = advice["facts"], advice["encoder"], advice["machine"]["hardware"]
    rows = f"{facts['train']:,} training rows, {facts['unlabelled']:,} unlabelled; {facts['kind']}"
    balance = f", majority {facts['majority']:.0%}, rarest {facts['smallest_class']} rows" if facts["majority"] else ""
    linear = f"; a linear model reaches {facts['linear']:.1%} (cross-validated)" if facts["linear"] else ""
    gpu = hardware["gpu"] or "no GPU"
    return [
        f"data     {rows}, {facts['labels']} outputs{balance}{linear}",
        f"texts    median {facts['length_median']} tokens, 95 % {facts['length_p95']}; the limit of {facts['limit']} "
        f"cuts {facts['cut']:.1%} of the texts and {facts['lost']:.1%} of the tokens",
        f"labels   {facts['duplicates']} repeated texts, {facts['leaked']} of dev and test in train, "
        f"{facts['conflicts']} with two labels",
        f"encoder  {encoder['family']}, {encoder['layers']} x {encoder['width']}, {count(encoder['parameters'])}"
        f" parameters, {'with' if encoder['biases'] else 'without'} biases",
        f"machine  {hardware['cores']} cores, {hardware['memory_gib']} GiB, {gpu}, bfloat16 "
        f"{'native' if hardware['native_bfloat16'] else 'not native'}; "
        f"{advice['machine']['forward_rate'] / 1e9:.0f} GFLOP/s forward, "
        f"{advice['machine']['train_rate'] / 1e9:.0f} in training",
    ]


def _table(entries: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("", "method", "quality", "training", "memory", "ms/text", "size", "fits"):
        table.add_column(name, justify="left" if name in ("", "method") else "right")
    for place, entry in enumerate(entries, 1):
        quality, cost = entry["quality"], entry["estimate"]
        table.add_row(
            str(place),
            entry["method"],
            f"{100 * quality['low']:.0f}-{100 * quality['high']:.0f} %",
            seconds(cost["seconds"]["value"]),
            show_size(cost["memory"]["value"]),
            millis(cost["latency_ms"]["value"]),
            size(cost["all_tasks"]["value"]),
            "yes" if entry["fits"] else "no",
        )
    return table


def _details(place: int, entry: dict[str, Any]) -> list[str]:
    quality, cost = entry["quality"], entry["estimate"]
    lines = [f"\n{place}. {entry['title']}"]
    lines += [f"   why: [{reason['rule']}] {reason['fact']}" for reason in entry["reasons"]]
    lines.append(f"   quality: {100 * quality['low']:.0f} to {100 * quality['high']:.0f} % of {quality['reference']} "
                 f"({quality['source']})")  # fmt: skip
    lines.append(
        f"   training {seconds(cost['seconds']['low'])} to {seconds(cost['seconds']['high'])} "
        f"({cost['seconds']['basis']}); a text {millis(cost['latency_ms']['low'])} to "
        f"{millis(cost['latency_ms']['high'])} ({cost['latency_ms']['basis']}); size: {cost['all_tasks']['basis']}"
    )
    lines += [f"   misses {miss}" for miss in entry["misses"]]
    lines += [f"   would change: {change}" for change in entry["changes"]]
    return lines + [f"   $ {command}" for command in entry["commands"]]

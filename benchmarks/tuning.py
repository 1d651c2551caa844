"""Ways to tune an encoder: quality, what is trained and stored, time and memory, with few labels and with all.

    python benchmarks/tuning.py --data DATA --encoder MINILM --encoder MPNET --work runs/tuning
        [--datasets movie_reviews] [--methods full last-3 bitfit] [--labels 200 1000 all] [--seeds 0 1 2]
        [--search] [--jobs 2] [--table]

A cell is one dataset, encoder, number of labels, method, rate and seed. A finished cell is never redone, whether it
lies in the work folder or, from another machine, in the result file, which every call adds to; any part of the grid may
be run at any time, and empty cells are printed as such (`--table` runs nothing). Costs are those of one machine, named
where it is not this one.

The budget is the same for every method: equal batches, equally many epochs (20 for 200 labels, 8 for 1,000, 3 for
all), a dev split no larger than the labels, the best epoch by dev, and one rate, the middle one of the method's three.
With `--search` all three rates are run with the first seed, the best by dev is kept, for every method alike, and the
other seeds run with it. Test is read once a run. Settings for every cell alike go into `--set`. Memory is the peak
resident memory of a cell's whole process (not a GPU's), time is that of training with its scoring of dev, ms/text is
prediction one text at a time.
"""

import argparse
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import arguments, known_result, mean_and_spread, memory_file, run_recipe, write_result

from attar.data.draws import draw_rows
from attar.nets.hardware import describe_hardware
from attar.records import read_record

#: Longest input in tokens.
DATASETS = {"movie_reviews": 128, "reuters_r8": 256, "headline_pairs": 128}
EPOCHS = {"200": 20, "1000": 8, "all": 3}
BATCH = 16

TOP_RATES = (5e-5, 1e-4, 2e-4)
BIAS_RATES = (5e-4, 1e-3, 2e-3)
#: Not 1e-3 in the middle: with wide adapters some seeds ended there at chance, on dev as on test.
ADAPTER_RATES = (1e-4, 3e-4, 1e-3)
#: The method's settings and three rates; the middle one is used without a search.
METHODS: dict[str, tuple[dict[str, Any], tuple[float, float, float]]] = {
    "full": ({"name": "full"}, (2e-5, 5e-5, 1e-4)),
    "last-6": ({"name": "freezing", "layers": 6}, TOP_RATES),
    "last-3": ({"name": "freezing", "layers": 3}, TOP_RATES),
    "last-2": ({"name": "freezing", "layers": 2}, TOP_RATES),
    "last-1": ({"name": "freezing", "layers": 1}, TOP_RATES),
    "head": ({"name": "freezing", "layers": 0}, (3e-4, 1e-3, 3e-3)),
    "bitfit": ({"name": "bitfit"}, BIAS_RATES),
    "random": ({"name": "lora", "kind": "shira", "rank": 1}, BIAS_RATES),  # as many as BitFit trains, within 3 %
    "bitfit-qi": ({"name": "bitfit", "biases": ["query", "intermediate"]}, BIAS_RATES),
    "adapters-8": ({"name": "adapters", "bottleneck": 8}, ADAPTER_RATES),
    "adapters-64": ({"name": "adapters", "bottleneck": 64}, ADAPTER_RATES),
    "adapters-256": ({"name": "adapters", "bottleneck": 256}, ADAPTER_RATES),
    "lora": ({"name": "lora"}, (2e-4, 4e-4, 1e-3)),
}


@dataclass(frozen=True)
class Block:
    """What the methods are compared in: a dataset, an encoder and a number of labels."""

    dataset: str
    encoder: str
    labels: str

    @property
    def title(self) -> str:
        return f"{self.dataset} / {Path(self.encoder).name} / {self.labels} labels"

    def path(self, work: Path, method: str, rate: float, seed: int) -> Path:
        return work / self.dataset / Path(self.encoder).name / self.labels / f"{method}-{rate:g}-{seed}"


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--encoder", dest="encoders", action="append", required=True, help="pre-trained; repeat")
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS), choices=list(DATASETS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--labels", nargs="+", default=list(EPOCHS), choices=list(EPOCHS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--search", action="store_true", help="choose each method's rate by dev with the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--table", action="store_true", help="print what there is, run nothing")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="settings for every cell")
    parser.add_argument("--name", default="tuning", help="name of the result file")
    args = parser.parse_args()
    args.known = read_known(args.name)
    blocks = [Block(*block) for block in itertools.product(args.datasets, args.encoders, args.labels)]
    if not args.table:
        run_cells(args, blocks, first=True)
        run_cells(args, blocks, first=False)  # the rates are chosen by now
    args.known = read_known(args.name)  # another call may have added to it
    found = {title: dict(methods) for title, methods in args.known.items()}
    for block in blocks:
        found[block.title] = {**found.get(block.title, {}), **summary(args, block)}
    settings = {
        **{name: getattr(args, name) for name in ("methods", "seeds", "search")},
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "rates": {method: METHODS[method][1] for method in args.methods},
        "set": args.settings,
    }
    print(f"\n{write_result(args.name, settings, found)}")


def read_known(name: str) -> dict[str, Any]:
    """Return the blocks of a result file, every cell with the processor that it was measured on."""
    known = known_result(name)
    for block in known.values():
        cpu = block.pop("cpu")
        for entry in block.values():
            entry["cells"] = [{"cpu": cpu, **row} for row in entry["cells"]]
    return known


def run_cells(args: argparse.Namespace, blocks: list[Block], *, first: bool) -> None:
    """Run the cells of the first seed, or of the others."""
    with ThreadPoolExecutor(args.jobs) as pool:
        for block, method in itertools.product(blocks, args.methods):
            for rate, seed in cells(args, block, method, first=first):
                if figures(args, block, method, rate, seed) is None:
                    pool.submit(run_cell, args, block, method, rate, seed)


def cells(args: argparse.Namespace, block: Block, method: str, *, first: bool) -> Iterator[tuple[float, int]]:
    """Yield rates and seeds: every candidate with the first seed, the chosen one with the others."""
    rates = METHODS[method][1]
    if first:
        yield from ((rate, args.seeds[0]) for rate in (rates if args.search else rates[1:2]))
    elif (rate := chosen_rate(args, block, method)) is not None:
        yield from ((rate, seed) for seed in args.seeds[1:])


def run_cell(args: argparse.Namespace, block: Block, method: str, rate: float, seed: int) -> None:
    run_recipe(recipe(args, block, method, rate, seed), block.path(args.work, method, rate, seed), args.settings)


def recipe(args: argparse.Namespace, block: Block, method: str, rate: float, seed: int) -> dict[str, Any]:
    """Return the recipe of one cell. All cells of a block share every setting but the method, its rate and the seed."""
    return {
        "command": "finetune",
        "model": block.encoder,
        "baseline": False,
        "data": {"path": str(labelled(args, block, seed))},
        "method": METHODS[method][0],
        "train": {
            "seed": seed,
            "lr": rate,
            "head_lr_factor": 1.0,  # one rate for all that moves, as in the papers; the rooms' own heads are faster
            "epochs": EPOCHS[block.labels],
            "batch_size": BATCH,
            "max_length": DATASETS[block.dataset],
            "schedule": "linear",
            "warmup": 0.1,
            "weight_decay": 0.01,
        },
    }


def labelled(args: argparse.Namespace, block: Block, seed: int) -> Path:
    """Return the folder of the data: with few labels, stratified draws of equally many training and dev rows.

    Who has 200 labels does not have 1,000 more to choose epochs by.
    """
    source = args.data / block.dataset
    if block.labels == "all":
        return source
    folder = args.work / "data" / block.dataset / f"{block.labels}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "dev", "test"):
        rows = pq.read_table(source / f"{split}.parquet")
        if split != "test":
            strata = np.array(rows["label"].to_pylist())
            size = min(int(block.labels), len(rows))
            rows = rows.take(draw_rows(np.arange(len(rows)), strata, size, seed, spare=False))
        write_parquet(rows, folder / f"{split}.parquet")
    return folder


def write_parquet(rows: pa.Table, file: Path) -> None:
    """Write through a temporary name of this thread's own; several cells share a folder."""
    if not file.exists():
        temporary = file.with_name(f".{file.stem}.{threading.get_ident()}.tmp")
        pq.write_table(rows, temporary)
        temporary.replace(file)


def chosen_rate(args: argparse.Namespace, block: Block, method: str) -> float | None:
    """Return the middle rate, or after a search the best of the finished candidates by dev; None before any is."""
    rates = METHODS[method][1]
    if not args.search:
        return rates[1]
    done = {rate: figures(args, block, method, rate, args.seeds[0]) for rate in rates}
    scores = {rate: found["dev"] for rate, found in done.items() if found}
    return max(scores, key=lambda rate: scores[rate]) if len(scores) == len(rates) else None


def figures(args: argparse.Namespace, block: Block, method: str, rate: float, seed: int) -> dict[str, Any] | None:
    """Return what a finished cell came to, here or on another machine."""
    path = block.path(args.work, method, rate, seed)
    if not (path / "record.json").exists():
        rows = args.known.get(block.title, {}).get(method, {}).get("cells", [])
        return next((row for row in rows if (row["rate"], row["seed"]) == (rate, seed)), None)
    record = read_record(path)
    model, (stage,) = record["models"][0], record["stages"]
    memory = memory_file(path)
    return {
        "cpu": record["hardware"]["cpu"],
        "seed": seed,
        "rate": rate,
        "dev": 100 * model["metrics"]["dev"]["accuracy"],
        "test": 100 * model["metrics"]["test"]["accuracy"],
        "trained": stage["moving"],
        "bytes": model["delta_bytes"] or model["bytes"],
        "ms_per_text": model["speed"]["ms_per_text"],
        "epoch_seconds": stage["seconds"] / record["config"]["train"]["epochs"],
        "peak_gib": json.loads(memory.read_text(encoding="utf-8"))["peak_gib"] if memory.exists() else None,
    }


def summary(args: argparse.Namespace, block: Block) -> dict[str, Any]:
    """Print and return the table of one block; quality is mean and spread over seeds, cost the mean."""
    print(f"\n{block.title}")
    names = ["rate", "test accuracy", "of full", "trained", "MB", "s/epoch", "GiB", "ms/text"]
    widths = [8, 22, 9, 13, 8, 9, 7, 9]
    print(" " * 15 + "".join(f"{name:>{width}}" for name, width in zip(names, widths, strict=True)))
    found: dict[str, Any] = {}
    for method in METHODS:
        if method not in args.methods:
            continue
        rate = chosen_rate(args, block, method)
        done = [figures(args, block, method, rate, seed) for seed in args.seeds] if rate is not None else []
        rows = [row for row in done if row]
        if not rows:
            print(f"  {method:<13}empty")
            continue
        found[method] = entry = collect(rows)
        full = found.get("full", {}).get("mean")
        entry["share_of_full"] = round(100 * entry["mean"] / full, 2) if full else None
        print(line(method, entry, missing=len(args.seeds) - len(rows)))
    return found


def collect(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return quality over all cells, and cost over those of one machine: this one where it has any."""
    mean, spread = mean_and_spread([row["test"] for row in rows])
    here = describe_hardware()["cpu"]
    cpu = here if any(row["cpu"] == here for row in rows) else rows[0]["cpu"]
    timed = [row for row in rows if row["cpu"] == cpu]
    memory = [row["peak_gib"] for row in timed if row["peak_gib"] is not None]
    return {
        "cpu": cpu,
        "mean": mean,
        "spread": spread,
        "rate": rows[0]["rate"],
        "trained": rows[0]["trained"],
        "bytes": rows[0]["bytes"],
        "ms_per_text": mean_and_spread([row["ms_per_text"] for row in timed])[0],
        "epoch_seconds": mean_and_spread([row["epoch_seconds"] for row in timed])[0],
        "peak_gib": max(memory) if memory else None,
        "cells": rows,
    }


def line(method: str, entry: dict[str, Any], *, missing: int) -> str:
    def shown(value: float | None, form: Callable[[float], str]) -> str:
        return "-" if value is None else form(value)

    test = f"{entry['mean']:.2f} ± {entry['spread']:.2f} ({len(entry['cells'])})"
    parts = [
        f"  {method:<13}{entry['rate']:>8.0e}{test:>22}",
        f"{shown(entry['share_of_full'], '{:.1f} %'.format):>9}{entry['trained']:>13,}",
        f"{entry['bytes'] / 1e6:>8.2f}{entry['epoch_seconds']:>9.1f}{shown(entry['peak_gib'], '{:.2f}'.format):>7}",
        f"{entry['ms_per_text']:>9.2f}",
    ]
    elsewhere = "" if entry["cpu"] == describe_hardware()["cpu"] else f"  on {entry['cpu']}"
    return "".join(parts) + elsewhere + (f"  {missing} seeds empty" if missing else "")


if __name__ == "__main__":
    main()

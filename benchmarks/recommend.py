"""Does `attar recommend` name the best method among its first two, and how far are its estimates off?

    python benchmarks/recommend.py --data DATA --encoder MINILM --teacher-encoder MPNET --work runs/recommend
        [--situations few-labels tight] [--seeds 0 1 2] [--set train.epochs=1] [--table]
    python benchmarks/recommend.py --data DATA --work runs/recommend --records RUNS [RUNS ...] [--probe]

Five situations: 1,000 long newsgroups (with 500 rows of dev and 1,500 of test, drawn at random); 200 labels; 20 tasks
of 1,000 labels; 5 ms and 50 MB; 1,000 labels and 7,000 unlabelled texts, with a teacher tuned on the 1,000 and an hour
of training. In each, the candidates of the advice are run as their recipes say; the best is the highest mean on test of
those whose *measured* costs keep the limits. With 20 tasks a candidate counts where what all tasks take on disk is at
most twice the encoder. What is too large on disk, or too slow to train even if it took half of its estimate, is not
run. A hit is the best among the first two of the advice.
A finished run stays; the result has every situation ever judged. Where time is short, --table judges by the runs that
are finished, and says which are not: they come in the order of the advice.

With --records, nothing is trained: finished runs below these folders, made on this machine, are compared with what is
estimated for their recipes now. Of runs of one seed the least of each cost counts, since whatever else a machine does
only adds to it; of several seeds their mean, since training with patience ends where it will; of several probes the
median. A pair of recipe and dataset is within a bound where all of its costs are. The result keeps the pairs that were
compared before.
"""

import argparse
import dataclasses
import json
import statistics
from itertools import groupby
from pathlib import Path
from typing import Any

from common import RESULTS, arguments, cell, known_result, mean_and_spread, memory_file, run_recipe, write_result
from datasets import Dataset

from attar.advice.candidates import candidates
from attar.advice.estimates import estimate, loop_seconds, train_seconds
from attar.advice.probe import probe
from attar.advice.recommend import limits_of, recommend, situation_of
from attar.config import DataConfig, from_table
from attar.errors import AttarError
from attar.nets.hardware import describe_hardware
from attar.records import read_record

#: Dataset, limits of the labels, and what is asked for.
SITUATIONS: dict[str, tuple[str, int | None, dict[str, Any]]] = {
    "long": ("newsgroups", 1000, {}),
    "few-labels": ("movie_reviews", 200, {}),
    "many-tasks": ("reuters_r8", 1000, {"tasks": 20}),
    "tight": ("movie_reviews", None, {"max_latency_ms": 5.0, "max_size": "50MB"}),
    "unlabelled": ("movie_reviews", 1000, {"train_budget": "1h"}),
}

#: Rows of dev and test that are drawn from a dataset whose texts take long.
DRAWN = {"newsgroups": {"dev": 500, "test": 1500}}
#: Time of one probe, seconds, and how often a pair is probed.
PROBE_SECONDS = 300.0
PROBES = 3


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--encoder", help="pre-trained encoder to tune")
    parser.add_argument("--teacher-encoder", help="pre-trained encoder of the teacher of 'unlabelled'")
    parser.add_argument("--situations", nargs="+", default=list(SITUATIONS), choices=list(SITUATIONS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", dest="settings", action="append", default=[], help="settings for every run")
    parser.add_argument("--table", action="store_true", help="judge by finished runs, run nothing")
    parser.add_argument("--records", type=Path, nargs="+", help="compare estimates with finished runs below")
    parser.add_argument("--probe", action="store_true", help="with --records: what probes say, too")
    args = parser.parse_args()
    if args.records:
        estimates(args)
        return
    if not args.encoder or not args.teacher_encoder:
        parser.error("--encoder and --teacher-encoder are needed, or --records")
    for name in args.situations:
        found = known_result("recommend") | {name: judge(args, name)}
        print(write_result("recommend", {"seeds": args.seeds, "set": args.settings}, found))
    hits = sum(entry["hit"] for entry in found.values())
    print(f"{hits} of {len(found)} hits")


def judge(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """Run every candidate of one situation; say whether the best is among the first two of the advice."""
    dataset, limit, asked = SITUATIONS[name]
    folder = args.work / name
    table: dict[str, Any] = {"path": str(data_folder(args, dataset))} | ({"limit": limit} if limit else {})
    teacher = None
    if name == "unlabelled":
        teacher = str(folder / "given-teacher")
        method = {"command": "finetune", "model": args.teacher_encoder, "method": {"name": "full"}, "data": table}
        run_recipe(
            {**method, "train": {"epochs": 5, "batch_size": 16}, "baseline": False}, Path(teacher), args.settings
        )
    advice = recommend(from_table(DataConfig, table), model=args.encoder, teacher=teacher, **asked)
    limits = limits_of(asked.get("max_latency_ms"), None, asked.get("max_size"), asked.get("train_budget"))
    fitting = [entry for entry in advice["candidates"] if may_fit(entry["estimate"], limits, asked.get("tasks", 1))]
    entries = [run_candidate(args, folder, table, entry) for entry in fitting]
    allowed = [e for e in entries if e["runs"] and keeps(e, limits, asked.get("tasks", 1))]
    best = max(allowed, key=lambda e: e["mean"])["method"] if allowed else None
    named = [entry["method"] for entry in advice["candidates"][:2]]
    print(f"{name}: advised {', '.join(named)}; best measured {best}")
    empty = [entry["method"] for entry in entries if not entry["runs"]]
    print(f"  empty: {', '.join(empty)}" if empty else "  all candidates that may fit were run")
    cpu = describe_hardware()["cpu"]
    return {"cpu": cpu, "advised": named, "best": best, "hit": best in named, "empty": empty, "candidates": entries}


def data_folder(args: argparse.Namespace, dataset: str) -> Path:
    """Return the dataset's folder, or where it is large one with draws from its dev and test splits."""
    whole = args.data / dataset
    if dataset not in DRAWN:
        return whole
    smaller = args.work / "data" / dataset
    if not smaller.exists():
        draft = smaller.with_name(f".{dataset}")
        draft.mkdir(parents=True, exist_ok=True)
        for file in sorted(whole.glob("*.parquet")):
            rows = Dataset.from_parquet(str(file)).shuffle(seed=0)
            rows.select(range(min(len(rows), DRAWN[dataset].get(file.stem, len(rows))))).to_parquet(draft / file.name)
        draft.rename(smaller)
    return smaller


def may_fit(estimate: dict[str, Any], limits: Any, tasks: int) -> bool:
    """Return whether what it takes on disk, and to train, may keep the limits."""
    size, all_tasks = estimate["size"], estimate["all_tasks"]
    pairs = ((size["low"], limits.size), (estimate["seconds"]["low"], limits.train_seconds))
    if any(limit is not None and low > limit for low, limit in pairs):
        return False
    return tasks == 1 or all_tasks["low"] <= 2 * size["high"]


def run_candidate(
    args: argparse.Namespace, folder: Path, data: dict[str, Any], entry: dict[str, Any]
) -> dict[str, Any]:
    """Run a candidate's recipes with every seed; its teacher, where it needs one, is shared with the others."""
    runs = []
    for seed in args.seeds:
        outs = []
        for recipe in entry["recipes"]:
            out = folder / f"{recipe['out']}-{seed}"
            recipe = {**recipe, "baseline": False, "train": {**recipe["train"], "seed": seed}}
            recipe["data"] = {**recipe["data"], **data}
            if recipe.get("teacher") == {"bundles": ["teacher"]}:
                recipe["teacher"] = {"bundles": [str(folder / f"teacher-{seed}")]}
            if not args.table:
                run_recipe(recipe, out, args.settings)
            outs.append(out)
        if all((out / "record.json").exists() for out in outs):
            every = [measured(out) for out in outs]
            runs.append(every[-1] | {"seconds": sum(run["seconds"] for run in every)})
    mean, spread = mean_and_spread([run["test"] for run in runs]) if runs else (0.0, 0.0)
    return {"method": entry["method"], "mean": mean, "spread": spread, "runs": runs, "estimate": entry["estimate"]}


def measured(out: Path) -> dict[str, Any]:
    """Return quality and costs of a finished run."""
    record = read_record(out)
    model = record["models"][0]
    metric = "test" if "test" in model["metrics"] else "dev"
    memory = memory_file(out)
    return {
        "test": next(iter(v for k, v in model["metrics"][metric].items() if k in ("accuracy", "micro_f1", "pearson"))),
        "seconds": sum(s["seconds"] for s in record["stages"] if s.get("run", "student") != "labels-only"),
        "latency_ms": model["speed"]["ms_per_text"],
        "size": model["bytes"],
        "delta": model.get("delta_bytes"),
        "memory": json.loads(memory.read_text())["peak_gib"] * 2**30 if memory.exists() else None,
    }


def keeps(entry: dict[str, Any], limits: Any, tasks: int) -> bool:
    """Return whether the measured costs keep the limits."""
    run = entry["runs"][0]
    costs = ("latency_ms", "size", "seconds")
    pairs = zip([run[cost] for cost in costs], [limits.latency_ms, limits.size, limits.train_seconds], strict=True)
    if any(limit is not None and value > limit for value, limit in pairs):
        return False
    total = run["size"] + (tasks - 1) * (run["delta"] or run["size"])
    return tasks == 1 or total <= 2 * run["size"]


def estimates(args: argparse.Namespace) -> None:
    """Compare finished runs with what is estimated for their recipes, or with what probes of them say."""
    rows: list[dict[str, Any]] = []
    known: dict[Any, Any] = {}
    for file in sorted(f for folder in args.records for f in folder.rglob("record.json")):
        if ".work" in str(file):
            continue
        try:
            row = compare_record(file.parent, read_record(file), known)
        except (AttarError, StopIteration, FileNotFoundError, KeyError) as error:
            print(f"{file.parent.name:<32} left out: {error!r:.80}")
            continue
        rows.append(row)
    groups = [list(runs) for _, runs in groupby(sorted(rows, key=alike), key=alike)]
    found = {"estimated": [compared(runs, "estimated") for runs in groups]}
    if args.probe:
        found["probed"] = [compared(probed(runs, args.work / "probes"), "probed") for runs in groups]
    within = {}
    for basis, known in known_pairs().items():
        again = {pair["run"] for pair in found.get(basis, [])}
        found[basis] = [pair for pair in known if pair["run"] not in again] + found.get(basis, [])
    for basis, pairs in found.items():
        within[basis] = {
            limit: sum(all(1 / limit <= r <= limit for r in p["ratios"].values()) for p in pairs)
            for limit in (2.0, 1.25)
        }
        print(f"{basis}: {len(pairs)} pairs of recipe and dataset; all costs within 2x: {within[basis][2.0]}, "
              f"within 1.25x: {within[basis][1.25]}")  # fmt: skip
    if groups:
        print(write_result("recommend_estimates", {}, {"within": within, **found}))


def known_pairs() -> dict[str, list[dict[str, Any]]]:
    """Return the pairs that were compared before, by what was said of them."""
    file = RESULTS / "recommend_estimates.json"
    result = json.loads(file.read_text(encoding="utf-8"))["result"] if file.exists() else {}
    return {basis: pairs for basis, pairs in result.items() if basis != "within"}


def alike(row: dict[str, Any]) -> str:
    """Return what runs have in common that differ in their seed alone: their folders' names up to it."""
    return row["run"].rpartition("-")[0] or row["run"]


def compared(runs: list[dict[str, Any]], basis: str) -> dict[str, Any]:
    """Return what was said of the first of several runs over what they measured, by cost."""
    said = runs[0][basis]
    measured = {cost: mean_of_least(runs, cost) for cost in said}
    ratios = {cost: said[cost] / measured[cost] for cost in said}
    print(f"{basis:<10} {alike(runs[0])[-40:]:<42}" + "".join(f"{cost} {r:>6.2f}   " for cost, r in ratios.items()))
    return {"run": alike(runs[0]), "runs": len(runs), "said": said, "measured": measured, "ratios": ratios}


def mean_of_least(runs: list[dict[str, Any]], cost: str) -> float:
    """Return the mean over seeds of the least that any run of the seed measured."""
    by_seed: dict[int, list[float]] = {}
    for run in (run for run in runs if cost in run["measured"]):
        by_seed.setdefault(run["seed"], []).append(run["measured"][cost])
    return statistics.mean(min(values) for values in by_seed.values())


def probed(runs: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Probe the first of several runs as the advice does, and add what that says of each cost."""
    first = runs[0]
    said = [
        cell(folder / f"{first['run'].replace('/', '--')}.{i}.json", lambda: probe_of(first)) for i in range(PROBES)
    ]
    return [first | {"probed": {cost: statistics.median(one[cost] for one in said) for cost in said[0]}}, *runs[1:]]


def probe_of(run: dict[str, Any]) -> dict[str, float]:
    """Return what one probe says of each cost."""
    candidate, situation = run["candidate"], run["situation"]
    recipe = candidate.recipes[-1]
    found = probe([(candidate, estimate(candidate, situation))], situation, PROBE_SECONDS).get(0)
    if found is None:
        raise SystemExit(f"the probe of {run['run']} did not end")
    # As for the estimate: the loop alone.
    before = train_seconds(candidate, situation, recipe) - loop_seconds(candidate, situation, recipe)
    return {cost: getattr(found, cost).value - (before if cost == "seconds" else 0) for cost in run["estimated"]}


def compare_record(out: Path, record: dict[str, Any], known: dict[Any, Any]) -> dict[str, Any]:
    """Return what is estimated and what was measured of one run, and the candidate it was."""
    config = {key: value for key, value in record["config"].items() if key != "report_to"}
    teacher = next(iter(config.get("teacher", {}).get("bundles", ())), None)
    data = from_table(DataConfig, config["data"])
    model = config["method"]["student"] if config["method"]["name"] == "logits" else config.get("model")
    key = (data, model, teacher, config["train"]["max_length"])
    if key not in known:
        known[key] = situation_of(data, model, teacher, max_length=config["train"]["max_length"])
    situation = known[key]
    name = "head" if config["method"].get("layers") == 0 else config["method"]["name"]
    candidate = next(c for c in candidates(situation) if c.name == name)
    moving = record["stages"][-1].get("moving")
    extra = candidate.extra | ({"moving": moving} if moving and config["command"] == "finetune" else {})
    candidate = dataclasses.replace(
        candidate, recipes=(config,), extra=extra, **student_sizes(candidate, config, situation)
    )
    guess, found = estimate(candidate, situation), measured(out)
    costs = [cost for cost in ("seconds", "latency_ms", "memory", "size") if found[cost]]
    # A record has the seconds of its stages; what the teacher answered before them is not in it, or was cached.
    loop = loop_seconds(candidate, situation, config)
    return {
        "run": "/".join(out.parts[-4:]),
        "seed": config["train"]["seed"],
        "candidate": candidate,
        "situation": situation,
        "estimated": {cost: loop if cost == "seconds" else getattr(guess, cost).value for cost in costs},
        "measured": {cost: found[cost] for cost in costs},
    }


def student_sizes(candidate: Any, config: dict[str, Any], situation: Any) -> dict[str, Any]:
    """Return the sizes that a recipe gives its student, where they are not those of the candidate."""
    method = config["method"]
    if candidate.name == "tinybert":
        return {"shape": situation.teacher_shape.thin(method["layers"], method["width"], method["feed_forward"])}
    if candidate.name == "bilstm-soft":
        return {"words": min(candidate.words, method["max_words"])}
    return {}


if __name__ == "__main__":
    main()

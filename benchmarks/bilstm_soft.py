"""BiLSTM-SOFT: what distillation and augmentation each bring (the 2x2 table that the paper lacks).

    python benchmarks/bilstm_soft.py --data DATA --encoder MPNET --work runs/bilstm [--jobs 4] [--seeds 0 1 2]

For every dataset the encoder is fine-tuned once (the teacher). Then the same BiLSTM is trained with labels or with
the teacher's logits, with and without augmented text, for every seed. The student of the label arms starts from the
vectors of the *pre-trained* encoder, so that it knows nothing of the teacher. Model selection is by dev accuracy;
test is read once a run. A finished run is never redone; empty cells are printed as such.
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common import arguments, mean_and_spread, run_recipe, write_result

from attar.records import read_record

#: Settings of the students, chosen by dev; the rest is the room's defaults, which are the paper's.
DATASETS: dict[str, dict[str, Any]] = {
    # Distilled without augmentation: 84.4 on dev, and 83.3 with the default dropout of 0.1.
    "movie_reviews": {"method": {"dropout": 0.5}, "train": {"max_length": 128}},
    # 5,485 texts: with larger batches there are too few steps.
    "reuters_r8": {
        "method": {"dropout": 0.3},
        "train": {"max_length": 128, "batch_size": 32, "schedule": "linear", "epochs": 15},
    },
}
ARMS = ("labels-random", "labels", "labels+aug", "distil", "distil+aug")
TITLES = {
    "labels-random": "labels, random vectors",
    "labels": "labels",
    "labels+aug": "labels + augmentation",
    "distil": "distillation",
    "distil+aug": "distillation + augmentation",
}


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--encoder", required=True, help="pre-trained encoder to fine-tune as the teacher")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS), choices=list(DATASETS))
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--n-iter", type=int, default=20, help="synthetic versions of a text")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="settings for every student")
    parser.add_argument("--teacher-export", help="export of the one dataset's teacher, which answers the students")
    parser.add_argument("--name", default="bilstm_soft", help="name of the result file")
    args = parser.parse_args()
    if args.teacher_export and len(args.datasets) > 1:
        parser.error("--teacher-export is of one teacher: name one of --datasets")
    for dataset in args.datasets:
        teacher = args.work / dataset / "teacher"
        if not (teacher / "config.json").exists():  # a fine-tuned folder that lies there already is taken as it is
            run_recipe(teacher_recipe(args, dataset), teacher)
        # The first student fills the cache for all others; the rest run side by side.
        cells = [(arm, seed) for seed in args.seeds for arm in reversed(args.arms)]
        first, rest = cells[0], cells[1:]
        student(args, dataset, *first)
        with ThreadPoolExecutor(args.jobs) as pool:
            for arm, seed in rest:
                pool.submit(student, args, dataset, arm, seed)
    found = {dataset: summary(args, dataset) for dataset in args.datasets}
    settings = {"seeds": args.seeds, "n_iter": args.n_iter, "encoder": Path(args.encoder).name, "set": args.settings}
    if args.teacher_export:
        settings["teacher_export"] = Path(args.teacher_export).name
    print(f"\n{write_result(args.name, settings, found)}")


def student(args: argparse.Namespace, dataset: str, arm: str, seed: int) -> None:
    run_recipe(student_recipe(args, dataset, arm, seed), cell_path(args, dataset, arm, seed), args.settings)


def cell_path(args: argparse.Namespace, dataset: str, arm: str, seed: int) -> Path:
    return args.work / dataset / f"{arm}-{seed}"


def teacher_recipe(args: argparse.Namespace, dataset: str) -> dict[str, Any]:
    return {
        "command": "finetune",
        "model": args.encoder,
        "data": {"path": str(args.data / dataset)},
        "train": {"epochs": 2, "lr": 2e-5, "max_length": DATASETS[dataset]["train"]["max_length"]},
    }


def student_recipe(args: argparse.Namespace, dataset: str, arm: str, seed: int) -> dict[str, Any]:
    """Return the recipe of one cell. All cells share every setting but the arm's own."""
    recipe: dict[str, Any] = {
        "command": "distill",
        "baseline": False,
        "data": {"path": str(args.data / dataset)},
        "teacher": {"bundles": [str(args.work / dataset / "teacher")]},
        "method": {"name": "bilstm-soft", **DATASETS[dataset]["method"]},
        "train": {"seed": seed, **DATASETS[dataset]["train"]},
    }
    if arm.startswith("labels"):
        vectors = "random" if arm == "labels-random" else f"encoder:{args.encoder}"
        recipe["method"].update(alpha=1.0, vectors=vectors)
    elif args.teacher_export:
        recipe["teacher"]["exports"] = [args.teacher_export]
    if arm.endswith("+aug"):
        recipe["augment"] = {"method": "tang", "n_iter": args.n_iter}
    return recipe


def summary(args: argparse.Namespace, dataset: str) -> dict[str, Any]:
    """Print and return the table of one dataset from its records."""
    done = [cell_path(args, dataset, arm, seed) for arm in ARMS for seed in args.seeds]
    records = [read_record(path) for path in done if (path / "record.json").exists()]
    if not records:
        print(f"\n{dataset}: empty")
        return {}
    teacher = next(100 * m["metrics"]["test"]["accuracy"] for m in records[0]["models"] if m["role"] == "teacher")
    print(f"\n{dataset}: teacher {teacher:.2f} (test accuracy, %)")
    found: dict[str, Any] = {"teacher": teacher, "arms": {}}
    for arm in ARMS:
        paths = [cell_path(args, dataset, arm, seed) for seed in args.seeds]
        records = [read_record(path) for path in paths if (path / "record.json").exists()]
        if not records:
            print(f"  {TITLES[arm]:<28} empty")
            continue
        test = [100 * r["models"][0]["metrics"]["test"]["accuracy"] for r in records]
        dev = [100 * r["models"][0]["metrics"]["dev"]["accuracy"] for r in records]
        mean, spread = mean_and_spread(test)
        print(
            f"  {TITLES[arm]:<28} {mean:.2f} ± {spread:.2f} ({len(test)} seeds)  {mean - teacher:+.2f} to the teacher"
        )
        seconds = [r["timings"]["train"] for r in records]
        found["arms"][arm] = {"test": test, "dev": dev, "mean": mean, "spread": spread, "train_seconds": seconds}
    return found


if __name__ == "__main__":
    main()

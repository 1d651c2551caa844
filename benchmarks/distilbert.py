"""DistilBERT on a task: what half of the layers keep of the teacher, and how much faster they run.

    python benchmarks/distilbert.py --data DATA --teachers TEACHERS --work runs/distilbert [--seeds 0 1 2]
    python benchmarks/distilbert.py --data DATA --teachers TEACHERS --work runs/distilbert-hidden \
        --hidden-epochs 3 --n-iter 3 --epochs 2 --no-baseline --name distilbert-hidden

``TEACHERS`` holds one fine-tuned folder a dataset (``TEACHERS/movie_reviews``, …). For every dataset and seed the
student of half of the teacher's layers is distilled with ``attar distill --method distilbert``; its labels-only twin in
the same run starts from the same layers, which are fine-tuned ones. With ``--encoder``, the same layers of that
pre-trained encoder are fine-tuned on the labels, too: they have learned nothing of the task. Then teacher and student
run forward on the same encoded texts of the test split, in turn, at batch 32 and batch 1: medians, no tokenization, the
same precision and threads. Model selection is by dev; test is read once a run. A finished cell is never redone, an
interrupted one is resumed; empty cells are printed as such. Of datasets that are not asked for, the result file keeps
what it has.

With ``--hidden-epochs`` the same student learns the teacher's hidden states first (``--method tinybert --student half``
without its loss of attention), and with ``--n-iter`` from synthetic texts, too.
"""

import argparse
from pathlib import Path
from typing import Any

from common import arguments, cell, known_result, mean_and_spread, write_result
from forward import forward_ratios

from attar.bundle import load_bundle
from attar.data.readers import read_splits
from attar.methods.students import chosen_layers
from attar.nets.anatomy import anatomy
from attar.nets.loading import load_encoder, load_tokenizer
from attar.nets.surgery import keep_layers
from attar.recipe import config_of
from attar.records import read_record
from attar.runner import run

DATASETS = {"movie_reviews": 128, "reuters_r8": 128}
METRIC = "accuracy"


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--teachers", type=Path, required=True, help="folder with one fine-tuned folder a dataset")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS), choices=list(DATASETS))
    parser.add_argument("--encoder", help="what the teachers were fine-tuned from: half of it on the labels alone, too")
    parser.add_argument("--student", default="half", help="half, or layers:0,2,4 of the teacher")
    parser.add_argument("--limit", type=int, help="labels of this many training rows, a fraction that is stated")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--hidden-epochs", type=int, default=0, help="epochs on hidden states before the predictions")
    parser.add_argument("--n-iter", type=int, default=0, help="synthetic versions of every text (Tang et al. 2019)")
    parser.add_argument("--no-baseline", action="store_true", help="no labels-only twin, no linear model")
    parser.add_argument("--repeats", type=int, default=20, help="timed batches of each size and network")
    parser.add_argument("--name", default="distilbert", help="name of the result file")
    args = parser.parse_args()
    for dataset in args.datasets:
        for seed in args.seeds:
            out = args.work / dataset / f"seed-{seed}"
            run(config_of(recipe(args, dataset, seed, out)), resume=True)
            if args.encoder:
                run(config_of(labels_recipe(args, dataset, seed)), resume=True)
        students = args.work / dataset / f"seed-{args.seeds[0]}"
        cell(args.work / dataset / "forward.json", lambda d=dataset, s=students: forward_times(args, d, s))
    found = known_result(args.name) | {dataset: summary(args, dataset) for dataset in args.datasets}
    print(write_result(args.name, {}, found))


def settings(args: argparse.Namespace, dataset: str) -> dict[str, Any]:
    return {
        "seeds": args.seeds,
        "student": args.student,
        "limit": args.limit,
        "epochs": args.epochs,
        "hidden_epochs": args.hidden_epochs,
        "n_iter": args.n_iter,
        "max_length": DATASETS[dataset],
        "teacher": read_model_type(args.teachers / dataset),
    }


def recipe(args: argparse.Namespace, dataset: str, seed: int, out: Path) -> dict[str, Any]:
    data = {"path": str(args.data / dataset), **({"limit": args.limit} if args.limit else {})}
    hidden = {"intermediate_epochs": args.hidden_epochs, "attention_weight": 0.0}
    method = {"name": "tinybert", **hidden} if args.hidden_epochs else {"name": "distilbert"}
    return {
        "command": "distill",
        "out": str(out),
        "baseline": not args.no_baseline,
        "data": data,
        **({"augment": {"method": "tang", "n_iter": args.n_iter}} if args.n_iter else {}),
        "teacher": {"bundles": [str(args.teachers / dataset)]},
        "method": {**method, "student": args.student},
        "train": {"seed": seed, "epochs": args.epochs, "max_length": DATASETS[dataset]},
    }


def labels_recipe(args: argparse.Namespace, dataset: str, seed: int) -> dict[str, Any]:
    """Return the recipe of the pre-trained encoder's layers on the labels alone, for as many epochs as both stages."""
    half = args.work / f"{Path(args.encoder).name}-{args.student.replace(':', '-')}"
    if not half.exists():
        encoder, draft = load_encoder(args.encoder), half.with_name(f".{half.name}")
        keep_layers(encoder, chosen_layers(args.student, len(anatomy(encoder).layers))).save_pretrained(draft)
        load_tokenizer(args.encoder).save_pretrained(draft)
        draft.rename(half)
    distilled = recipe(args, dataset, seed, labels_out(args, dataset, seed))
    train = distilled["train"] | {"epochs": args.hidden_epochs + args.epochs}
    shared = {"out": distilled["out"], "data": distilled["data"], "train": train}
    return shared | {"command": "finetune", "model": str(half), "method": {"name": "full"}, "baseline": False}


def labels_out(args: argparse.Namespace, dataset: str, seed: int) -> Path:
    return args.work / dataset / f"labels-{seed}"


def read_model_type(folder: Path) -> str:
    return load_bundle(str(folder)).model.config.model_type


def forward_times(args: argparse.Namespace, dataset: str, student: Path) -> dict[str, Any]:
    """Time teacher and student on the test split's texts."""
    teacher, small = load_bundle(str(args.teachers / dataset)), load_bundle(str(student))
    split = read_splits(str(args.data / dataset))
    texts = list((split.get("test") or split["train"])["text"][:1000])
    return forward_ratios(teacher, small.model, texts, DATASETS[dataset], args.repeats)


def summary(args: argparse.Namespace, dataset: str) -> dict[str, Any]:
    """Print and return the table of one dataset from its records."""
    done = [args.work / dataset / f"seed-{seed}" for seed in args.seeds]
    records = [read_record(path) for path in done if (path / "record.json").exists()]
    if not records:
        print(f"\n{dataset}: empty")
        return {}
    scores: dict[str, list[float]] = {}
    for record in records:
        for model in record["models"]:
            scores.setdefault(model["role"], []).append(100 * model["metrics"]["test"][METRIC])
    for out in (labels_out(args, dataset, seed) for seed in args.seeds):
        if (out / "record.json").exists():
            scores.setdefault("pre-trained", []).append(100 * read_record(out)["models"][0]["metrics"]["test"][METRIC])
    teacher = scores["teacher"][0]
    print(f"\n{dataset}: teacher {teacher:.2f} (test {METRIC}, %), {len(records)} of {len(done)} seeds")
    found: dict[str, Any] = {
        "cpu": records[0]["hardware"]["cpu"],
        "settings": settings(args, dataset),
        "teacher": teacher,
        "arms": {},
    }
    for role in (role for role in ("student", "labels-only", "pre-trained", "linear") if role in scores):
        mean, spread = mean_and_spread(scores[role])
        kept = 100 * mean / teacher
        print(f"  {role:<12} {mean:.2f} ± {spread:.2f} ({len(scores[role])} seeds)  keeps {kept:.1f} %")
        found["arms"][role] = {"test": scores[role], "mean": mean, "spread": spread, "kept": kept}
    found["forward"] = cell(args.work / dataset / "forward.json", dict)
    for size in (32, 1):
        print(f"  forward, batch {size}: {found['forward'][f'batch_{size}']['ratio']:.2f}x faster than the teacher")
    return found


if __name__ == "__main__":
    main()

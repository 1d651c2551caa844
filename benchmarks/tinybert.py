"""TinyBERT: what each of its steps and losses brings (the paper's ablations), on movie_reviews.

    python benchmarks/tinybert.py --data DATA --encoder MPNET --work runs/tinybert [--seeds 0 1 2] [--jobs 2]
    python benchmarks/tinybert.py --data DATA --encoder MINILM --work runs/tinybert-small --sizes 3 192 12 600

The encoder is fine-tuned once (the teacher); one thin student is distilled from the pre-trained encoder on the train
splits of newsgroups, movie_reviews, brown_pos and headline_pairs (the general stage); then the task's stages run for
every arm and seed. An arm without a loss lacks it on the task; the general student is the same for all. Epochs are
chosen by dev, test is read once a run. A finished run is never redone; empty cells are printed as such. Forward passes
of the teacher and of a student of these sizes (weights do not matter) are timed in turn, on the test split's texts;
``--arms`` without a name does that alone.
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common import arguments, cell, mean_and_spread, run_recipe, write_result
from datasets import Dataset
from forward import forward_ratios

from attar.bundle import load_bundle
from attar.data.readers import read_splits
from attar.methods.tinybert.config import TinyBert
from attar.methods.tinybert.student import shaped_student
from attar.nets.parameters import count_parameters
from attar.records import read_record

#: By arm: a title, settings of the method, whether it starts from the general student, whether it has augmented texts.
ARMS: dict[str, tuple[str, dict[str, Any], bool, bool]] = {
    "full": ("all steps", {}, True, True),
    "no-general": ("no general stage", {}, False, True),
    "no-augmentation": ("no augmentation", {}, True, False),
    "no-embedding": ("no embedding loss", {"embedding_weight": 0.0}, True, True),
    "no-hidden": ("no hidden loss", {"hidden_weight": 0.0}, True, True),
    "no-attention": ("no attention loss", {"attention_weight": 0.0}, True, True),
    "prediction": ("prediction stage only", {"intermediate_epochs": 0}, True, True),
    "no-prediction": ("labels in the last stage", {"prediction": "labels"}, True, True),
    "labels": ("labels alone, from the general student", {"alpha": 1.0}, True, False),
}
CORPUS = {
    "newsgroups": ("text",),
    "movie_reviews": ("text",),
    "brown_pos": ("tokens",),
    "headline_pairs": ("headline", "lead"),
}
DATASET = "movie_reviews"


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--encoder", required=True, help="pre-trained encoder: teacher of the general stage")
    parser.add_argument(
        "--sizes", type=int, nargs=4, default=[4, 312, 12, 1200], help="layers width heads feed-forward"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=ARMS)
    parser.add_argument("--general-epochs", type=int, default=10)
    parser.add_argument("--words", type=int, help="of each text of the general stage, its first ones; default: all")
    parser.add_argument("--intermediate-epochs", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=3, help="of the prediction stage")
    parser.add_argument("--augment", default="tang", help="kind of augmented texts")
    parser.add_argument("--n-iter", type=int, default=2, help="synthetic versions of a text")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="settings for every cell")
    parser.add_argument("--set-general", action="append", default=[], help="settings of the general stage")
    parser.add_argument("--name", default="tinybert", help="name of the result file")
    args = parser.parse_args()
    teacher = args.work / "teacher"
    if not (teacher / "config.json").exists():  # a fine-tuned folder that lies there already is taken as it is
        run_recipe(teacher_recipe(args), teacher)
    if args.arms:
        run_recipe(general_recipe(args), args.work / "general", args.set_general)
        cells = [(arm, seed) for seed in args.seeds for arm in args.arms]
        student(args, *cells[0])  # fills the cache for all others; the rest run side by side
        with ThreadPoolExecutor(args.jobs) as pool:
            for arm, seed in cells[1:]:
                pool.submit(student, args, arm, seed)
    cell(args.work / "forward.json", lambda: forward_times(args, teacher))
    left_out = ("data", "work", "encoder", "jobs", "name")
    settings = {name: value for name, value in vars(args).items() if name not in left_out}
    print(f"\n{write_result(args.name, {**settings, 'encoder': Path(args.encoder).name}, summary(args))}")


def forward_times(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Time the teacher and an untrained student of its class and these sizes."""
    teacher = load_bundle(str(folder))
    small, _ = shaped_student(teacher.model, TinyBert(**sizes(args)))
    texts = list(read_splits(str(args.data / DATASET))["test"]["text"][:1000])
    counts = [count_parameters(model)[0] for model in (teacher.model, small)]
    return {"parameters": counts, **forward_ratios(teacher, small, texts, args.max_length, 20)}


def student(args: argparse.Namespace, arm: str, seed: int) -> None:
    own = [f"method.{name}={value}" for name, value in ARMS[arm][1].items()]  # last, so that it wins over --set
    run_recipe(student_recipe(args, arm, seed), args.work / f"{arm}-{seed}", [*args.settings, *own])


def teacher_recipe(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "command": "finetune",
        "model": args.encoder,
        "data": {"path": str(args.data / DATASET)},
        "train": {"epochs": 2, "lr": 2e-5, "max_length": args.max_length},
    }


def general_recipe(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "command": "pretrain",
        "teacher": args.encoder,
        "text": {"paths": [str(write_corpus(args))]},
        "method": {"name": "tinybert", **sizes(args)},
        # Few texts: smaller batches than the paper's 256, so that there are steps enough, and a higher rate.
        "train": {"epochs": args.general_epochs, "batch_size": 32, "lr": 2.5e-3, "max_length": args.max_length},
    }


def student_recipe(args: argparse.Namespace, arm: str, seed: int) -> dict[str, Any]:
    """Return the recipe of one cell, without the arm's own settings: all cells share the rest."""
    _, _, general, augmented = ARMS[arm]
    method = {"name": "tinybert", **sizes(args), "intermediate_epochs": args.intermediate_epochs}
    if general:
        method["student"] = str(args.work / "general")
    recipe: dict[str, Any] = {
        "command": "distill",
        "baseline": False,
        "data": {"path": str(args.data / DATASET)},
        "teacher": {"bundles": [str(args.work / "teacher")]},
        "method": method,
        "train": {"seed": seed, "epochs": args.epochs, "max_length": args.max_length},
    }
    if augmented:
        recipe["augment"] = {"method": args.augment, "n_iter": args.n_iter}
    return recipe


def sizes(args: argparse.Namespace) -> dict[str, int]:
    return dict(zip(("layers", "width", "heads", "feed_forward"), args.sizes, strict=True))


def write_corpus(args: argparse.Namespace) -> Path:
    """Write the train splits' texts, each once, as one file."""
    file = args.work / (f"corpus-{args.words}.parquet" if args.words else "corpus.parquet")
    if not file.exists():
        texts: dict[str, None] = {}
        for name, columns in CORPUS.items():
            rows = Dataset.from_parquet(str(args.data / name / "train.parquet"))
            for column in columns:
                words = (text.split() if isinstance(text, str) else text for text in rows[column])
                texts |= dict.fromkeys(" ".join(text[: args.words]) for text in words)
        args.work.mkdir(parents=True, exist_ok=True)
        Dataset.from_dict({"text": [text for text in texts if text]}).to_parquet(str(file))
    return file


def summary(args: argparse.Namespace) -> dict[str, Any]:
    """Print and return the table from the records."""
    done = {arm: [args.work / f"{arm}-{seed}" for seed in args.seeds] for arm in ARMS}
    records = {arm: [read_record(p) for p in paths if (p / "record.json").exists()] for arm, paths in done.items()}
    finished = [record for found in records.values() for record in found]
    forward = cell(args.work / "forward.json", dict)
    for size in (32, 1):
        print(f"forward, batch {size}: {forward[f'batch_{size}']['ratio']:.2f}x faster than the teacher")
    if not finished:
        print("empty")
        return {"forward": forward}
    teacher = next(model for model in finished[0]["models"] if model["role"] == "teacher")
    reference = 100 * teacher["metrics"]["test"]["accuracy"]
    print(f"\n{DATASET}: teacher {reference:.2f} (test accuracy, %), {teacher['parameters']:,} parameters")
    table: dict[str, Any] = {"teacher": reference, "parameters": teacher["parameters"], "forward": forward, "arms": {}}
    for arm, (title, *_) in ARMS.items():
        if not records[arm]:
            print(f"  {title:<40} empty")
            continue
        table["arms"][arm] = found = row(records[arm])
        print(
            f"  {title:<40} {found['mean']:.2f} ± {found['spread']:.2f} ({len(found['test'])} seeds)"
            f"  {100 * found['mean'] / reference:.1f} % of the teacher"
        )
    return table


def row(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of one arm."""
    students = [record["models"][0] for record in records]
    mean, spread = mean_and_spread([100 * model["metrics"]["test"]["accuracy"] for model in students])
    return {
        "test": [100 * model["metrics"]["test"]["accuracy"] for model in students],
        "dev": [100 * model["metrics"]["dev"]["accuracy"] for model in students],
        "mean": mean,
        "spread": spread,
        "parameters": students[0]["parameters"],
        "train_seconds": [record["timings"]["train"] for record in records],
    }


if __name__ == "__main__":
    main()

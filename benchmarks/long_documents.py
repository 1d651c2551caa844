"""newsgroups: what to do with documents that are longer than the encoder reads, and the best of it distilled.

    python benchmarks/long_documents.py --data DATA --encoder FOLDER [--train-rows N] [--test-rows N] [--work runs/long]

An encoder is fine-tuned on newsgroups in every way of reading long texts, at 512 tokens (windowed: ``--max-length``),
with each seed. Accuracy is that on all test documents and on those over 512 tokens, seconds are those of training,
memory is the peak of the whole process. The best way by its mean on dev then teaches a BiLSTM, which
reads ``--max-length`` words, and a windowed student of half its layers. Runs are never redone: called again, the script
goes on. ``--train-rows`` and ``--test-rows`` draw fewer documents, where time is short.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from common import arguments, mean_and_spread, memory_file, run_recipe, write_result
from transformers import AutoTokenizer, PreTrainedTokenizerBase

SHORT = 512
WAYS = ("truncate", "head-tail", "chunks", "chunks-max", "windowed")


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--max-length", type=int, default=2048, help="tokens that the windowed encoder reads")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--train-rows", type=int)
    parser.add_argument("--test-rows", type=int)
    parser.add_argument("--no-distil", action="store_true")
    args = parser.parse_args()
    data = subset(args)
    tokenizer = AutoTokenizer.from_pretrained(args.encoder)
    long = {split: over(data / f"{split}.parquet", tokenizer) for split in ("train", "test")}
    ways = {}
    for way in args.ways:
        for seed in args.seeds:
            run_recipe(tune(args, data, way, seed), args.work / f"{way}-{seed}")
        found = [outcome(args.work / f"{way}-{seed}", long["test"], "tuned") for seed in args.seeds]
        ways[way] = {"runs": found, **means(found)}
        print(f"{way:<12}", {key: round(value[0], 4) for key, value in means(found).items()}, flush=True)
    best = max(ways, key=lambda way: ways[way]["dev"][0])
    result: dict[str, Any] = {
        "share_over_512": {split: round(float(flags.mean()), 4) for split, flags in long.items()},
        "rows": {split: len(flags) for split, flags in long.items()},
        "ways": ways,
        "best": best,
    }
    if not args.no_distil:
        result["students"] = distil(args, data, best, long["test"])
    settings = {"encoder": Path(args.encoder).name, "seeds": args.seeds, "max_length": args.max_length}
    settings.update(epochs=args.epochs, batch_size=args.batch_size, lr=args.lr)
    print(write_result("long_documents", settings, result))


def subset(args: argparse.Namespace) -> Path:
    """Return the data, or a folder with fewer of its rows, drawn at random."""
    source = args.data / "newsgroups"
    wanted = {"train": args.train_rows, "test": args.test_rows, "dev": args.test_rows}
    if not any(wanted.values()):
        return source
    folder = args.work / "rows"
    folder.mkdir(parents=True, exist_ok=True)
    for split, n in wanted.items():
        file = folder / f"{split}.parquet"
        if not file.exists():
            table = pq.read_table(source / f"{split}.parquet")
            order = np.random.default_rng(0).permutation(len(table))
            pq.write_table(table.take(np.sort(order[:n])), file)
    return folder


def over(file: Path, tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Return which texts have more tokens than the short limit."""
    texts = pq.read_table(file, columns=["text"])["text"].to_pylist()
    lengths = [len(ids) for ids in tokenizer(texts, verbose=False)["input_ids"]]
    return np.array(lengths) > SHORT


def training(args: argparse.Namespace, way: str, seed: int) -> dict[str, Any]:
    """Return the section ``[train]`` of a run."""
    length = args.max_length if way == "windowed" else SHORT
    sizes = {"epochs": args.epochs, "batch_size": args.batch_size, "lr": args.lr}
    return {**sizes, "max_length": length, "long": way, "seed": seed}


def tune(args: argparse.Namespace, data: Path, way: str, seed: int) -> dict[str, Any]:
    """Return the recipe of a fine-tuning."""
    return {
        "command": "finetune",
        "model": args.encoder,
        "data": {"path": str(data)},
        "method": {"name": "full"},
        "train": training(args, way, seed),
        "baseline": False,
    }


def distil(args: argparse.Namespace, data: Path, best: str, long: np.ndarray) -> dict[str, Any]:
    """Return the outcomes of the students that the best way's first run teaches."""
    teacher = str(args.work / f"{best}-{args.seeds[0]}")
    common = {"command": "distill", "teacher": {"bundles": [teacher]}, "data": {"path": str(data)}, "baseline": False}
    students = {
        "bilstm": {"method": {"name": "bilstm-soft"}, "train": {"max_length": args.max_length}},
        "half-windowed": {
            "method": {"name": "distilbert", "student": "half"},
            "train": training(args, "windowed", args.seeds[0]),
        },
    }
    for name, recipe in students.items():
        run_recipe({**common, **recipe}, args.work / name)
    return {name: outcome(args.work / name, long, "student") for name in students}


def outcome(out: Path, long: np.ndarray, role: str) -> dict[str, Any]:
    """Return what a run came to: accuracy on all and on long test documents, seconds, memory and speed."""
    record = json.loads((out / "record.json").read_text(encoding="utf-8"))
    said = pq.read_table(out / "predictions.parquet", columns=["label", role])
    right = np.array(said["label"].to_pylist()) == np.array(said[role].to_pylist())
    own = next(model for model in record["models"] if model["role"] == role)
    return {
        "dev": own["metrics"]["dev"]["accuracy"],
        "accuracy": float(right.mean()),
        "accuracy_long": float(right[long].mean()) if long.any() else None,
        "accuracy_short": float(right[~long].mean()) if (~long).any() else None,
        "seconds": record["timings"]["train"],
        "peak_gib": json.loads(memory_file(out).read_text(encoding="utf-8"))["peak_gib"],
        "texts_per_second": own["speed"]["texts_per_second"],
        "parameters": own["parameters"],
    }


def means(runs: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Return mean and spread of every figure over the seeds."""
    return {key: mean_and_spread([run[key] for run in runs]) for key in runs[0] if runs[0][key] is not None}


if __name__ == "__main__":
    main()

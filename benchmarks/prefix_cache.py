"""The frozen prefix: last 3 layers and head only, 10 epochs, with the cache, without it, and full fine-tuning.

    python benchmarks/prefix_cache.py --data DATA --encoder FOLDER [--rows 1000] [--work runs/prefix]

Five trainings of one encoder on the same rows of movie_reviews, in one run of this script. What is timed is all of a
training: the output of the frozen layers where that is stored, every step, the dev split after every epoch, and
checkpoints. Reading and tokenizing are left out, being the same for all.
"""

import shutil
import time
from pathlib import Path
from typing import Any

import torch
from common import arguments, cell, write_result
from torch import Tensor

from attar.config import DataConfig, TrainConfig
from attar.data.prepare import load_data
from attar.data.task import TaskData
from attar.methods.freezing.config import TRAIN
from attar.nets.anatomy import anatomy
from attar.nets.loading import load_for_task, load_tokenizer
from attar.objectives.task import task_loss
from attar.training.loop import run_stage
from attar.training.stage import OnLogits, Stage

#: Name of a training: layers that move (None for everything), whether the cache may be used, learning rate.
RUNS: dict[str, tuple[int | None, bool, float]] = {
    "last-3-cached": (3, True, 5e-5),
    "last-3": (3, False, 5e-5),
    "head-cached": (0, True, 1e-3),
    "head": (0, False, 1e-3),
    "full": (None, False, 2e-5),
}


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--encoder", required=True, help="pre-trained encoder, 12 layers for the figures that count")
    parser.add_argument("--rows", type=int, default=1000, help="labelled rows to learn from")
    parser.add_argument("--dev-rows", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--cache-limit", default="8GiB")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    data = load_data(DataConfig(path=str(args.data / "movie_reviews"), limit=args.rows))
    found = {name: cell(args.work / f"{name}.json", lambda name=name: train(args, data, name)) for name in RUNS}
    seconds = {name: run["seconds"] for name, run in found.items()}
    result = {
        **found,
        "last_3_speedup_by_cache": seconds["last-3"] / seconds["last-3-cached"],
        "last_3_speedup_over_full": seconds["full"] / seconds["last-3-cached"],
        "head_speedup_by_cache": seconds["head"] / seconds["head-cached"],
    }
    for name, run in found.items():
        print(f"{name:14} {run['seconds']:8.1f} s  dev accuracy {run['best']:.4f}")
    for name in ("last_3_speedup_by_cache", "last_3_speedup_over_full", "head_speedup_by_cache"):
        print(f"{name}: {result[name]:.2f}x")
    settings = {
        "encoder": Path(args.encoder).name,
        "rows": len(data.train),
        "dev_rows": min(args.dev_rows, len(data.dev)),
        "epochs": args.epochs,
        "batch_size": TRAIN.batch_size,
        "threads": torch.get_num_threads(),
    }
    print(write_result("prefix_cache", settings, result))


def train(args: Any, data: TaskData, name: str) -> dict[str, Any]:
    """Train one way from a fresh encoder and head; return seconds, dev accuracy and what was said of the cache."""
    layers, cached, lr = RUNS[name]
    torch.manual_seed(0)
    model = load_for_task(args.encoder, data.task.kind, data.task.labels)
    if layers is not None:
        parts = anatomy(model)
        parts.base.requires_grad_(False)
        for module in (*list(parts.layers)[len(parts.layers) - layers :], *parts.top):
            module.requires_grad_(True)

    def loss(logits: Tensor, batch: Any) -> dict[str, Tensor]:
        return {"loss": task_loss(logits, batch["labels"], data.task.kind)}

    limit = args.cache_limit if cached else "0"
    stage = Stage(
        name=name,
        model=model,
        tokenizer=load_tokenizer(args.encoder),
        objective=OnLogits(loss),
        train=TrainConfig(epochs=args.epochs, lr=lr, batch_size=TRAIN.batch_size, cache_limit=limit),
        task=data.task,
        learn=[(data.train, True)],
        dev=data.dev.select(range(min(args.dev_rows, len(data.dev)))),
    )
    folder = args.work / "checkpoints" / name
    shutil.rmtree(folder, ignore_errors=True)
    start = time.perf_counter()
    found = run_stage(stage, folder, title=name)
    shutil.rmtree(folder)
    return {
        "seconds": found["seconds"],
        "with_tokenizing": round(time.perf_counter() - start, 2),
        "best": found["best"],
        "moving_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "notes": stage.notes,
    }


if __name__ == "__main__":
    main()

"""LoRA by attar against LoRA by the peft library in a plain Trainer: time and quality of the same task.

    python benchmarks/peft_lora.py --data DATA --encoder MINILM [--rows 2000] [--work runs/lora]

Both train rank 8 on queries and values of movie_reviews, on the same rows, for the same epochs, at the same rate and
batch size, with the same schedule. The rival is what peft's tutorials show: get_peft_model, the tokenizer's
DataCollatorWithPadding, and else the Trainer's defaults (float32, batches in random order). Ours adds batches of nearly
one length and, where the hardware has it, bfloat16. The runs are repeated in turn (``--repeats``), each with its own
seed; the ratio is that of the medians, quality is accuracy on test. Ours also scores 200 dev texts after every epoch
and keeps its best one; the rival scores none and keeps its last.
"""

import dataclasses
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, cell, mean_and_spread, write_result
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from attar.config import DataConfig
from attar.data.prepare import load_data
from attar.data.task import TaskData
from attar.methods.contract import Context
from attar.methods.lora.config import TRAIN, Lora
from attar.methods.registry import plan_of
from attar.nets.hardware import pick_device
from attar.training.evaluation import eval_split
from attar.training.loop import run_stage

MAX_LENGTH = 128
#: Ours chooses its best epoch by these, and pays for it.
DEV_ROWS = 200


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=8, help="for both; the Trainer's default")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, with seeds from 0")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    data = load_data(DataConfig(path=str(args.data / "movie_reviews"), limit=args.rows))
    found: dict[str, list[dict[str, Any]]] = {"attar": [], "peft": []}
    for seed in range(args.repeats):
        for name, train in (("attar", train_ours), ("peft", train_peft)):
            run = cell(args.work / f"{name}-{seed}.json", lambda t=train, s=seed: t(args, data, s))
            found[name].append(run)
            print(f"{name:<6} seed {seed}: {run['seconds']:.1f} s, accuracy {run['accuracy']:.4f}", flush=True)
    medians = {name: statistics.median(run["seconds"] for run in runs) for name, runs in found.items()}
    quality = {name: mean_and_spread([100 * run["accuracy"] for run in runs]) for name, runs in found.items()}
    result = {"runs": found, "seconds": medians, "ratio": medians["attar"] / medians["peft"], "accuracy": quality}
    print(f"ours takes {result['ratio']:.2f} of the time; accuracy (mean, spread) {quality}")
    settings = {
        "rows": len(data.train),
        "epochs": args.epochs,
        "batch_size": args.batch_size,
        "lr": TRAIN.lr,
        "encoder": Path(args.encoder).name,
    }
    print(write_result("peft_lora", settings, result))


def train_ours(args: Any, data: TaskData, seed: int) -> dict[str, Any]:
    """Train by attar's loop."""
    same = {"head_lr_factor": 1.0, "weight_decay": 0.0, "max_length": MAX_LENGTH}  # as the other trains
    train = dataclasses.replace(TRAIN, epochs=args.epochs, batch_size=args.batch_size, seed=seed, **same)
    context = Context(
        data=dataclasses.replace(data, dev=data.dev.select(range(DEV_ROWS))), train=train, encoder=args.encoder
    )
    stage = plan_of(Lora())(context)[0]
    folder = args.work / f"attar-{seed}-{time.time_ns()}"
    seconds = run_stage(stage, folder, title="attar")["seconds"]
    return {"seconds": seconds, "accuracy": accuracy(stage.model, stage.tokenizer, data)}


def train_peft(args: Any, data: TaskData, seed: int) -> dict[str, Any]:
    """Train a PeftModel by the Trainer with its defaults."""
    from peft import LoraConfig, TaskType, get_peft_model

    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(args.encoder)
    model = AutoModelForSequenceClassification.from_pretrained(args.encoder, num_labels=data.task.n_outputs)
    targets = ["query", "value"] if any(".query" in name for name, _ in model.named_modules()) else ["q", "v"]
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=8, lora_alpha=16, lora_dropout=0.0, target_modules=targets)
    rows = data.train.map(
        lambda batch: {**tokenizer(batch["text"], truncation=True, max_length=MAX_LENGTH), "labels": batch["label"]},
        batched=True,
        remove_columns=data.train.column_names,
    )
    settings = TrainingArguments(
        output_dir=str(args.work / "peft"),
        num_train_epochs=args.epochs,
        per_device_train_batch_size=args.batch_size,
        learning_rate=TRAIN.lr,
        warmup_steps=TRAIN.warmup,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=pick_device().type == "cpu",
        logging_steps=1000,
        seed=seed,
    )
    trainer = Trainer(
        model=get_peft_model(model, config),
        args=settings,
        train_dataset=rows,
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "accuracy": accuracy(trainer.model, tokenizer, data)}


def accuracy(model: Any, tokenizer: Any, data: TaskData) -> float:
    """Return the share of test texts with the right label."""
    assert data.test is not None
    split = eval_split(data.test, tokenizer, MAX_LENGTH, data.task)
    return float(np.mean(split.outputs(model, "float32").logits.argmax(-1) == split.labels))


if __name__ == "__main__":
    main()

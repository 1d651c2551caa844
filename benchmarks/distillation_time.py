"""Time of a logit distillation, teacher scoring included, against a Trainer that runs the teacher online.

    python benchmarks/distillation_time.py --data DATA --teacher BUNDLE --student ENCODER [--work runs/time]

Three ways to the same student, 5 epochs of movie_reviews, KL at T = 2, in one run of this script:

ours     ``attar distill --method logits`` from an empty cache, whole run; with ``--export``, the teacher's answers are
         those of an export of it, whose own making is timed apart, being done once a teacher
plain    transformers.Trainer, default settings (batch 8, float32), padded to 128, teacher online
careful  the same with batches of 32 grouped by length, padded to their longest, best native precision

Ours runs to its end, on all rows or on ``--rows`` of them. The two rivals are timed on a stated number of steps and
extrapolated to all steps of the same rows; of dev, which only ours scores, the same fraction is kept. Quality is
compared on equal terms on fewer rows (``--quality-rows``), where the careful rival runs to its end too.
"""

import dataclasses
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from common import arguments, cell, write_result
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

import attar
from attar.config import DataConfig
from attar.data.prepare import load_data
from attar.data.task import TaskData
from attar.evaluate import evaluate_bundle
from attar.exporting.formats import ENGINES
from attar.nets.hardware import pick_device, resolve_precision
from attar.objectives.logits import kl_divergence
from attar.records import read_record

EPOCHS = 5
LR = 5e-5


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--student", required=True, help="pre-trained encoder")
    parser.add_argument("--rows", type=int, help="labelled rows, a fraction that is stated (default: all)")
    parser.add_argument("--export", choices=list(ENGINES), help="format of the teacher's export that answers for it")
    parser.add_argument("--plain-steps", type=int, default=30, help="timed steps of 8 texts")
    parser.add_argument("--careful-steps", type=int, default=50, help="timed steps of 32 texts")
    parser.add_argument("--quality-rows", type=int, default=1000)
    parser.add_argument("--quality-epochs", type=int, default=2)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    whole = load_data(DataConfig(path=str(args.data / "movie_reviews")))
    share = (args.rows or len(whole.train)) / len(whole.train)
    data = load_data(DataConfig(path=str(args.data / "movie_reviews"), limit=args.rows))
    data = dataclasses.replace(data, dev=whole.dev.shuffle(seed=0).select(range(round(share * len(whole.dev)))))
    ours = cell(args.work / "ours.json", lambda: time_ours(args, write_part(args.work / "rows", data)))
    plain = cell(args.work / "plain.json", lambda: time_rival(args, data, careful=False))
    careful = cell(args.work / "careful.json", lambda: time_rival(args, data, careful=True))
    quality = cell(args.work / "quality.json", lambda: compare_quality(args, data))
    result = {
        "ours": ours,
        "plain": plain,
        "careful": careful,
        "quality": quality,
        "speedup_over_plain": plain["seconds"] / ours["seconds"],
        "speedup_over_careful": careful["seconds"] / ours["seconds"],
    }
    # An export is made once, so that a fraction of the rows bears the same fraction of it.
    spent = ours["seconds"] + share * ours["export_seconds"]
    result["speedups_with_making_the_export"] = [plain["seconds"] / spent, careful["seconds"] / spent]
    print(f"ours {ours['seconds']:.0f} s (accuracy {ours['accuracy']:.4f})")
    print(f"plain {plain['seconds']:.0f} s, extrapolated: {result['speedup_over_plain']:.1f}x")
    print(f"careful {careful['seconds']:.0f} s, extrapolated: {result['speedup_over_careful']:.2f}x")
    told = ", ".join(f"{ratio:.2f}x" for ratio in result["speedups_with_making_the_export"])
    print(f"with {share:.2f} of the {ours['export_seconds']:.0f} s that the export took: {told}")
    print(f"quality on {args.quality_rows} rows: {quality}")
    settings = {
        "epochs": EPOCHS,
        "lr": LR,
        "rows": len(data.train),
        "teacher": Path(args.teacher).name,
        "student": Path(args.student).name,
        "export": args.export,
    }
    print(write_result("distillation_time", settings, result))


def time_ours(args: Any, files: Path) -> dict[str, Any]:
    """Run ours from an empty cache; its time is reading, scoring of the training texts, and training."""
    import os

    os.environ["ATTAR_CACHE"] = str(args.work / "cache-ours")
    start = time.perf_counter()
    teacher = attar.TeacherConfig(bundles=(args.teacher,), exports=made_export(args))
    exported = time.perf_counter() - start
    out = args.work / "ours"
    attar.distill(
        teacher,
        data=str(files),
        method=attar.Logits(student=args.student),
        train={"epochs": EPOCHS, "lr": LR},
        baseline=False,
        out=str(out),
        overwrite=True,
    )
    record = read_record(out)
    seconds = record["timings"]["train"] + record["timings"]["read"]
    test = record["models"][0]["metrics"]["test"]["accuracy"]
    whole_run = time.perf_counter() - start
    return {"seconds": seconds, "export_seconds": exported, "whole_run_seconds": whole_run, "accuracy": test}


def made_export(args: Any) -> tuple[str, ...]:
    """Export the teacher as ``--export`` says, anew; nothing without it."""
    if args.export is None:
        return ()
    out = str(args.work / "teacher-export")
    attar.export(args.teacher, out, format=args.export, data=str(args.data / "movie_reviews"), overwrite=True)
    return (out,)


def time_rival(args: Any, data: TaskData, *, careful: bool) -> dict[str, Any]:
    """Time some steps of a rival and extrapolate to all epochs."""
    steps = args.careful_steps if careful else args.plain_steps
    trainer = rival(args, data.train, careful=careful, folder=args.work / "rival", max_steps=steps)
    trainer.train()
    seconds = trainer.clock.seconds[3:]  # the first steps warm up
    batch = trainer.args.per_device_train_batch_size
    total = EPOCHS * len(data.train) / batch
    # Lengths differ between batches, so the mean is what adds up to the whole; the median is given beside it.
    mean = statistics.mean(seconds)
    return {
        "seconds": mean * total,
        "timed_steps": len(seconds),
        "batch": batch,
        "mean_step": mean,
        "median_step": statistics.median(seconds),
        "all_steps": total,
    }


def compare_quality(args: Any, data: TaskData) -> dict[str, Any]:
    """Train ours and the careful rival on the same rows for as many epochs; return both test accuracies."""
    config = DataConfig(path=str(args.data / "movie_reviews"), limit=args.quality_rows)
    part = load_data(config)
    out = args.work / "quality-ours"
    alone = {"epochs": args.quality_epochs, "lr": LR}
    files = write_part(args.work / "part", part)
    attar.distill(
        attar.TeacherConfig(
            bundles=(args.teacher,), exports=(str(args.work / "teacher-export"),) if args.export else ()
        ),
        data=str(files),
        method=attar.Logits(student=args.student),
        train=alone,
        baseline=False,
        out=str(out),
        overwrite=True,
    )
    trainer = rival(args, part.train, careful=True, folder=args.work / "rival", epochs=args.quality_epochs)
    trainer.train()
    trainer.save_model(str(args.work / "quality-rival"))
    trainer.processing_class.save_pretrained(args.work / "quality-rival")
    test = DataConfig(path=str(args.data / "movie_reviews"))
    ours, theirs = (evaluate_bundle(str(args.work / name), test) for name in ("quality-ours", "quality-rival"))
    return {"ours": ours["metrics"]["accuracy"], "careful": theirs["metrics"]["accuracy"], "rows": len(part.train)}


def write_part(folder: Path, part: TaskData) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, split in (("train", part.train), ("dev", part.dev), ("test", part.test)):
        names = [part.task.labels[i] for i in split["label"]]
        Dataset.from_dict({"text": split["text"], "label": names}).to_parquet(folder / f"{name}.parquet")
    return folder


def rival(args: Any, train: Dataset, *, careful: bool, folder: Path, max_steps: int = -1, epochs: int = EPOCHS) -> Any:
    """Return a Trainer that runs the teacher on every batch, as tutorials show it."""
    tokenizer = AutoTokenizer.from_pretrained(args.student)
    teacher_tokenizer = AutoTokenizer.from_pretrained(args.teacher)
    same = tokenizer.backend_tokenizer.to_str() == teacher_tokenizer.backend_tokenizer.to_str()
    padding = False if careful else "max_length"

    def encode(batch: dict[str, list]) -> dict[str, list]:
        found = dict(tokenizer(batch["text"], truncation=True, max_length=128, padding=padding))
        if not same:
            other = teacher_tokenizer(batch["text"], truncation=True, max_length=128, padding=padding)
            found.update({f"teacher_{name}": values for name, values in other.items()})
        return {**found, "length": [len(ids) for ids in found["input_ids"]], "labels": batch["label"]}

    rows = train.map(encode, batched=True, remove_columns=train.column_names)
    names = {"id2label": {0: "negative", 1: "positive"}, "label2id": {"negative": 0, "positive": 1}}
    student = AutoModelForSequenceClassification.from_pretrained(args.student, num_labels=2, **names)
    teacher = AutoModelForSequenceClassification.from_pretrained(args.teacher).eval()
    careful_settings: dict[str, Any] = {
        "per_device_train_batch_size": 32,
        "train_sampling_strategy": "group_by_length",
        "bf16": resolve_precision(pick_device(), "auto") == "bfloat16",
        "warmup_steps": 0.1,
    }
    settings = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=epochs,
        max_steps=max_steps,
        learning_rate=LR,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=pick_device().type == "cpu",
        remove_unused_columns=False,
        logging_steps=1000,
        **(careful_settings if careful else {}),
    )
    trainer = OnlineTrainer(
        model=student, args=settings, train_dataset=rows, data_collator=PairCollator(tokenizer, teacher_tokenizer)
    )
    trainer.processing_class = tokenizer
    trainer.teacher = teacher.to(pick_device())
    trainer.clock = Clock()
    trainer.add_callback(trainer.clock)
    trainer.remove_callback(PrinterCallback)
    return trainer


class PairCollator:
    """Pad the student's inputs and, under their prefix, the teacher's."""

    def __init__(self, student: Any, teacher: Any) -> None:
        self.student, self.teacher = DataCollatorWithPadding(student), DataCollatorWithPadding(teacher)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        own = [{k: v for k, v in row.items() if not k.startswith("teacher_") and k != "length"} for row in rows]
        other = [{k[8:]: v for k, v in row.items() if k.startswith("teacher_")} for row in rows]
        batch = dict(self.student(own))
        if other[0]:
            batch.update({f"teacher_{k}": v for k, v in self.teacher(other).items()})
        return batch


class OnlineTrainer(Trainer):
    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        inputs.pop("labels")
        own = {k: v for k, v in inputs.items() if not k.startswith("teacher_")}
        other = {k[8:]: v for k, v in inputs.items() if k.startswith("teacher_")} or own
        if "token_type_ids" not in self.teacher.forward.__code__.co_varnames:
            other = {k: v for k, v in other.items() if k != "token_type_ids"}
        with torch.no_grad():
            targets = self.teacher(**other).logits
        return kl_divergence(model(**own).logits, targets, temperature=2.0)


class Clock(TrainerCallback):
    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._last = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.perf_counter() - self._last)


if __name__ == "__main__":
    main()

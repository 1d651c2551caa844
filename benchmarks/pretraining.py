"""DistilBERT's pre-training: the curves of its losses, and tokens a second against a plain loop.

    python benchmarks/pretraining.py --data DATA --teacher ENCODER --work runs/pretraining [--max-length 128]

``ENCODER`` has a head for masked words; ``attar pretrain --method mlm-head`` trains one where it has none. One run of
this script trains two loops on the same documents, cut into the same windows, from the same first weights:

ours   ``attar pretrain --method distilbert``: batches of nearly one length, logits where a loss reads them
plain  transformers.Trainer with its collator for masked words, random batches padded to their longest, the teacher
       run online beside it, the same three losses on the whole of both outputs

Each is timed over the same number of steps of as many windows; real tokens a second count no padding. The plain loop
draws words alike, as its collator does; the curves are of ours. A finished cell is never redone.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import arguments, cell, write_result
from transformers import (
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from attar.config import TextConfig
from attar.data.corpus import Corpus, open_documents, read_corpus, write_corpus
from attar.methods.contract import PretrainContext
from attar.methods.distilbert.pretrain import build_student, plan
from attar.nets.anatomy import anatomy
from attar.nets.hardware import pick_device, resolve_precision
from attar.nets.loading import require_masked_lm
from attar.nets.surgery import every_other_layer
from attar.objectives.hidden import hidden_cosine
from attar.objectives.logits import kl_divergence
from attar.pretraining import pretrain
from attar.recipe import config_of
from attar.records import read_record
from attar.training.loop import run_stage

LR = 5e-4
WARM_UP = 3


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--teacher", required=True, help="encoder with a head for masked words")
    parser.add_argument("--dataset", default="movie_reviews", help="folder of DATA whose train split is the text")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=3, help="of the run whose curves are shown")
    parser.add_argument("--steps", type=int, default=40, help="timed steps of each loop, after 3 that warm up")
    parser.add_argument("--name", default="pretraining", help="name of the result file")
    args = parser.parse_args()
    curves = cell(args.work / "curves.json", lambda: train_ours(args))
    corpus = shared_corpus(args)
    ours = cell(args.work / "ours.json", lambda: time_ours(args, corpus))
    plain = cell(args.work / "plain.json", lambda: time_plain(args, corpus))
    result = {
        "curves": curves,
        "ours": ours,
        "plain": plain,
        "speedup": ours["tokens_per_second"] / plain["tokens_per_second"],
        "speedup_in_cpu_time": (plain["cpu_seconds"] / plain["tokens"]) / (ours["cpu_seconds"] / ours["tokens"]),
    }
    for point in curves["curve"]:
        if "dev_loss" in point:
            print({name: round(value, 4) for name, value in point.items()})
    print(f"ours  {ours['tokens_per_second']:,.0f} real tokens a second")
    print(f"plain {plain['tokens_per_second']:,.0f} real tokens a second: {result['speedup']:.2f}x")
    print(f"processor time a token: {result['speedup_in_cpu_time']:.2f}x less")
    settings = {
        "teacher": Path(args.teacher).name,
        "text": args.dataset,
        "max_length": args.max_length,
        "batch_size": args.batch_size,
        "epochs": args.epochs,
    }
    print(write_result(args.name, settings, result))


def text_config(args: argparse.Namespace) -> TextConfig:
    return TextConfig(paths=(str(args.data / args.dataset),))


def recipe(args: argparse.Namespace, out: str, **train: Any) -> dict[str, Any]:
    return {
        "command": "pretrain",
        "out": str(args.work / out),
        "teacher": args.teacher,
        "text": {"paths": list(text_config(args).paths)},
        "train": {"max_length": args.max_length, "batch_size": args.batch_size, "accumulation": 1, "lr": LR, **train},
    }


def train_ours(args: argparse.Namespace) -> dict[str, Any]:
    """Run ours to its end; return the curves of the losses and what was trained on."""
    pretrain(config_of(recipe(args, "student", epochs=args.epochs)), resume=True)
    record = read_record(args.work / "student")
    stage = record["stages"][0]
    data = {**record["data"], "source": Path(record["data"]["source"]).name}  # not where this machine has it
    return {"curve": stage["curve"], "seconds": stage["seconds"], "data": data}


def shared_corpus(args: argparse.Namespace) -> Corpus:
    folder = args.work / "corpus"
    tokenizer = AutoTokenizer.from_pretrained(args.teacher)
    if not folder.exists():
        config = text_config(args)
        write_corpus(open_documents(config), config, tokenizer, args.max_length, folder)
    return read_corpus(folder, tokenizer.pad_token_id or 0)


def time_ours(args: argparse.Namespace, corpus: Corpus) -> dict[str, Any]:
    """Time steps of our stage, from one call of its objective to the next: batch, forward, backward and update."""
    config = config_of(recipe(args, "timed", max_steps=WARM_UP + args.steps + 1))
    (stage,) = plan(config.method, PretrainContext(teacher=args.teacher, train=config.train, corpus=lambda _: corpus))
    inner, clock = stage.objective, Clock()

    def timed(model: Any, batch: Any) -> Any:
        if torch.is_grad_enabled():  # the dev split is no part of a step
            clock.tick(batch)
        return inner(model, batch)

    stage.objective = timed
    run_stage(stage, args.work / "checkpoints-ours", title="ours")
    return clock.rate()


def time_plain(args: argparse.Namespace, corpus: Corpus) -> dict[str, Any]:
    """Time steps of a Trainer with the collator for masked words and the teacher beside it."""
    tokenizer = AutoTokenizer.from_pretrained(args.teacher)
    teacher = require_masked_lm(args.teacher).eval().requires_grad_(False)
    torch.manual_seed(0)
    student = build_student(teacher, every_other_layer(len(anatomy(teacher).layers)), "teacher")
    settings = TrainingArguments(
        output_dir=str(args.work / "checkpoints-plain"),
        per_device_train_batch_size=args.batch_size,
        max_steps=WARM_UP + args.steps + 1,
        learning_rate=LR,
        bf16=resolve_precision(pick_device(), "auto") == "bfloat16",
        use_cpu=pick_device().type == "cpu",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    trainer = PlainTrainer(
        model=student,
        args=settings,
        train_dataset=Windows(corpus),
        data_collator=DataCollatorForLanguageModeling(tokenizer),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.teacher, trainer.clock = teacher.to(pick_device()), Clock()
    trainer.train()
    return trainer.clock.rate()


class Clock:
    """Seconds and real tokens of every step but the first few, which warm up."""

    def __init__(self) -> None:
        self.starts: list[float] = []
        self.cpu: list[float] = []
        self.tokens: list[int] = []

    def tick(self, batch: Any) -> None:
        self.tokens.append(int(batch["attention_mask"].sum()))  # waits for a GPU
        self.starts.append(time.perf_counter())
        self.cpu.append(time.process_time())

    def rate(self) -> dict[str, Any]:
        seconds = self.starts[-1] - self.starts[WARM_UP]
        tokens = sum(self.tokens[WARM_UP:-1])
        steps = len(self.starts) - 1 - WARM_UP
        return {
            "tokens_per_second": tokens / seconds,
            "tokens": tokens,
            "seconds": seconds,
            "cpu_seconds": self.cpu[-1] - self.cpu[WARM_UP],  # what to compare where others use the machine too
            "steps": steps,
        }


class Windows(torch.utils.data.Dataset):
    """The windows one by one, as a Trainer wants them."""

    def __init__(self, corpus: Corpus) -> None:
        self.encoded = corpus.train

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"input_ids": self.encoded.batch([row])["input_ids"][0].tolist()}


class PlainTrainer(Trainer):
    """The three losses on the whole of both outputs, as tutorials write them."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        self.clock.tick(inputs)
        labels = inputs.pop("labels")
        own = model(**inputs, output_hidden_states=True)
        with torch.no_grad():
            whole = self.teacher(**inputs, output_hidden_states=True)
        real = inputs["attention_mask"].bool()
        soft = kl_divergence(own.logits[real].float(), whole.logits[real].float(), temperature=2.0)
        hard = F.cross_entropy(own.logits.float().flatten(0, 1), labels.flatten())
        cosine = hidden_cosine(own.hidden_states[-1].float(), whole.hidden_states[-1].float(), real)
        return 5 * soft + 2 * hard + cosine


if __name__ == "__main__":
    main()

"""Speed from raw text to label: a BiLSTM student, its teacher, and a BERT-large-shaped encoder, in one run.

    python benchmarks/speed.py --data DATA --student BUNDLE --teacher BUNDLE [--work runs/speed]

All models run through the same predictor in PyTorch: at batch 1, and at the best of several batch sizes of their own,
in float32 and in the best precision that the machine has natively. BERT-large (24 x 1024) has random weights, which
cost the same time. Models take turns, so that a drift of the machine's speed meets all of them; medians are reported.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import arguments, random_bert, write_result

from attar.bundle import load_bundle
from attar.data.encoding import encode_texts
from attar.data.readers import read_splits
from attar.inference.predictor import Predictor
from attar.nets import scoring
from attar.nets.hardware import pick_device, resolve_precision
from attar.nets.parameters import count_parameters

TOKEN_BUDGETS = (512, 1024, 2048, 4096, 8192, 16384)
ROUNDS = 5


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--student", required=True)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--dataset", default="movie_reviews")
    parser.add_argument("--tokenizer", help="BERT tokenizer for the BERT-large shape (default: the teacher's)")
    args = parser.parse_args()
    splits = read_splits(str(args.data / args.dataset))
    texts = splits["test"]["text"][:]
    large = bert_large(args.work / "bert-large-shape", args.tokenizer or args.teacher)
    paths = {"student": args.student, "teacher": args.teacher, "bert-large": str(large)}
    precisions = dict.fromkeys(["float32", resolve_precision(pick_device(), "auto")])
    found = {precision: measure(paths, texts, precision) for precision in precisions}
    print(f"\n{write_result('speed', vars_of(args), found)}")


def measure(paths: dict[str, str], texts: list[str], precision: str) -> dict[str, Any]:
    models = {name: Predictor(replace(load_bundle(path), precision=precision)) for name, path in paths.items()}
    # As many texts as each model reads in about two seconds.
    counts = {name: fitting(model, texts, 2.0) for name, model in models.items()}
    budgets = {name: best_budget(model, texts[: counts[name]]) for name, model in models.items()}
    batches: dict[str, list[float]] = {name: [] for name in models}
    singles: dict[str, list[float]] = {name: [] for name in models}
    tokenizing: dict[str, list[float]] = {name: [] for name in models}
    for round_ in range(ROUNDS):
        for name, model in models.items():
            set_budget(budgets[name])
            some = texts[: counts[name]]
            batches[name].append(len(some) / timed(lambda m=model, s=some: m.predict(s)))
            tokenizing[name].append(len(some) / timed(lambda m=model, s=some: tokenize(m, s)))
            ones = texts[round_ * 10 : round_ * 10 + 10]
            singles[name] += [timed(lambda m=model, t=text: m.predict([t])) for text in ones]
    found: dict[str, Any] = {}
    for name, model in models.items():
        total, without = count_parameters(model.bundle.model)
        found[name] = {
            "texts_per_second": statistics.median(batches[name]),
            "ms_per_text": 1000 * statistics.median(singles[name]),
            "tokenizer_texts_per_second": statistics.median(tokenizing[name]),
            "tokens_per_batch": budgets[name],
            "texts": counts[name],
            "parameters": total,
            "parameters_without_embeddings": without,
        }
    show(found, precision)
    return found


def show(found: dict[str, Any], precision: str) -> None:
    student = found["student"]
    print(f"\n{precision}, {torch.get_num_threads()} threads")
    for name, row in found.items():
        many = student["texts_per_second"] / row["texts_per_second"]
        one = row["ms_per_text"] / student["ms_per_text"]
        row["student_speedup_best_batch"], row["student_speedup_batch_1"] = many, one
        print(
            f"  {name:<11} {row['texts_per_second']:>9.1f} texts/s  {row['ms_per_text']:>8.2f} ms/text   "
            f"student is {many:.1f}x / {one:.1f}x faster   tokenizer alone {row['tokenizer_texts_per_second']:.0f}/s"
        )


def bert_large(folder: Path, tokenizer: str) -> Path:
    return random_bert(
        folder,
        tokenizer,
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
    )


def tokenize(model: Predictor, texts: list[str]) -> None:
    encode_texts(texts, None, model.bundle.tokenizer, model.bundle.max_length)


def set_budget(tokens: int) -> None:
    scoring.TOKENS_PER_BATCH[pick_device().type] = tokens


def best_budget(model: Predictor, texts: list[str]) -> int:
    """Return the fastest; engines prepare themselves for shapes that are new, so the three fastest are timed again."""

    def seconds(budget: int) -> float:
        set_budget(budget)
        return timed(lambda: model.predict(texts))

    return min(sorted(TOKEN_BUDGETS, key=seconds)[:3], key=seconds)


def fitting(model: Predictor, texts: list[str], seconds: float) -> int:
    model.predict(texts[:4])
    n = 8
    while n < len(texts) and (spent := timed(lambda n=n: model.predict(texts[:n]))) < seconds / 2:
        n = min(len(texts), max(n + 1, int(n * min(4.0, seconds / max(spent, 1e-3)))))
    return n


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    if pick_device().type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def vars_of(args: Any) -> dict[str, Any]:
    names = {"student": Path(args.student).name, "teacher": Path(args.teacher).name}
    return {**names, "dataset": args.dataset, "rounds": ROUNDS, "token_budgets": list(TOKEN_BUDGETS)}


if __name__ == "__main__":
    main()

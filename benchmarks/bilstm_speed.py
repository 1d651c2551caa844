"""Speed of the folded BiLSTM against a BERT-large-shaped encoder, from raw text, in one engine and one precision.

    python benchmarks/bilstm_speed.py --data DATA --student BUNDLE --tokenizer BERT [--int8] [--work runs/bilstm-speed]

The student is exported with its input projection folded into its table (float32 and float16), the encoder (24 x 1024,
random weights, which cost the same time) as ONNX in float32, with --int8 also in 8 bits, and runs in PyTorch float32
too. Each runs at the best of several batch sizes of its own, with the same threads. Models take turns, so that a drift
of the machine's speed meets all of them; medians are reported, and what the tokenizers cost.
"""

import statistics
from pathlib import Path
from typing import Any

import torch
from common import arguments, cell, write_result
from speed import ROUNDS, TOKEN_BUDGETS, bert_large, best_budget, fitting, set_budget, timed, tokenize

from attar.data.readers import read_splits
from attar.exporting.export import export_bundle
from attar.inference.predictor import Predictor, load

#: Seconds a model reads texts for in one round.
SECONDS = 4.0
#: Times that it reads them in one round.
REPEATS = 3


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--student", required=True, help="bundle of a BiLSTM")
    parser.add_argument("--tokenizer", required=True, help="folder with a BERT tokenizer, for the BERT-large shape")
    parser.add_argument("--dataset", default="movie_reviews")
    parser.add_argument("--int8", action="store_true", help="also both in 8 bits")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    splits = read_splits(str(args.data / args.dataset))
    texts = [*splits["test"]["text"][:], *splits["train"]["text"][:]]  # a test split alone lasts a BiLSTM 0.2 s
    large = str(bert_large(args.work / "bert-large-shape", args.tokenizer))
    few = args.work / "few.txt"
    few.write_text("\n".join(texts[:8]), encoding="utf-8")
    models = {"bert-large torch float32": load(large)}
    for kind in ("onnx", *(["onnx-int8"] if args.int8 else [])):
        models[f"bert-large {kind}"] = exported(args.work, large, kind, str(few))
        models[f"student {kind}"] = exported(args.work, args.student, kind, str(few))
    models["student onnx float16 table"] = exported(args.work, args.student, "onnx", str(few), table="float16")
    found = take_turns(models, texts, args.rounds)
    rates = {name: row["texts_per_second"] for name, row in found.items()}
    ratios = {
        "onnx": rates["student onnx"] / rates["bert-large onnx"],
        "onnx, float16 table": rates["student onnx float16 table"] / rates["bert-large onnx"],
        "default torch float32": rates["student onnx"] / rates["bert-large torch float32"],
    }
    if args.int8:
        ratios["onnx-int8"] = rates["student onnx-int8"] / rates["bert-large onnx-int8"]
    row = found["student onnx"]
    share = row["texts_per_second"] / row["tokenizer_texts_per_second"]
    for name, ratio in ratios.items():
        print(f"student over BERT-large, {name}: {ratio:.0f}x")
    print(f"the tokenizer takes {100 * share:.0f} % of the student's time")
    result = {"models": found, "ratios": ratios, "tokenizer_share": share}
    settings = {"student": Path(args.student).name, "dataset": args.dataset, "rounds": args.rounds}
    settings |= {"threads": torch.get_num_threads(), "token_budgets": list(TOKEN_BUDGETS)}
    print(write_result("bilstm_speed", settings, result))


def exported(work: Path, source: str, kind: str, data: str, **settings: Any) -> Predictor:
    """Export once. The gate is open: random weights decide nothing; what counts here is time."""
    name = "-".join([Path(source).name, kind, *settings.values()])
    out = work / name
    cell(
        work / f"{name}.json",
        lambda: export_bundle(source, str(out), format=kind, data=data, tolerance=100, **settings),
    )
    return load(str(out))


def take_turns(models: dict[str, Predictor], texts: list[str], rounds: int) -> dict[str, dict[str, Any]]:
    """Return texts a second, milliseconds at batch 1 and the tokenizer's texts a second of every model."""
    counts = {name: fitting(model, texts, SECONDS) for name, model in models.items()}
    budgets = {name: best_budget(model, texts[: counts[name]]) for name, model in models.items()}
    found: dict[str, dict[str, list[float]]] = {name: {"many": [], "one": [], "tokenizer": []} for name in models}
    for round_ in range(rounds):
        for name, model in models.items():
            set_budget(budgets[name])
            some, times = texts[: counts[name]], found[name]
            model.predict(some[: max(8, len(some) // 4)])  # what the model before left in the caches is gone
            times["many"] += [len(some) / timed(lambda m=model, s=some: m.predict(s)) for _ in range(REPEATS)]
            times["tokenizer"].append(len(some) / timed(lambda m=model, s=some: tokenize(m, s)))
            ones = texts[round_ * 10 : round_ * 10 + 10]
            times["one"] += [timed(lambda m=model, t=text: m.predict([t])) for text in ones]
    rows = {}
    for name, times in found.items():
        rows[name] = {
            "texts_per_second": statistics.median(times["many"]),
            "spread": [min(times["many"]), max(times["many"])],
            "ms_per_text": 1000 * statistics.median(times["one"]),
            "tokenizer_texts_per_second": statistics.median(times["tokenizer"]),
            "tokens_per_batch": budgets[name],
            "texts": counts[name],
            "engine": models[name].engine.name,
        }
        print(f"{name:<28} {rows[name]['texts_per_second']:>9.1f} texts/s {rows[name]['ms_per_text']:>9.2f} ms/text")
    return rows


if __name__ == "__main__":
    main()

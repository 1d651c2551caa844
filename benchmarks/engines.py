"""From raw text to label: exported engines against transformers.pipeline, batch 1 and batch 32, at equal accuracy.

    python benchmarks/engines.py --data DATA --teacher BUNDLE [--texts 500] [--work runs/engines]

The rival is pipeline("text-classification", model=BUNDLE) as its documentation shows it, in its default precision, one
text a call and with batch_size=32. Ours is every export that passes the gate on the dev split, at batch 1 and at the
best of several batch sizes. All use the same threads, read the same test texts and take turns; medians over rounds.
Beside the rates: accuracy on the texts, and the share of the machine's measured matrix-product peak that each engine
reaches (twice the parameters outside the embeddings, for every token that is no padding; float32 and bfloat16 peaks by
PyTorch, 8-bit peak by ONNX Runtime; OpenVINO computes in bfloat16 where the machine does so natively). Accuracy is that
of the whole test split, rates are those of its first ``--texts``.
"""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, cell, write_result
from speed import ROUNDS, TOKEN_BUDGETS, best_budget, set_budget, timed
from transformers import pipeline

from attar.data.encoding import encode_texts
from attar.data.readers import read_splits
from attar.errors import QualityError
from attar.exporting.export import export_bundle
from attar.exporting.formats import ENGINES
from attar.inference.predictor import Predictor, load
from attar.nets.hardware import resolve_precision
from attar.nets.parameters import count_parameters

#: Side of the square matrices whose product shows the machine's peak.
SIDE = 2048


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--teacher", required=True, help="bundle of a 12-layer encoder")
    parser.add_argument("--dataset", default="movie_reviews")
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    folder = args.data / args.dataset
    test = read_splits(str(folder))["test"]
    every, texts = test["text"][:], test["text"][: args.texts]
    ours = {kind: model for kind in ENGINES if (model := exported(args.work, args.teacher, kind, str(folder)))}
    rival = pipeline("text-classification", model=args.teacher)
    labels = true_labels(test, load(args.teacher))
    accuracy = {
        kind: cell(
            args.work / f"{Path(args.teacher).name}-{kind}-accuracy.json", lambda m=model: right(m, every, labels)
        )
        for kind, model in ours.items()
    }
    source = load(args.teacher)
    accuracy["pipeline"] = cell(
        args.work / f"{Path(args.teacher).name}-accuracy.json", lambda: right(source, every, labels)
    )
    budgets = {kind: best_budget(model, texts) for kind, model in ours.items()}
    calls: dict[str, Callable[[], list[str]]] = {
        "pipeline, batch 1": lambda: [rival(text)[0]["label"] for text in texts],
        "pipeline, batch 32": lambda: [one["label"] for one in rival(texts, batch_size=32)],
    }
    for kind, model in ours.items():
        calls[f"{kind}, batch 1"] = lambda m=model: [m.predict([text])[0].label for text in texts]
        calls[f"{kind}, best batch"] = lambda m=model, b=budgets[kind]: at_budget(m, b, texts)
    result = take_turns(calls, texts, [one.label for one in source.predict(texts)], args.rounds)
    for name, row in result.items():
        row["accuracy"] = accuracy[name.split(",")[0]]["accuracy"]
    peaks = {"float32": float_peak(torch.float32), "bfloat16": float_peak(torch.bfloat16), "int8": int8_peak()}
    work = work_per_text(source, texts)
    for name, row in result.items():
        row["share_of_peak"] = row["texts_per_second"] * work / peaks[precision_of(name)]
    best = {
        size: max(v["texts_per_second"] for n, v in result.items() if n.endswith(size) and equal(v, result))
        for size in ("batch 1", "best batch")
    }
    ratios = {
        "batch 1": best["batch 1"] / result["pipeline, batch 1"]["texts_per_second"],
        "batch 32": best["best batch"] / result["pipeline, batch 32"]["texts_per_second"],
    }
    show(result, ratios, peaks)
    settings = {"teacher": Path(args.teacher).name, "dataset": args.dataset, "texts": len(texts), "rounds": args.rounds}
    settings |= {"threads": torch.get_num_threads(), "token_budgets": list(TOKEN_BUDGETS), "best_budgets": budgets}
    print(write_result("engines", settings, {"models": result, "ratios": ratios, "peak_flops": peaks}))


def exported(work: Path, teacher: str, kind: str, data: str) -> Predictor | None:
    """Export once, gated on the dev split; None where the gate refuses."""
    name = f"{Path(teacher).name}-{kind}"

    def make() -> dict[str, Any]:
        try:
            return export_bundle(teacher, str(work / name), format=kind, data=data)
        except QualityError as error:
            return {**error.report, "refused": str(error)}

    report = cell(work / f"{name}.json", make)
    print(f"{kind}: {report.get('refused') or report['setting']}", flush=True)
    return None if "refused" in report else load(str(work / name))


def right(model: Predictor, texts: list[str], labels: list[str]) -> dict[str, float]:
    """Return the accuracy on the whole test split, in percent."""
    set_budget(2048)
    same = [one.label == label for one, label in zip(model.predict(texts), labels, strict=True)]
    return {"accuracy": 100 * sum(same) / len(same)}


def equal(row: dict[str, Any], result: dict[str, dict[str, Any]]) -> bool:
    """Return whether an engine of ours is within half a point of the pipeline."""
    rivals = [v for n, v in result.items() if n.startswith("pipeline")]
    return row not in rivals and row["accuracy"] >= rivals[0]["accuracy"] - 0.5


def at_budget(model: Predictor, budget: int, texts: list[str]) -> list[str]:
    set_budget(budget)
    return [one.label for one in model.predict(texts)]


def true_labels(rows: Any, model: Predictor) -> list[str]:
    names = rows.features["label"].names if hasattr(rows.features["label"], "names") else None
    labels = [names[i] if names else str(i) for i in rows["label"]]
    assert set(labels) <= set(model.task.labels), f"the data's labels {set(labels)} are others than the model's"
    return labels


def take_turns(
    calls: dict[str, Callable[[], list[str]]], texts: list[str], expected: list[str], rounds: int
) -> dict[str, dict[str, Any]]:
    spent: dict[str, list[float]] = {name: [] for name in calls}
    found: dict[str, dict[str, Any]] = {}
    for name, call in calls.items():  # the warm-up
        same = [a == b for a, b in zip(call(), expected, strict=True)]
        found[name] = {"same_as_source": 100 * sum(same) / len(same)}
    for _ in range(rounds):
        for name, call in calls.items():
            spent[name].append(timed(call))
    for name, seconds in spent.items():
        found[name]["texts_per_second"] = len(texts) / statistics.median(seconds)
        found[name]["spread"] = [len(texts) / max(seconds), len(texts) / min(seconds)]
    return found


def work_per_text(model: Predictor, texts: list[str]) -> float:
    """Return floating-point operations a text takes in products with weights."""
    encoded = encode_texts(texts, None, model.bundle.tokenizer, model.bundle.max_length)
    return 2 * count_parameters(model.bundle.model)[1] * float(encoded.lengths.mean())


def precision_of(name: str) -> str:
    """Return the precision of an engine's products."""
    if "int8" in name:
        return "int8"
    return resolve_precision(torch.device("cpu"), "auto") if name.startswith("openvino") else "float32"


def float_peak(dtype: torch.dtype) -> float:
    one, other = torch.randn(SIDE, SIDE).to(dtype), torch.randn(SIDE, SIDE).to(dtype)
    return 2 * SIDE**3 / min(timed(lambda: one @ other) for _ in range(7))


def int8_peak() -> float:
    import onnxruntime
    from onnx import TensorProto, helper

    shape = [SIDE, SIDE]
    values = np.random.default_rng(0).integers(-99, 99, shape, np.int8)
    weight = helper.make_tensor("b", TensorProto.INT8, shape, values.tobytes(), raw=True)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("c", TensorProto.INT32, shape)],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    given = {"a": np.random.default_rng(1).integers(0, 255, shape, np.uint8)}
    return 2 * SIDE**3 / min(timed(lambda: session.run(None, given)) for _ in range(7))


def show(result: dict[str, Any], ratios: dict[str, float], peaks: dict[str, float]) -> None:
    print(f"\n{torch.get_num_threads()} threads; peak { ({k: round(v / 1e9) for k, v in peaks.items()}) } GFLOP/s")
    for name, row in result.items():
        told = f"accuracy {row['accuracy']:.2f}  {100 * row['share_of_peak']:.0f} % of peak"
        print(f"{name:<24} {row['texts_per_second']:>8.1f} texts/s  {told}")
    for size, ratio in ratios.items():
        print(f"best of ours over the pipeline at {size}: {ratio:.2f}x")


if __name__ == "__main__":
    main()

"""Many tasks over one encoder, against one task alone: throughput of mixed batches, of a fan-out, and memory.

    python benchmarks/many_tasks.py --data DATA --encoder ENCODER [--tasks 100] [--tops 20] [--seconds 4]

The deltas are random (the time does not depend on their values). Each figure is a ratio of two things that take turns
in one run, from raw text to prediction, median over rounds:

- BitFit tasks, and tasks of adapters, in mixed batches (every text another task) / one task on the same texts;
- tasks that own the last three layers, fanned out over the same texts / the tasks one after another;
- bytes of weights in memory with all of them / bytes of the encoder and of the deltas' files.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import arguments, cell, write_result

import attar
from attar.bundle import delta_bytes
from attar.data.readers import read_splits
from attar.data.task import Task
from attar.nets.deltas.adapters import insert_adapters
from attar.nets.deltas.extract import extract_delta
from attar.nets.deltas.format import Delta, DeltaSource, is_delta, write_delta
from attar.nets.hardware import pick_device, resolve_precision
from attar.nets.loading import load_for_task
from attar.nets.parameters import count_parameters
from attar.nets.selection import bias_names, head_names, norm_names, top_names
from attar.records import MANIFEST_FILE, write_json

LABELS = ("neg", "pos")
TASK = Task(kind="single-label", text="text", label=("label",), labels=LABELS)
BOTTLENECK = 64
TOP_LAYERS = 3


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--dataset", default="movie_reviews", help="whose texts are read")
    parser.add_argument("--tasks", type=int, default=100, help="BitFit tasks, and as many tasks of adapters")
    parser.add_argument("--tops", type=int, default=20, help=f"tasks that own the last {TOP_LAYERS} layers")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=4.0, help="that one task alone needs for the texts")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    settings = {name: getattr(args, name) for name in ("dataset", "tasks", "tops", "max_length", "seconds", "rounds")}
    settings |= {"encoder": Path(args.encoder).name, "threads": torch.get_num_threads(), "bottleneck": BOTTLENECK}
    key = "-".join(str(value) for value in settings.values())
    found = cell(args.work / "many-tasks" / f"{key}.json", lambda: measure(args))
    show(found)
    print(f"\n{write_result('many_tasks', settings, found)}")


def measure(args: Any) -> dict[str, Any]:
    texts = read_splits(str(args.data / args.dataset))["test"]["text"][:]
    folder = args.work / "many-tasks" / f"{Path(args.encoder).name}-{args.max_length}"
    found: dict[str, Any] = {"precision": resolve_precision(pick_device(), "auto")}
    for method in ("bitfit", "adapters"):
        deltas = load(args, folder, method, args.tasks)
        found[method] = mixed(deltas, texts, args)
        del deltas
    deltas = load(args, folder, "freezing", args.tops)
    found["freezing"] = fanned_out(deltas, texts, args)
    return found


def mixed(deltas: attar.DeltaSet, texts: list[str], args: Any) -> dict[str, Any]:
    name = deltas.names[0]
    some = fitting(lambda t: deltas.predict(name, t), texts, args.seconds, least=2 * args.tasks)
    rows = [(deltas.names[i % len(deltas.names)], text) for i, text in enumerate(some)]
    times = turns(args.rounds, alone=lambda: deltas.predict(name, some), mixed=lambda: deltas.predict_rows(rows))
    return {
        "texts": len(some),
        "tasks": len(deltas.names),
        "one_task_texts_per_second": len(some) / times["alone"],
        "mixed_texts_per_second": len(some) / times["mixed"],
        "throughput_ratio": times["alone"] / times["mixed"],
        **memory(deltas),
    }


def fanned_out(deltas: attar.DeltaSet, texts: list[str], args: Any) -> dict[str, Any]:
    names = deltas.names
    some = fitting(lambda t: deltas.predict(names[0], t), texts, args.seconds / 2, least=64)
    times = turns(
        args.rounds,
        one_after_another=lambda: [deltas.predict(name, some) for name in names],
        fan_out=lambda: deltas.predict_all(some),
    )
    return {
        "texts": len(some),
        "tasks": len(names),
        "one_after_another_seconds": times["one_after_another"],
        "fan_out_seconds": times["fan_out"],
        "speedup": times["one_after_another"] / times["fan_out"],
        **memory(deltas),
    }


def memory(deltas: attar.DeltaSet) -> dict[str, Any]:
    held = deltas.memory()
    encoder = sum(4 * n for n in count_parameters(deltas.base())[:1])
    files = sum(delta_bytes(deltas.use(name).bundle.path) or 0 for name in deltas.names)
    return {
        "bytes_in_memory": held["encoder"] + held["deltas"],
        "bytes_of_encoder_and_delta_files": encoder + files,
        "memory_ratio": (held["encoder"] + held["deltas"]) / (encoder + files),
    }


def load(args: Any, folder: Path, method: str, n: int) -> attar.DeltaSet:
    deltas = attar.DeltaSet(args.encoder)
    paths = [folder / f"{method}-{i}" for i in range(n)]
    if not all(is_delta(path) for path in paths):
        write(random_delta(args.encoder, method), paths, args.max_length)
    for i, path in enumerate(paths):
        deltas.add(f"task-{i}", str(path))
    return deltas


def random_delta(encoder: str, method: str) -> Delta:
    torch.manual_seed(0)
    model = load_for_task(encoder, "single-label", LABELS)
    insertion = None
    if method == "adapters":
        insertion = {"kind": "adapters", "bottleneck": BOTTLENECK}
        insert_adapters(model, bottleneck=BOTTLENECK)
        moving = {name for name, _ in model.named_parameters() if ".adapter." in name} | norm_names(model)
    else:
        moving = bias_names(model) if method == "bitfit" else top_names(model, TOP_LAYERS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in moving | head_names(model):
                parameter.add_(torch.randn_like(parameter) * 1e-3)
    source = DeltaSource(method=method, encoder=encoder, insertion=insertion)
    return extract_delta(model, source, "single-label", LABELS)


def write(delta: Delta, paths: list[Path], max_length: int) -> None:
    for path in paths:
        tensors = {name: tensor + torch.randn_like(tensor) * 1e-3 for name, tensor in delta.tensors.items()}
        write_delta(dataclasses.replace(delta, tensors=tensors), path)
        manifest = {"format": 1, "task": TASK.to_dict(), "max_length": max_length, "precision": "auto"}
        write_json(manifest, path / MANIFEST_FILE)


def fitting(predict: Callable[[list[str]], Any], texts: list[str], seconds: float, least: int) -> list[str]:
    """Return as many different texts as are read in some seconds; where there are too few, with dots at their ends."""
    predict(texts[:32])
    each = timed(lambda: predict(texts[:128])) / min(128, len(texts))
    n = max(least, int(seconds / each))
    return [texts[i % len(texts)] + " ." * (i // len(texts)) for i in range(n)]


def turns(rounds: int, **calls: Callable[[], Any]) -> dict[str, float]:
    """Return the median seconds of calls that take turns, after one turn that does not count."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(rounds + 1):
        for name, call in calls.items():
            spent = timed(call)
            if round_:
                times[name].append(spent)
    return {name: statistics.median(values) for name, values in times.items()}


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    if pick_device().type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def show(found: dict[str, Any]) -> None:
    for method in ("bitfit", "adapters"):
        row = found[method]
        print(
            f"{row['tasks']:>4} tasks, {method:<9} mixed {row['mixed_texts_per_second']:>8.1f} texts/s, one task "
            f"{row['one_task_texts_per_second']:>8.1f}: {100 * row['throughput_ratio']:.1f} %   "
            f"memory {row['memory_ratio']:.3f} of encoder + deltas"
        )
    row = found["freezing"]
    print(
        f"{row['tasks']:>4} tasks, last {TOP_LAYERS} layers  fan-out {row['fan_out_seconds']:.2f} s, one after another "
        f"{row['one_after_another_seconds']:.2f} s: {row['speedup']:.2f}x   memory {row['memory_ratio']:.3f}"
    )


if __name__ == "__main__":
    main()

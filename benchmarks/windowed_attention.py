"""Windowed against full attention: time and activation memory by length, and where the two cross.

    python benchmarks/windowed_attention.py [--shapes minilm mpnet] [--lengths 512 1024 2048 4096] [--window 256]

Random weights, one text a batch. Full attention is transformers' own (SDPA for the shape of MiniLM, MPNet's own product
with its relative positions for that of MPNet). Forward passes run through all layers; training steps (dropout on)
through ``--step-layers`` of them, since full attention over 4,096 tokens does not fit beside all its layers, and since
every layer costs the same. Both are measured in turn in one process, after a warm-up; memory is what one training step
adds to the peak of a process of its own. Exponents are the slopes of cost by length from 1,024 tokens on, both on
logarithmic scales.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from common import cell, write_result
from transformers import AutoModel, BertConfig, MPNetConfig, PreTrainedModel

from attar.nets.hardware import pick_device
from attar.nets.longer import make_longer

SHAPES: dict[str, Callable[..., Any]] = {
    "minilm": lambda **sizes: BertConfig(
        hidden_size=384, num_attention_heads=12, intermediate_size=1536, **{"num_hidden_layers": 6, **sizes}
    ),
    "mpnet": lambda **sizes: MPNetConfig(pad_token_id=1, **{"num_hidden_layers": 12, **sizes}),
}
WAYS = ("full", "windowed")
KINDS = ("forward", "step")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/windowed"), help="finished cells (kept)")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--lengths", nargs="+", type=int, default=[512, 1024, 2048, 4096])
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--step-layers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    result = {shape: measure_shape(args, shape) for shape in args.shapes}
    settings = {"window": args.window, "step_layers": args.step_layers, "repeats": args.repeats}
    settings.update(lengths=args.lengths, threads=torch.get_num_threads(), device=pick_device().type)
    print(write_result("windowed_attention", settings, result))


def measure_shape(args: argparse.Namespace, shape: str) -> dict[str, Any]:
    """Return the cells of a shape by length, exponents, and the shortest length at which windows are no slower."""
    cells = {}
    for length in args.lengths:
        name = f"{shape}-{length}-w{args.window}"
        cells[length] = cell(args.work / f"{name}.json", lambda length=length: measure(args, shape, length))
        print(f"{name:<22}", *(f"{kind} x{ratio:.2f}" for kind, ratio in cells[length]["ratio"].items()), flush=True)
    found: dict[str, Any] = {"cells": cells, "exponent": {}, "crossing": {}, "difference": parity(args, shape)}
    for kind in (*KINDS, "memory"):
        found["exponent"][kind] = {way: exponent({n: c[way][kind] for n, c in cells.items()}) for way in WAYS}
        faster = [n for n, c in cells.items() if c["ratio"][kind] >= 1]
        found["crossing"][kind] = min(faster, default=None)
    return found


def measure(args: argparse.Namespace, shape: str, length: int) -> dict[str, Any]:
    """Return seconds of a forward pass and of a training step, and bytes of the latter, of both ways."""
    found: dict[str, Any] = {way: {} for way in WAYS}
    for kind, sizes in (("forward", {}), ("step", {"num_hidden_layers": args.step_layers})):
        models = build(shape, length, args.window, **sizes)
        for way, seconds in in_turn({way: run(model, kind, length) for way, model in models.items()}, args).items():
            found[way][kind] = seconds
        del models
    for way in WAYS:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            found[way]["memory"] = pool.submit(step_memory, shape, length, args.window, args.step_layers, way).result()
    found["ratio"] = {kind: found["full"][kind] / max(found["windowed"][kind], 1e-9) for kind in (*KINDS, "memory")}
    return found


def build(shape: str, length: int, window: int, **sizes: int) -> dict[str, PreTrainedModel]:
    """Return a model of the shape with full attention, and its windowed twin."""
    torch.manual_seed(0)
    longest = max(length, window + 1)
    full = AutoModel.from_config(SHAPES[shape](max_position_embeddings=longest + 2, **sizes)).to(pick_device())
    return {"full": full, "windowed": make_longer(full, max_length=longest, window=window)}


def run(model: PreTrainedModel, kind: str, length: int) -> Callable[[], None]:
    """Return what runs a model once over a text of ``length`` tokens."""
    ids = torch.randint(1000, 30000, (1, length), device=pick_device())
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def forward() -> None:
        with torch.inference_mode():
            model.eval()(**inputs)

    def step() -> None:
        model.train()(**inputs).last_hidden_state.square().mean().backward()
        model.zero_grad(set_to_none=False)

    return forward if kind == "forward" else step


def in_turn(runs: dict[str, Callable[[], None]], args: argparse.Namespace) -> dict[str, float]:
    """Return the median seconds of each, after one call of each as a warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(args.repeats + 1):
        for name, call in runs.items():
            wait()
            start = time.perf_counter()
            call()
            wait()
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def wait() -> None:
    """Let the device finish."""
    if pick_device().type == "cuda":
        torch.cuda.synchronize()


def step_memory(shape: str, length: int, window: int, layers: int, way: str) -> int:
    """Return by how many bytes a training step raises the peak of a process that has done a short one before."""
    model = build(shape, length, window, num_hidden_layers=layers)[way]
    run(model, "step", 16)()
    step = run(model, "step", length)
    if pick_device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before = status("VmRSS")
    step()
    return status("VmHWM") - before


def status(name: str) -> int:
    """Return a line of Linux's account of this process, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def parity(args: argparse.Namespace, shape: str) -> float:
    """Return how far the two are apart over a text of one window: there they are the same model."""
    models = build(shape, args.window, args.window, num_hidden_layers=args.step_layers)
    ids = torch.randint(1000, 30000, (2, args.window), device=pick_device())
    with torch.inference_mode():
        one, other = (models[way].eval()(input_ids=ids).last_hidden_state for way in WAYS)
    return float((one - other).abs().max())


def exponent(costs: dict[int, float]) -> float | None:
    """Return the slope of log cost by log length from 1,024 tokens on; None for fewer than two lengths."""
    points = [(math.log(n), math.log(cost)) for n, cost in costs.items() if n >= 1024 and cost > 0]
    return round(statistics.linear_regression(*zip(*points, strict=True)).slope, 3) if len(points) > 1 else None


if __name__ == "__main__":
    main()

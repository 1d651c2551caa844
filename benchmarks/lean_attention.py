"""Lean attention with dropout against PyTorch's on a CPU: time and memory of training steps, by length.

    python benchmarks/lean_attention.py [--shapes minilm mpnet] [--lengths 64 128 256 384] [--rows 16] [--window 256]

Random weights, all parameters move, bfloat16 autocast where the hardware has it. Both ways are measured in turn in one
process, after a warm-up; memory is what one training step adds to the peak of a process of its own. With ``--window``
the encoder's attention is windowed. Cells that are not asked for stay in the result as they are.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from common import known_result, write_result
from transformers import AutoModel, PreTrainedModel
from windowed_attention import SHAPES, in_turn, status

from attar.nets.hardware import native_bfloat16
from attar.nets.lean_attention import lean_attention
from attar.nets.longer import make_longer

WAYS: dict[str, Callable[..., Any]] = {"own": nullcontext, "lean": lean_attention}
HALF = native_bfloat16(torch.device("cpu"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--lengths", nargs="+", type=int, default=[64, 128, 256, 384])
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--window", type=int, help="tokens that a token attends to; all by default")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    suffix = f"-w{args.window}" if args.window else ""
    cells = [(shape, length) for shape in args.shapes for length in args.lengths]
    result = {f"{shape}-{length}{suffix}": measure(args, shape, length) for shape, length in cells}
    settings = {"repeats": args.repeats, "threads": torch.get_num_threads()}
    print(write_result("lean_attention", {**settings, "bfloat16": HALF}, known_result("lean_attention") | result))


def measure(args: argparse.Namespace, shape: str, length: int) -> dict[str, Any]:
    """Return the median seconds and the bytes of a training step with either, and the ratios."""
    model = build(shape, length, args.window)
    seconds = in_turn({way: partial(step, model, way, args.rows, length) for way in WAYS}, args)
    memory = {}
    for way in WAYS:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            memory[way] = pool.submit(step_memory, shape, args, length, way).result()
    ratio = {"seconds": seconds["own"] / seconds["lean"], "memory": memory["own"] / memory["lean"]}
    print(f"{shape}-{length:<5}", *(f"{kind} x{value:.2f}" for kind, value in ratio.items()), flush=True)
    return {"rows": args.rows, "seconds": seconds, "memory": memory, "ratio": ratio}


def build(shape: str, length: int, window: int | None) -> PreTrainedModel:
    """Return a model of the shape, of which all moves."""
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModel.from_config(SHAPES[shape](max_position_embeddings=length + 2))
    return (make_longer(model, max_length=length, window=window) if window else model).train()


def step(model: PreTrainedModel, way: str, rows: int, length: int) -> None:
    """Do a training step on texts the last of which is an eighth shorter than the first."""
    lengths = torch.linspace(length, 7 * length // 8, rows).long()
    ids, mask = torch.randint(1000, 30000, (rows, length)), torch.arange(length) < lengths[:, None]
    with WAYS[way](model), torch.autocast("cpu", torch.bfloat16, enabled=HALF):
        out = model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    out.float().square().mean().backward()
    model.zero_grad(set_to_none=False)


def step_memory(shape: str, args: argparse.Namespace, length: int, way: str) -> int:
    """Return by how many bytes a training step raises the peak of a process that has done a short one before."""
    model = build(shape, length, args.window)
    step(model, way, args.rows, 16)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before = status("VmRSS")
    step(model, way, args.rows, length)
    return status("VmHWM") - before


if __name__ == "__main__":
    main()

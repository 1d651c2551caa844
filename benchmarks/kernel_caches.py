"""Memory of training on batches of many shapes: few compiled kernels kept, as attar does, against torch's default.

    python benchmarks/kernel_caches.py --encoder MINILM [--steps 240] [--repeats 3] [--work runs/kernel_caches]

Every arm is a process of its own: forward and backward of the biases on random batches of 2 texts of 20 to 200
tokens, the same for both. Resident memory and processor time are those after the steps; arms take turns, and medians
count.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import cell, write_result

ARMS = ("few", "default")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/kernel_caches"), help="finished cells (kept)")
    parser.add_argument("--encoder", required=True, help="pre-trained encoder")
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.arm:
        print(json.dumps(train(args)))
        return
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    for i in range(args.repeats):
        for arm in ARMS:
            file = args.work / f"{Path(args.encoder).name}-{args.steps}-{arm}-{i}.json"
            found[arm].append(cell(file, lambda arm=arm: in_process(arm)))
    median = {arm: {k: statistics.median(run[k] for run in runs) for k in runs[0]} for arm, runs in found.items()}
    ratios = {key: median["few"][key] / median["default"][key] for key in median["few"]}
    for arm in ARMS:
        print(f"{arm:<8} {median[arm]['resident_gib']:.2f} GiB, {median[arm]['cpu_seconds']:.1f} s")
    settings = {"encoder": Path(args.encoder).name, "steps": args.steps, "repeats": args.repeats}
    print(write_result("kernel_caches", settings, {"median": median, "few_over_default": ratios, "runs": found}))


def in_process(arm: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *sys.argv[1:], "--arm", arm]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def train(args: argparse.Namespace) -> dict[str, float]:
    """Return memory and time of the steps, and memory after the first one."""
    import psutil
    import torch
    from transformers import AutoModel

    from attar.nets.hardware import autocast, keep_few_kernels

    if args.arm == "few":
        keep_few_kernels()
    model = AutoModel.from_pretrained(args.encoder).train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))
    process, lengths = psutil.Process(os.getpid()), random.Random(0)
    generator = torch.Generator().manual_seed(0)
    first, start = 0, time.process_time()
    for _ in range(args.steps):
        ids = torch.randint(1000, 20000, (2, lengths.randint(20, 200)), generator=generator)
        with autocast(torch.device("cpu"), "auto"):
            states = model(input_ids=ids).last_hidden_state
        states.float().mean().backward()
        model.zero_grad()
        first = first or process.memory_info().rss
    return {
        "first_step_gib": first / 2**30,
        "resident_gib": process.memory_info().rss / 2**30,
        "cpu_seconds": time.process_time() - start,
    }


if __name__ == "__main__":
    main()

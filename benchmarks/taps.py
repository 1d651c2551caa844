"""Cost of the taps: a TinyBERT intermediate step against one without its losses, and against eager attention's outputs.

    python benchmarks/taps.py [--batch 32] [--length 128] [--steps 20] [--work runs/taps]
    python benchmarks/taps.py --length 40 --name taps-short

A BERT-shaped teacher and TinyBERT4, random weights, the same batch for all. A step is the teacher's forward and the
student's forward and backward, without the optimiser:

plain          no intermediate losses
taps           embedding, hidden and attention-score losses through taps, SDPA on: what ``tinybert`` does
kept           taps in any epoch but the first: what the teacher's layers did is read from a temporary file
taps-probs     the same as taps with attention after the softmax
eager          the losses of taps-probs through ``output_attentions=True, output_hidden_states=True``, eager attention

Steps of all take turns in one process, so that a busy machine slows all alike, and the median counts. Peak
memory is of a process of its own for each: resident memory during the steps on a CPU (weights and libraries included;
what the first step found is given beside it), allocated memory on a GPU.
"""

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from common import cell, write_result
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from attar.methods.tinybert.layers import layer_map
from attar.methods.tinybert.objective import ProjectedStudent, layer_objective
from attar.nets.hardware import autocast, pick_device, resolve_precision
from attar.nets.surgery import thin_student
from attar.objectives.hidden import hidden_mse

ARMS = ("plain", "taps", "kept", "taps-probs", "eager")
Batch = dict[str, Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/taps"), help="finished cells (kept)")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=128, help="longest text; the shortest has half of it")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--layers", type=int, default=12, help="of the teacher")
    parser.add_argument("--name", default="taps", help="name of the result file")
    parser.add_argument("--memory-of", choices=ARMS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        print(json.dumps(peak_memory(args, args.memory_of)))
        return
    device = pick_device()
    shape = f"{device.type}-{args.batch}x{args.length}-{args.layers}"
    times = cell(args.work / f"times-{shape}-{args.steps}.json", lambda: measure_times(args))
    memory = {arm: cell(args.work / f"memory-{shape}-{arm}.json", lambda arm=arm: in_process(arm)) for arm in ARMS}
    median = {arm: statistics.median(times[arm]) for arm in ARMS}
    result = {
        "median_seconds": median,
        "memory": memory,
        "taps_over_plain": median["taps"] / median["plain"],
        "taps_over_kept": median["taps"] / median["kept"],
        "eager_over_taps": median["eager"] / median["taps"],
        "eager_over_taps_of_the_same_loss": median["eager"] / median["taps-probs"],
        "limit_taps_over_plain": 1.35,
    }
    for arm in ARMS:
        ratio = median[arm] / median["plain"]
        print(
            f"{arm:<12} {median[arm] * 1000:9.1f} ms  {ratio:.2f}x plain  peak {memory[arm]['peak_mib']:,.0f} MiB"
            f" ({memory[arm]['before_mib']:,.0f} before)"
        )
    settings = {name: getattr(args, name) for name in ("batch", "length", "steps", "layers")}
    settings["precision"] = resolve_precision(device, "auto")
    print(write_result(args.name, settings, result))


def in_process(arm: str) -> dict[str, float]:
    """Run this script for the memory of one arm."""
    command = [sys.executable, __file__, *sys.argv[1:], "--memory-of", arm]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def measure_times(args: argparse.Namespace) -> dict[str, list[float]]:
    """Return the seconds of every step of every arm, taken in turns."""
    steps = {arm: make_step(arm, args) for arm in ARMS}
    batch, found = make_batch(args), {arm: [] for arm in ARMS}
    for turn in range(args.steps + 2):  # two warm up
        for arm, step in steps.items():
            start = time.perf_counter()
            step(batch)
            if turn > 1:
                found[arm].append(time.perf_counter() - start)
    return found


def peak_memory(args: argparse.Namespace, arm: str) -> dict[str, float]:
    """Return MiB before the first step and at the peak of two."""
    step, batch, cuda = make_step(arm, args), make_batch(args), pick_device().type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    process, done, seen = psutil.Process(), threading.Event(), []

    def watch() -> None:
        while not done.wait(0.002):
            seen.append(process.memory_info().rss)

    before = torch.cuda.memory_allocated() if cuda else process.memory_info().rss
    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(2):
        step(batch)
    done.set()
    watcher.join()
    peak = torch.cuda.max_memory_allocated() if cuda else max(seen)
    return {"before_mib": before / 2**20, "peak_mib": peak / 2**20}


def make_batch(args: argparse.Namespace) -> Batch:
    """Return random texts of length/2 to length tokens, padded."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(args.length // 2, args.length + 1, (args.batch,), generator=generator)
    lengths[0] = args.length
    mask = (torch.arange(args.length) < lengths[:, None]).long()
    ids = torch.randint(1000, 30000, (args.batch, args.length), generator=generator) * mask
    return {"input_ids": ids.to(pick_device()), "attention_mask": mask.to(pick_device())}


def make_step(arm: str, args: argparse.Namespace) -> Callable[[Batch], None]:
    """Return what runs one step of an arm, on models of its own."""
    torch.manual_seed(0)
    kernel = "eager" if arm == "eager" else "sdpa"
    teacher = BertModel(BertConfig(num_hidden_layers=args.layers, attn_implementation=kernel)).eval()
    teacher.requires_grad_(False)
    student = thin_student(teacher, layers=4, width=312, heads=12, feed_forward=1200).train()
    student.set_attn_implementation(kernel)
    layers = layer_map(4, args.layers)
    wanted = {"hidden": arm != "plain", "scores": arm != "plain"}
    model = ProjectedStudent(student, 768, projections="separate", **wanted).to(pick_device())
    teacher.to(pick_device())
    if arm == "plain":
        loss_of = plain_loss(teacher)
    elif arm == "eager":
        loss_of = eager_loss(teacher, layers)
    else:
        attention = "probabilities" if arm == "taps-probs" else "scores"
        limit = 2**32 if arm == "kept" else 0  # the warm-up fills it
        objective = layer_objective(teacher, layers, attention=attention, limit=limit)
        loss_of = lambda model, batch: objective(model, batch)["loss"]  # noqa: E731

    def step(batch: Batch) -> None:
        with autocast(pick_device(), "auto"):
            loss = loss_of(model, batch)
        loss.backward()
        model.zero_grad(set_to_none=True)
        if pick_device().type == "cuda":
            torch.cuda.synchronize()

    return step


def plain_loss(teacher: nn.Module) -> Callable[[nn.Module, Batch], Tensor]:
    """Return a loss of the two last states alone."""

    def loss_of(model: nn.Module, batch: Batch) -> Tensor:
        with torch.no_grad():
            wanted = teacher(**batch).last_hidden_state
        found = model.student(**batch).last_hidden_state
        return found.float().square().mean() + wanted.float().mean()

    return loss_of


def eager_loss(teacher: nn.Module, layers: tuple[int, ...]) -> Callable[[nn.Module, Batch], Tensor]:
    """Return the losses of TinyBERT from what transformers hands out: states, and attention after the softmax."""
    asked = {"output_attentions": True, "output_hidden_states": True}

    def loss_of(model: nn.Module, batch: Batch) -> Tensor:
        mask = batch["attention_mask"]
        pairs = (mask[:, None, :, None] * mask[:, None, None, :]).float()
        with torch.no_grad():
            wanted = teacher(**batch, **asked)
        found = model.student(**batch, **asked)
        embeddings = model.project_embeddings(found.hidden_states[0])
        loss = hidden_mse(embeddings.float(), wanted.hidden_states[0].float(), mask)
        for i, layer in enumerate(layers):
            states = model.project_hidden(found.hidden_states[i + 1])
            loss = loss + hidden_mse(states.float(), wanted.hidden_states[layer + 1].float(), mask)
            gap = (found.attentions[i].float() - wanted.attentions[layer].float()).square() * pairs
            loss = loss + gap.sum() / (pairs.sum() * gap.shape[1])
        return loss

    return loss_of


if __name__ == "__main__":
    main()

"""Short real runs: a few steps of a candidate on a sample, in a process of its own, in the place of estimates.

``python -m attar.advice.probe RECIPE.toml RESULT.json STEPS`` is the process: the plan and the loop are those of a run.
"""

import dataclasses
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from attar.advice.candidates import Candidate
from attar.advice.estimates import Estimate, Figure, loop_seconds, reach, stored_states, train_seconds
from attar.advice.situation import Situation
from attar.config import TrainConfig, dump_toml, read_toml
from attar.recipe import config_of
from attar.records import write_json
from attar.sizes import show_size
from attar.training.examples import PIECE

log = logging.getLogger("attar")

_STEPS = 8
_TEXTS = 24


def probe(pairs: list[tuple[Candidate, Estimate]], situation: Situation, budget: float) -> dict[int, Estimate]:
    """Run candidates briefly; return new estimates by place in the list.

    Args:
        pairs: the candidates with their estimates, best first.
        situation: what they are for.
        budget: seconds for all probes together; a probe that does not end in time is stopped and changes nothing.
    """
    found: dict[int, Estimate] = {}
    end = time.monotonic() + budget
    for place, (candidate, guess) in enumerate(pairs):
        left = end - time.monotonic()
        if left < 5:
            log.info("probe: %s of %s candidates in the budget", place, len(pairs))
            break
        measured = _measure(_probed(candidate, situation), left)
        if measured is not None:
            found[place] = corrected(candidate, guess, situation, measured)
    return found


def corrected(candidate: Candidate, guess: Estimate, situation: Situation, measured: dict[str, Any]) -> Estimate:
    """Put measurements into an estimate.

    The loop's seconds are multiplied by measured / estimated seconds of the same few steps. Latency and memory are
    taken as measured where the probed run is the one that makes the result.
    """
    recipe = _probed(candidate, situation)
    expected = _expected(candidate, situation, recipe, measured["lengths"])
    ratio = measured["step_seconds"] * measured["steps"] / expected
    others = sum(train_seconds(candidate, situation, r) for r in candidate.recipes if r is not recipe)
    loop = loop_seconds(candidate, situation, recipe)
    before = train_seconds(candidate, situation, recipe) - loop
    spread = max(0.05, measured["step_spread"])
    basis = f"{measured['steps']} steps measured, {measured['step_seconds']:.3g} s each"
    total = others + before + ratio * loop
    error = spread * ratio * loop + (others + before) * 0.5
    seconds = Figure(value=total, low=total - error, high=total + error, basis=basis)
    if recipe is not candidate.recipes[-1]:
        return dataclasses.replace(guess, seconds=dataclasses.replace(seconds, basis=f"{basis} (the teacher's run)"))
    latency = Figure(
        value=measured["latency_ms"], low=measured["latency_low"], high=measured["latency_high"],
        basis=f"measured, {_TEXTS} texts; quartiles",
    )  # fmt: skip
    peak, basis = measured["peak"], "measured peak, the longest texts among it"
    if recipe["command"] == "finetune":  # a probe stores no states
        config = config_of(recipe)
        stored = stored_states(situation, config.method, config.train)
        peak, basis = peak + stored, basis + (f", and {show_size(stored)} of stored states" if stored else "")
    memory = Figure(value=peak, low=peak, high=1.25 * peak, basis=basis)
    return dataclasses.replace(guess, seconds=seconds, latency_ms=latency, memory=memory)


def _probed(candidate: Candidate, situation: Situation) -> dict[str, Any]:
    """Return the recipe that can be run now: the result's, or its teacher's where there is no teacher yet."""
    return candidate.recipes[-1] if situation.teacher or not candidate.distils else candidate.recipes[0]


def _expected(candidate: Candidate, situation: Situation, recipe: dict[str, Any], lengths: list[int]) -> float:
    """Return the estimated seconds of one pass over texts of these lengths, nothing cached and dev left out."""
    facts = dataclasses.replace(situation.facts, train=len(lengths), dev=0, unlabelled=0, lengths=tuple(lengths))
    short = {**recipe, "train": {**recipe["train"], "epochs": 1, "patience": False}}
    if recipe["method"]["name"] == "tinybert":
        short["method"] = {**recipe["method"], "intermediate_epochs": 1}
    return loop_seconds(
        dataclasses.replace(candidate, recipes=tuple(short if r is recipe else r for r in candidate.recipes)),
        dataclasses.replace(situation, facts=facts),
        short,
    )


def _measure(recipe: dict[str, Any], seconds: float) -> dict[str, Any] | None:
    with tempfile.TemporaryDirectory(prefix="attar-probe-") as folder:
        file, result = Path(folder) / "recipe.toml", Path(folder) / "result.json"
        file.write_text(dump_toml(recipe), encoding="utf-8")
        command = [sys.executable, "-m", "attar.advice.probe", str(file), str(result), str(_STEPS)]
        log.info("probe: %s", recipe["out"])
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            log.warning("probe of %s stopped: its budget is spent", recipe["out"])
            return None
        if done.returncode:
            log.warning("probe of %s failed: %s", recipe["out"], (done.stderr.strip().splitlines() or ["?"])[-1])
            return None
        return json.loads(result.read_text(encoding="utf-8"))


def run_steps(table: dict[str, Any], steps: int, folder: Path) -> dict[str, Any]:
    """Run every stage of a recipe on a sample, twice: the first time warms up. Return what the second took.

    Batches are of very different lengths, so that no step stands for the others: it is their mean that counts, and what
    was estimated for the same texts. Where the sample has none as long as the longest texts, which decide the
    peak of memory, a step on those comes first.

    Returns:
        ``steps`` of a stage and ``lengths`` of its texts, ``step_seconds`` (summed over stages, each a mean),
        ``step_spread`` (standard error, relative), ``latency_ms`` with its quartiles, ``peak`` in bytes.
    """
    import resource

    from attar.advice.facts import text_lengths
    from attar.bundle import save_bundle
    from attar.data.prepare import load_data
    from attar.inference.predictor import load
    from attar.methods.contract import Context
    from attar.methods.registry import plan_of
    from attar.nets.hardware import keep_few_kernels
    from attar.nets.loading import load_tokenizer
    from attar.teacher.open import open_teacher
    from attar.training.callbacks import StepClock
    from attar.training.loop import Trackers, run_stage

    keep_few_kernels()
    config: Any = config_of(table)
    data = load_data(config.data)
    rng, size = np.random.default_rng(0), config.train.batch_size
    order = np.argsort(_tokens(data.train), kind="stable")
    # Batches as the run has them, of nearly one length: those of a random sample would hold more padding.
    batches = order[len(order) % size :].reshape(-1, size) if len(order) > size else order[None]
    count = min(steps, len(batches))
    rows = data.train.select(np.concatenate([batches[i] for i in rng.permutation(len(batches))[:count]]))
    dev = data.dev.select(_spread(np.argsort(_tokens(data.dev), kind="stable")))  # of all lengths
    teacher = open_teacher(config.teacher, data.task) if config.command == "distill" else None
    tokenizer = load_tokenizer(config.model or config.teacher.bundles[0])
    train = dataclasses.replace(config.train, cache_limit="0")  # the second time is to take what a first epoch does

    def run(rows: Any, steps: int) -> Iterator[tuple[Any, StepClock]]:
        sample = dataclasses.replace(data, train=rows, dev=dev, test=None, unlabelled=None)
        context = Context(data=sample, train=train, encoder=config.model, teacher=teacher,
                          teacher_bundles=config.teacher.bundles)  # fmt: skip
        for i, stage in enumerate(plan_of(config.method)(context)):
            clock = StepClock()
            stage.train = dataclasses.replace(stage.train, max_steps=steps, patience=None)
            run_stage(stage, folder / f"stage-{i}-{steps}", title="probe", trackers=Trackers(callbacks=[clock]))
            yield stage, clock

    longest = data.train.select(_piece(data.train, order[::-1][:size], train))
    whole, most = (text_lengths(some, tokenizer, data.task.kind) for some in (rows, longest))
    usual = sorted(min(length, reach(train)) for length in whole)[-len(most) :]
    if sum(min(length, reach(train)) for length in most) > 1.2 * sum(usual):
        list(run(longest, 1))
    stages = list(run(rows, 2 * count + 1))
    means, errors = [], []
    for _, clock in stages:
        between = np.diff(clock.marks)[-count:]  # the second epoch; what begins after it ends its last step
        means.append(float(between.mean()))
        errors.append(float(between.std() / between.mean() / count**0.5))
    stage, _ = stages[-1]
    save_bundle(folder / "bundle", stage.model, stage.tokenizer, data.task, max_length=config.train.max_length,
                precision=config.train.precision, delta=stage.delta)  # fmt: skip
    latency = 1000 * _singles(load(str(folder / "bundle")), dev)
    unit = 1 if sys.platform == "darwin" else 1024
    low, middle, high = np.percentile(latency, [25, 50, 75])
    return {
        "lengths": whole,
        "steps": count,
        "step_seconds": sum(means),
        "step_spread": max(errors),
        "latency_ms": float(middle),
        "latency_low": float(low),
        "latency_high": float(high),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
    }


def _tokens(rows: Any) -> np.ndarray:
    """Return about how many tokens every row has: its characters, four a token."""
    columns = [rows[name] for name in ("text", "pair") if name in rows.column_names]
    return np.array([sum(_characters(text) for text in row) / 4 for row in zip(*columns, strict=True)])


def _characters(text: str | list[str]) -> int:
    return len(text) if isinstance(text, str) else sum(map(len, text))


def _spread(order: np.ndarray) -> np.ndarray:
    """Return some of many, at equal distances."""
    return order[np.linspace(0, len(order) - 1, min(_TEXTS, len(order))).round().astype(int)]


def _piece(rows: Any, some: np.ndarray, train: TrainConfig) -> np.ndarray:
    """Return as many of some rows as run at a time: all, or where a batch is cut into pieces two of them."""
    fitting = np.cumsum(np.minimum(_tokens(rows.select(some)), reach(train))) <= 2 * PIECE
    return some[: max(1, int(fitting.sum()))]


def _singles(predictor: Any, dev: Any) -> np.ndarray:
    texts, pairs = dev["text"][:], dev["pair"][:] if "pair" in dev.column_names else None
    seconds = []
    for i in [0, 0, *range(len(texts))]:
        start = time.perf_counter()
        predictor.predict(texts[i : i + 1], pairs[i : i + 1] if pairs is not None else None)
        seconds.append(time.perf_counter() - start)
    return np.array(seconds[2:])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="attar-probe-") as _folder:
        write_json(run_steps(read_toml(sys.argv[1]), int(sys.argv[3]), Path(_folder)), Path(sys.argv[2]))

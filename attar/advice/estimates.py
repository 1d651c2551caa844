"""What a candidate will cost: operations counted, divided by the rates that this machine was measured at.

docs/choosing-a-method.md states the model and everything that it assumes.
"""

from dataclasses import dataclass, replace
from typing import Any

from attar.advice.candidates import BILSTM_BYTES, WORD_BYTES, Candidate
from attar.advice.encoder import Shape
from attar.advice.situation import Situation
from attar.config import TrainConfig
from attar.data.long_texts import MAX_CHUNKS, POOLS
from attar.methods.registry import method_of
from attar.methods.tinybert.config import TinyBert
from attar.nets.longer import WINDOW
from attar.recipe import config_of
from attar.sizes import parse_size
from attar.teacher.layers import layers_limit
from attar.training.examples import PIECE

#: Padding that length-bucketed batches leave, and steps around the model (assumed).
_PADDING = 1.1
#: With patience, training ends after a third of the epochs at most allowed (our records: after 8 and 10 of 30).
_PATIENCE = 1 / 3
#: Cost of a batch outside the layers, seconds: the loop, the optimizer's bookkeeping (assumed).
_STEP = 0.01
#: Bytes that training loads beside the libraries of this process: the Trainer, metrics, the corpus (measured: 0.1 to
#: 0.2 GiB).
_LOADED = 0.15 * 2**30
#: What activations take in the heap, holes between blocks of other lengths included (measured on MiniLM: 2 to 2.5).
_HOLES = 2


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One estimated or measured number."""

    value: float
    basis: str
    low: float
    high: float

    def scaled(self, ratio: float, spread: float, basis: str) -> "Figure":
        """Return the figure corrected by a measured ratio, with its error bar."""
        value = self.value * ratio
        return Figure(value=value, low=value * (1 - spread), high=value * (1 + spread), basis=basis)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready table."""
        return {k: (float(f"{v:.4g}") if isinstance(v, float) else v) for k, v in vars(self).items()}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Training seconds, peak bytes of training, milliseconds a text, bytes on disk (of all tasks, and of one)."""

    seconds: Figure
    memory: Figure
    latency_ms: Figure
    size: Figure
    all_tasks: Figure

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready table."""
        return {name: figure.to_dict() for name, figure in vars(self).items()}


def estimate(candidate: Candidate, situation: Situation) -> Estimate:
    """Estimate a candidate in its situation."""
    seconds = sum(train_seconds(candidate, situation, recipe) for recipe in candidate.recipes)
    own = _size(candidate, situation)
    delta = candidate.extra.get("moving", 0) * 4 if not candidate.distils and candidate.name != "full" else None
    tasks = situation.tasks
    if delta is None:
        total, how = own * tasks, f"{tasks} x one whole model"
    else:
        total, how = own + (tasks - 1) * delta, f"one encoder and {tasks} deltas"
    rates = "operations counted / rates measured here"
    return Estimate(
        seconds=_guess(seconds, f"{rates}; {_epochs_note(candidate)}"),
        memory=_guess(_memory(candidate, situation), "libraries + weights, gradients, optimizer, activations"),
        latency_ms=_guess(1000 * _latency(candidate, situation), f"{rates}, text of median length"),
        size=_guess(own, "parameters x 4 bytes + tokenizer", factor=1.1),
        all_tasks=_guess(total, how, factor=1.1),
    )


def _guess(value: float, basis: str, factor: float = 2.0) -> Figure:
    return Figure(value=float(value), low=value / factor, high=value * factor, basis=basis)


def _epochs_note(candidate: Candidate) -> str:
    train = config_of(candidate.recipes[-1]).train
    return f"{train.epochs} epochs" + (", a third of them with patience" if train.patience else "")


def train_seconds(candidate: Candidate, situation: Situation, recipe: dict[str, Any]) -> float:
    """Return the seconds of one run: what the teacher answers and word vectors, then the loop."""
    return _before(candidate, situation, recipe) + loop_seconds(candidate, situation, recipe)


def loop_seconds(candidate: Candidate, situation: Situation, recipe: dict[str, Any]) -> float:
    """Return the seconds of a run's training: every step, and dev after every epoch."""
    config = config_of(recipe)
    if recipe["command"] == "finetune":
        return _tuning_seconds(situation, config.method, config.train, _moving(candidate, situation, recipe))
    return _distilling_seconds(candidate, situation, config.method, config.train)


def _before(candidate: Candidate, situation: Situation, recipe: dict[str, Any]) -> float:
    """Return the seconds before a distillation: the teacher answers every text once; a BiLSTM gets its vectors."""
    if recipe["command"] == "finetune":
        return 0.0
    facts, teacher = situation.facts, situation.teacher_shape
    limit = situation.teacher_length if situation.teacher else situation.max_length
    tokens = (facts.train + facts.unlabelled + facts.dev) * facts.tokens(limit)
    seconds = tokens * teacher.flops(teacher.layers, facts.attended(limit))
    if candidate.shape is None:
        seconds += candidate.words * 4 * teacher.flops(teacher.layers, 4)  # some 4 tokens a word, special ones counted
    return seconds / situation.machine.forward_rate


def _moving(candidate: Candidate, situation: Situation, recipe: dict[str, Any]) -> int:
    """Return how many parameters a run moves; those of a teacher are not the candidate's."""
    if recipe is candidate.recipes[-1]:
        return candidate.extra["moving"]
    layers = recipe["method"].get("layers")
    return situation.shape.parameters if layers is None else layers * situation.shape.layer_parameters


def step_parts(shape: Shape, situation: Situation, method: Any, length: float) -> tuple[float, float, float]:
    """Return seconds a token of (the frozen prefix, the rest forward, the rest in a training step)."""
    machine = situation.machine
    name = method_of(method).name
    top = getattr(method, "layers", shape.layers) if name == "freezing" else shape.layers
    prefix = shape.flops(shape.layers - top, length) / machine.forward_rate
    rest = shape.flops(top, length)
    # Forward 1, backward 2; with frozen weights whose inputs need gradients, backward 1: 2 against 3.
    share = 2 / 3 if name in ("bitfit", "adapters", "lora") else 1.0
    return prefix, rest / machine.forward_rate, share * 3 * rest / machine.train_rate


def _tuning_seconds(situation: Situation, method: Any, train: TrainConfig, moving: int) -> float:
    facts, shape = situation.facts, situation.shape
    length = facts.tokens(reach(train))
    learn, dev = facts.train * length * _PADDING, facts.dev * length
    attended = _attended(situation, train)
    prefix, forward, step = step_parts(shape, situation, method, attended)
    times = 1 if stored_states(situation, method, train) else train.epochs
    every = learn * step + dev * forward
    return times * (learn + dev) * prefix + train.epochs * (every + _steps(facts.train, train, situation, moving))


def stored_states(situation: Situation, method: Any, train: TrainConfig) -> float:
    """Return the bytes of a frozen prefix's output that a run maps into memory; 0 where it keeps none."""
    facts, shape = situation.facts, situation.shape
    if method_of(method).name != "freezing" or method.layers >= shape.layers or train.epochs <= 1:
        return 0.0
    # A head on the first token reads nothing else.
    tokens = facts.tokens(reach(train)) if method.layers or facts.kind == "token" else 1
    states = (facts.train + facts.dev) * tokens * shape.width * 2  # half precision
    return states if states <= parse_size(train.cache_limit) else 0.0


def reach(train: TrainConfig) -> int:
    """Return how many tokens of a text are read."""
    return train.max_length * (MAX_CHUNKS if train.long in POOLS else 1)


def _attended(situation: Situation, train: TrainConfig) -> float:
    """Return how many tokens a token attends to, in the mean."""
    most = min(train.max_length, WINDOW) if train.long == "windowed" else train.max_length
    return min(situation.facts.attended(reach(train)), most)


def _steps(rows: int, train: TrainConfig, situation: Situation, moving: int) -> float:
    """Return the seconds an epoch that do not depend on the texts."""
    return rows / train.batch_size * (moving * situation.machine.adam + _STEP)


def _distilling_seconds(candidate: Candidate, situation: Situation, method: Any, train: TrainConfig) -> float:
    facts, machine, teacher = situation.facts, situation.machine, situation.teacher_shape
    rows = facts.train + facts.unlabelled
    length = facts.tokens(reach(train))
    if candidate.shape is None:
        return _bilstm_seconds(candidate, situation, train, rows)
    shape, attended = candidate.shape, _attended(situation, train)
    forward = shape.flops(shape.layers, attended) / machine.forward_rate
    step = 3 * shape.flops(shape.layers, attended) / machine.train_rate
    epoch = rows * length * _PADDING * step + facts.dev * length * forward
    epoch += _steps(rows, train, situation, shape.parameters)
    if isinstance(method, TinyBert) and method.has_intermediate_stage:
        # The teacher runs beside the student, on dev too: once a text where its layers are kept, else in every epoch.
        passes, tokens = method.intermediate_epochs, (rows + facts.dev) * length
        learned = replace(train, epochs=passes)
        kept = min(1.0, layers_limit(learned) / (tokens * _kept_of_a_token(teacher, shape.layers, attended)))
        beside = tokens * teacher.flops(teacher.layers, attended) / machine.forward_rate
        return (train.epochs + passes) * epoch + (passes - kept * (passes - 1)) * beside
    return train.epochs * epoch


def _kept_of_a_token(teacher: Shape, layers: int, attended: float) -> float:
    """Return the bytes, in half precision, of its embedding, and its states and scores in the mapped layers."""
    return 2 * ((1 + layers) * teacher.width + layers * teacher.heads * attended)


def _bilstm_seconds(candidate: Candidate, situation: Situation, train: TrainConfig, rows: int) -> float:
    machine, facts = situation.machine, situation.facts
    epochs = train.epochs * (_PATIENCE if train.patience else 1)
    touched = min(candidate.words, train.batch_size * facts.words_per_text)  # a step moves the words of its batch
    step = machine.lstm_step * _PADDING + 300 * touched * machine.table_step + _STEP
    dev = facts.dev / 50 * machine.lstm_step / 3
    return epochs * (rows / train.batch_size * step + dev)


def _latency(candidate: Candidate, situation: Situation) -> float:
    machine, shape = situation.machine, candidate.shape
    if shape is None:
        return machine.lstm_single + machine.overhead
    train = config_of(candidate.recipes[-1]).train
    length = min(situation.facts.length_median, reach(train))
    layers = (
        shape.flops(shape.layers, min(length, train.max_length)) * length / machine.single_rate
        + shape.layers * machine.dispatch
    )
    inserted = candidate.extra.get("inserted", 0)
    if inserted:
        # Two more modules a layer: as many calls as a layer has, with those around each (measured: 2 ms over 6 layers).
        layers += 2 * inserted * length / machine.single_rate + shape.layers * machine.dispatch
    return machine.overhead + layers


def _memory(candidate: Candidate, situation: Situation) -> float:
    """Return the peak of the largest run."""
    base = situation.machine.resident + _LOADED
    needs = [base + _run_memory(candidate, situation, recipe) for recipe in candidate.recipes]
    return max(needs)


def _run_memory(candidate: Candidate, situation: Situation, recipe: dict[str, Any]) -> float:
    config = config_of(recipe)
    teacher = situation.teacher_shape
    if recipe["command"] == "finetune":
        shape, moving = situation.shape, _moving(candidate, situation, recipe)
        active = getattr(config.method, "layers", shape.layers)
        thrifty = method_of(config.method).name in ("bitfit", "adapters", "lora")
        live = _activations(shape, active, thrifty, situation, config.train)
        stored = stored_states(situation, config.method, config.train)
        return 4 * shape.parameters + 12 * moving + live + stored
    if candidate.shape is None:
        tables = 300 * candidate.words * 4
        # Both tables; gradient and AdaDelta's two averages of the one that moves. The teacher answers before.
        return max(4 * teacher.parameters, 5 * tables) + 4 * teacher.parameters
    shape = candidate.shape
    live = _activations(shape, shape.layers, False, situation, config.train)
    beside = 0.0
    if method_of(config.method).name == "tinybert":  # the teacher runs beside, and both keep scores before the softmax
        length = situation.facts.longest(reach(config.train))
        # Of one head; chunks do not see one another.
        scores = config.train.batch_size * length * min(length, config.train.max_length)
        scores *= 3 * shape.layers * shape.heads + teacher.layers * teacher.heads
        beside = 4 * teacher.parameters + 4 * _HOLES * scores
    return max(16 * shape.parameters + live + beside, 4 * teacher.parameters)


def _activations(shape: Shape, layers: float, thrifty: bool, situation: Situation, train: TrainConfig) -> float:
    """Return the bytes that backward needs of the largest batch, 4 a number, and what the heap holds free between.

    A layer keeps, a token: what its seven maps and two norms read and what dropout draws, 11 widths and 2 of the
    feed-forward's (after Korthikanti et al. 2022, section 4). Where the weights are frozen their inputs are not kept:
    7 widths and 1. What is kept of the attention's scores depends on the family.
    """
    longest = situation.facts.longest(reach(train))
    tokens = min(train.batch_size * longest, max(PIECE, longest))
    a_token = 7 * shape.width + shape.feed_forward if thrifty else 11 * shape.width + 2 * shape.feed_forward
    most = 1.5 * WINDOW if train.long == "windowed" else train.max_length  # blocks of half a window see three of them
    return _HOLES * tokens * layers * (4 * a_token + min(longest, most) * shape.heads * shape.score_bytes)


def _size(candidate: Candidate, situation: Situation) -> float:
    if candidate.shape is None:
        return BILSTM_BYTES + candidate.words * (WORD_BYTES + 40)
    delta = candidate.extra.get("moving", 0) if candidate.name not in ("full",) else 0
    return 4 * (candidate.shape.parameters + delta) + situation.tokenizer_bytes

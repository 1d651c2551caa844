"""The main path of advice: files → facts → candidates → estimates → rules → short list."""

import dataclasses
import logging
import math
from collections.abc import Sequence
from typing import Any

from attar.advice.candidates import candidates
from attar.advice.encoder import Shape, read_shape
from attar.advice.estimates import estimate
from attar.advice.facts import gather, tokenizer_bytes
from attar.advice.machine import measure
from attar.advice.rank import rank, verdict
from attar.advice.rules import fired
from attar.advice.situation import Limits, Situation
from attar.config import DataConfig, to_table
from attar.data.prepare import load_data
from attar.data.task import align_labels
from attar.errors import ConfigError, ModelError
from attar.nets.loading import has_head, length_limit, load_config, load_tokenizer, output_labels
from attar.records import read_manifest, versions
from attar.sizes import parse_duration, parse_size

log = logging.getLogger("attar")

#: Candidates that are probed at most, from the top of the list.
_PROBED = 3


def recommend(
    data: str | DataConfig,
    *,
    model: str | None = None,
    teacher: str | None = None,
    tasks: int = 1,
    unlabelled: Sequence[str] = (),
    max_latency_ms: float | None = None,
    max_memory: str | None = None,
    max_size: str | None = None,
    train_budget: str | None = None,
    probe: bool = False,
    probe_budget: str = "5min",
) -> dict[str, Any]:
    """Say which ways to go fit the data, the encoder and this machine, the best first, with reasons and costs.

    Args:
        data: a path as on the command line, or a :class:`attar.config.DataConfig` that names columns.
        model: pre-trained encoder to tune: a local transformers folder or hub name. Its configuration and tokenizer
            are read, no weights.
        teacher: a fine-tuned bundle to distil.
        tasks: how many tasks of this kind share the encoder.
        unlabelled: files of more texts without labels.
        max_latency_ms: milliseconds a text, one text a call.
        max_memory: peak memory of training, such as ``2GiB``.
        max_size: size on disk of all tasks' models together, such as ``50MB``.
        train_budget: time of all training that a candidate needs, such as ``2h``.
        probe: run the best three for a few steps and replace their estimates.
        probe_budget: time for all probes together.

    Returns:
        ``facts``, ``encoder``, ``machine``, ``limits``, ``rules`` (those that apply), ``impossible`` (a sentence, or
        None), and ``candidates``, the best first: method, title, quality, estimates with their basis, reasons, what
        would change the advice, recipes and commands.

    Raises:
        AttarError: for data or models that cannot be read, a limit that is none, or neither model nor teacher.
    """
    limits = limits_of(max_latency_ms, max_memory, max_size, train_budget)
    seconds = _read(parse_duration, probe_budget, "--probe-budget")
    if model is None and teacher is None:
        raise ConfigError("expected an encoder to tune (--model) or a teacher to distil (--teacher), found neither")
    if tasks < 1:
        raise ConfigError(f"--tasks expects a whole number above 0, found {tasks}")
    config = data if isinstance(data, DataConfig) else DataConfig(path=data)
    config = dataclasses.replace(config, unlabelled=(*config.unlabelled, *unlabelled))
    situation = situation_of(config, model, teacher, tasks=tasks, limits=limits)
    rules = fired(situation)
    pairs = [(candidate, estimate(candidate, situation)) for candidate in candidates(situation)]
    ranked = rank(pairs, situation, rules)
    if probe:
        from attar.advice.probe import probe as run_probes

        measured = run_probes([(r.candidate, r.estimate) for r in ranked[:_PROBED]], situation, seconds)
        pairs = [(r.candidate, measured.get(place, r.estimate)) for place, r in enumerate(ranked)]
        ranked = rank(pairs, situation, rules)
    return {
        "facts": situation.facts.to_dict(),
        "notes": list(situation.notes),
        "encoder": dataclasses.asdict(situation.shape),
        "machine": situation.machine.to_dict(),
        "limits": dataclasses.asdict(limits),
        "rules": [
            {"rule": rule.id, "fact": fact, "advice": rule.advice, "source": rule.source} for rule, fact in rules
        ],
        "impossible": verdict(ranked, situation),
        "candidates": [entry.to_dict() for entry in ranked],
        "versions": versions(),
    }


def limits_of(latency_ms: float | None, memory: str | None, size: str | None, train_budget: str | None) -> Limits:
    """Return the limits of what the user wrote.

    Raises:
        ConfigError: for a limit that cannot be read or is not above 0.
    """
    if latency_ms is not None and not 0 < latency_ms < math.inf:
        raise ConfigError(f"--max-latency-ms expects a number above 0, found {latency_ms:g}")
    found = Limits(
        latency_ms=latency_ms,
        memory=_read(parse_size, memory, "--max-memory") if memory is not None else None,
        size=_read(parse_size, size, "--max-size") if size is not None else None,
        train_seconds=_read(parse_duration, train_budget, "--train-budget") if train_budget is not None else None,
    )
    for name, value in (("--max-memory", found.memory), ("--max-size", found.size)):
        if value == 0:
            raise ConfigError(f"{name} expects a size above 0, found 0")
    return found


def _read(parse: Any, text: str, flag: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(f"{flag}: {error}") from error


def situation_of(
    data: DataConfig,
    model: str | None,
    teacher: str | None,
    *,
    tasks: int = 1,
    limits: Limits = Limits(),
    max_length: int | None = None,
) -> Situation:
    """Measure everything that advice rests on.

    Args:
        data: which files and columns.
        model: encoder to tune.
        teacher: bundle to distil.
        tasks: tasks that share the encoder.
        limits: what must not be exceeded.
        max_length: tokens that a run is going to read, where that is known already; machine and texts are then
            measured at it.
    """
    usual = to_table(DataConfig(path=data.path, unlabelled=data.unlabelled))
    name = model or teacher
    assert name is not None
    shape, encoder = read_shape(name)
    tokenizer = load_tokenizer(name)
    found = load_data(data)
    teacher_shape, teacher_length = shape, 512
    if teacher is not None:
        teacher_shape, teacher_length = _teacher(teacher, found.task)
    limit = min(max_length or 8192, shape.positions or 8192, tokenizer.model_max_length)
    facts = gather(found, tokenizer, limit)
    return Situation(
        data=data.path,
        settings={k: v for k, v in to_table(data).items() if k not in usual or usual[k] != v},
        model=model,
        teacher=teacher,
        unlabelled=data.unlabelled,
        notes=found.notes,
        facts=facts,
        shape=shape,
        teacher_shape=teacher_shape,
        machine=measure(
            shape,
            encoder,
            max(4, min(facts.length_median, limit)),
            max(4, round(facts.attended(limit))),
            max(1, min(int(facts.words_per_text), limit)),
        ),
        limits=limits,
        tasks=tasks,
        tokenizer_bytes=tokenizer_bytes(name),
        teacher_length=teacher_length,
    )


def _teacher(teacher: str, task: Any) -> tuple[Shape, int]:
    """Return a teacher's sizes and length limit, after a check that it answers this task."""
    if not has_head(teacher, task.kind):
        raise ModelError(f"the teacher {teacher} has no head for this task; fine-tune it first: attar finetune")
    align_labels(output_labels(load_config(teacher)), task)
    length = read_manifest(teacher).get("max_length") or length_limit(load_tokenizer(teacher))
    return read_shape(teacher)[0], length

"""The main path: config → task → teacher → plan → train → compare → bundle and record."""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attar.augment.synthetic import check_augmentation, synthetic_texts
from attar.bundle import save_bundle
from attar.card import write_card
from attar.comparison import (
    Compared,
    add_agreement,
    compare_bundle,
    compare_linear,
    compare_teacher,
    write_predictions,
)
from attar.config import RunConfig, dump_toml
from attar.data.prepare import load_data
from attar.data.task import TaskData
from attar.methods.contract import Context
from attar.methods.registry import plan_of
from attar.nets.hardware import describe_hardware
from attar.process_group import barrier, is_main, solo
from attar.recipe import recipe_table
from attar.records import RECIPE_FILE, new_record, read_record, write_record, write_text
from attar.teacher.open import Teacher, open_teacher
from attar.teacher.scores import score_columns
from attar.training.linear import LinearModel, fit_linear
from attar.training.loop import Trackers, run_stage
from attar.workspace import Workspace, is_finished

log = logging.getLogger("attar")


def run(config: RunConfig, *, resume: bool = False, overwrite: bool = False) -> dict[str, Any]:
    """Make a bundle at ``config.out`` and return its record.

    Raises:
        AttarError: for everything that the user can mend, before anything is written where that can be known.
    """
    recipe = dump_toml(recipe_table(config))
    if resume and not overwrite and is_finished(config.out, recipe):
        log.info("already done: %s", config.out)
        return read_record(config.out)
    work = Workspace(config.out, recipe, resume=resume, overwrite=overwrite)
    record = new_record(config.command, Path(config.out).name, recipe_table(config))
    clock = _clock(record["timings"])

    with clock("read"):
        scores = score_columns(config.teacher.scores) if config.teacher.scores else ()
        data = load_data(config.data, keep=scores)
    teacher = open_teacher(config.teacher, data.task) if config.command == "distill" else None
    for note in data.notes:
        log.info(note)
    if config.augment is not None:
        check_augmentation(data.train, config.augment)
    record.update(task=data.task.to_dict(), data=_facts(data), hardware=describe_hardware())
    work.start()

    with clock("linear"):
        linear = fit_linear(data.train, data.task) if config.baseline else None
    if teacher is not None:
        with clock("score"):
            bundles = config.teacher.bundles
            checked = work.step("teacher-check", lambda: _check_teacher(teacher, bundles, linear, data))
            record["warnings"] += checked["warnings"]

    context = Context(
        data=data,
        train=config.train,
        encoder=config.model,
        teacher=teacher if getattr(config.method, "alpha", 0.0) < 1 else None,
        teacher_bundles=config.teacher.bundles,
    )
    with clock("augment"):
        if config.augment is not None:
            context = dataclasses.replace(context, synthetic=_synthetic(config, data))
            record["data"]["rows"]["augmented"] = len(context.synthetic or ())

    role = "tuned" if teacher is None else "student"
    with clock("train"):
        record["stages"] += _train(role, config, context, work)
    if teacher is not None and config.baseline:
        with clock("labels-only"):
            alone = dataclasses.replace(context, teacher=None, synthetic=None)
            record["stages"] += _train("labels-only", config, alone, work)

    with clock("compare"):
        if teacher is not None and data.test is not None and teacher.answers(data.test):
            teacher.logits([data.test], "teacher on test")  # by all processes; the first one then reads it
        if is_main():
            with solo():
                models = _compare(role, config, data, teacher, linear, work)
            record["models"] = [model.entry for model in models]
            write_predictions(models, data, work.folder / role)
        barrier()
    if is_main():
        write_text(recipe, work.folder / role / RECIPE_FILE)
        write_record(record, work.folder / role)
        write_card(record, work.folder / role)
    work.finish(work.folder / role)
    return record


def _train(role: str, config: RunConfig, context: Context, work: Workspace) -> list[dict[str, Any]]:
    """Run the stages of a method's plan; the last one's model is saved in the work folder under ``role``."""

    def make() -> dict[str, Any]:
        found = []
        for i, stage in enumerate(plan_of(config.method)(context)):
            for note in stage.notes:
                log.info(note)
            folder = work.folder / "checkpoints" / f"{role}-{i}-{stage.name}"
            trackers = Trackers(names=config.report_to, folder=work.logs / role)
            result = run_stage(stage, folder, title=f"{role}: {stage.name}", trackers=trackers)
            found.append({"name": stage.name, "role": role, "notes": stage.notes, **result})
        if is_main():
            save_bundle(
                work.folder / role,
                stage.model,
                stage.tokenizer,
                context.task,
                max_length=stage.train.max_length,
                precision=stage.train.precision,
                delta=stage.delta,
            )
        return {"stages": found}

    return work.step(role, make)["stages"]


def _check_teacher(
    teacher: Teacher, bundles: Sequence[str], linear: LinearModel | None, data: TaskData
) -> dict[str, Any]:
    """Score the teacher on dev before hours are spent on a student, and say loudly when it is no good."""
    only_dev = dataclasses.replace(data, test=None)
    metric = data.task.headline
    mine = compare_teacher(teacher, bundles, only_dev, cost=False)
    if linear is None or "dev" not in mine.outputs:
        return {"warnings": []}
    score = mine.entry["metrics"]["dev"][metric]
    other = compare_linear(linear, only_dev).entry["metrics"]["dev"][metric]
    log.info("on dev: teacher %s %.4f, TF-IDF linear model %.4f", metric, score, other)
    if score > other:
        return {"warnings": []}
    warning = (
        f"the teacher is worse than a TF-IDF linear model on dev ({metric} {score:.4f} against {other:.4f}): "
        "a student will learn its mistakes; fine-tune a better teacher, or check that its labels are in this order"
    )
    log.warning(warning)
    return {"warnings": [warning]}


def _synthetic(config: RunConfig, data: TaskData) -> Any:
    assert config.augment is not None
    if is_main():
        with solo():
            synthetic_texts(data.train, config.augment)
    barrier()
    found = synthetic_texts(data.train, config.augment)
    log.info("augmented: %s synthetic texts from %s", f"{len(found):,}", f"{len(data.train):,}")
    return found


def _compare(
    role: str, config: RunConfig, data: TaskData, teacher: Teacher | None, linear: LinearModel | None, work: Workspace
) -> list[Compared]:
    """Put the run's models side by side. The test split is read here, once, after all choices are made."""
    models = [compare_bundle(role, str(work.folder / role), data, name=Path(config.out).name)]
    if teacher is not None:
        models.append(compare_teacher(teacher, config.teacher.bundles, data))
        if config.baseline:
            path = str(work.folder / "labels-only")
            alone = compare_bundle(
                "labels-only", path, data, speed=False, name="same start as the student, labels alone"
            )
            alone.entry["speed"] = models[0].entry["speed"]
            models.append(alone)
    if linear is not None:
        models.append(compare_linear(linear, data))
    add_agreement(models, data.task)
    return models


def _facts(data: TaskData) -> dict[str, Any]:
    splits = {"train": data.train, "dev": data.dev, "test": data.test, "unlabelled": data.unlabelled}
    rows = {name: len(split) if split is not None else 0 for name, split in splits.items()}
    return {"source": data.source, "fingerprint": data.fingerprint, "rows": rows, "notes": list(data.notes)}


def _clock(timings: dict[str, float]) -> Callable[[str], Any]:
    @contextmanager
    def clock(name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        timings[name] = round(time.perf_counter() - start, 2)

    return clock

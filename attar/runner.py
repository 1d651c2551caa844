"""The main path: config → task → teacher → plan → train → compare → bundle and record."""

import dataclasses
import gc
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datasets import Dataset

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
from attar.data.corpus import open_documents
from attar.data.prepare import load_data
from attar.data.task import TaskData
from attar.errors import ConfigError
from attar.methods.contract import Context
from attar.methods.registry import plan_of
from attar.nets.hardware import describe_hardware, keep_few_kernels
from attar.pretraining import ROLE as PRETRAINED
from attar.pretraining import run_pretraining
from attar.process_group import barrier, is_main, solo
from attar.recipe import recipe_table
from attar.records import RECIPE_FILE, new_record, read_record, write_record, write_text
from attar.stages import run_stages
from attar.teacher.open import Teacher, open_teacher
from attar.teacher.scores import score_columns
from attar.training.few_steps import warn_of_few_steps
from attar.training.linear import LinearModel, fit_linear
from attar.workspace import Workspace, is_finished

log = logging.getLogger("attar")

_BASELINES = {
    "no-pretraining": "cut from the teacher, distilled the same way",
    "labels-only": "same start as the student, labels alone",
}


def run(config: RunConfig, *, resume: bool = False, overwrite: bool = False) -> dict[str, Any]:
    """Make a bundle at ``config.out`` and return its record.

    Raises:
        AttarError: for everything that the user can mend, before anything is written where that can be known.
    """
    recipe = dump_toml(recipe_table(config))
    if resume and not overwrite and is_finished(config.out, recipe):
        log.info("already done: %s", config.out)
        return read_record(config.out)
    with Workspace(config.out, recipe, resume=resume, overwrite=overwrite) as work:
        return _run(config, recipe, work)


def _run(config: RunConfig, recipe: str, work: Workspace) -> dict[str, Any]:
    keep_few_kernels()
    record = new_record(config.command, Path(config.out).name, recipe_table(config))
    clock = _clock(record["timings"])

    with clock("read"):
        scores = score_columns(config.teacher.scores) if config.teacher.scores else ()
        data = load_data(config.data, keep=scores)
    teacher = open_teacher(config.teacher, data.task) if config.command == "distill" else None
    documents = _documents(config)
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

    with clock("augment"):
        synthetic = _synthetic(config, data) if config.augment is not None else None
        if synthetic is not None:
            record["data"]["rows"]["augmented"] = len(synthetic)
    context = Context(
        data=data,
        train=config.train,
        encoder=config.model,
        teacher=teacher if getattr(config.method, "alpha", 0.0) < 1 else None,
        teacher_bundles=config.teacher.bundles,
        synthetic=synthetic,
    )

    with clock("pretrain"):
        _pretrain(config, documents, work, record)
    role = "tuned" if teacher is None else "student"
    runs = _runs(role, config, context, work)
    for name, (settings, given) in runs.items():
        trained = "train" if name == role else name
        with clock(trained):
            stages = _train(name, settings, given, config.report_to, work)
            gc.collect()  # a Trainer and what refers to it hold each other, and the model
        record["stages"] += stages
        if name == role:
            record["warnings"] += warn_of_few_steps(stages[-1]["curve"], data.task.headline)
        # A resumed run's clock misses what the processes before it trained; its stages know.
        seconds = sum(stage["seconds"] for stage in stages)
        record["timings"][trained] = round(max(record["timings"][trained], seconds), 2)

    with clock("compare"):
        if teacher is not None and data.test is not None and teacher.answers(data.test):
            teacher.logits([data.test], "teacher on test")  # by all processes; the first one then reads it
        if is_main():
            with solo():
                models = _compare(list(runs), config, data, teacher, linear, work)
            record["models"] = [model.entry for model in models]
            write_predictions(models, data, work.folder / role)
        barrier()
    if is_main():
        write_text(recipe, work.folder / role / RECIPE_FILE)
        write_record(record, work.folder / role)
        write_card(record, work.folder / role)
    work.finish(work.folder / role)
    return record


def _pretrain(config: RunConfig, documents: Sequence[Dataset], work: Workspace, record: dict[str, Any]) -> None:
    """Make the student of a recipe that has a section [pretrain]."""
    if config.pretrain is not None:
        found = run_pretraining(config.pretrain, documents, work, config.report_to)
        record["stages"] += found["stages"]
        record["data"]["pretraining"] = found["data"]


def _documents(config: RunConfig) -> list[Dataset]:
    """Open the texts of the pre-training, where there is one and the method takes what it makes."""
    if config.pretrain is None:
        return []
    if not hasattr(config.method, "student"):
        name = recipe_table(config)["method"]["name"]
        raise ConfigError(
            f"a section [pretrain] makes the student of a method that takes one, such as distilbert; found {name}"
        )
    return open_documents(config.pretrain.text)


def _runs(role: str, config: RunConfig, context: Context, work: Workspace) -> dict[str, tuple[Any, Context]]:
    """Return what the run trains, its product first: by role, the method's settings and what the plan is given."""
    method = config.method
    if config.pretrain is not None:
        method = dataclasses.replace(method, student=str(work.folder / PRETRAINED))
    runs = {role: (method, context)}
    if config.pretrain is not None and config.baseline:
        runs["no-pretraining"] = (config.method, context)
    if config.command == "distill" and config.baseline:
        runs["labels-only"] = (method, dataclasses.replace(context, teacher=None, synthetic=None))
    return runs


def _train(role: str, method: Any, context: Context, report_to: Sequence[str], work: Workspace) -> list[dict[str, Any]]:
    """Run the stages of a method's plan; the last one's model is saved in the work folder under ``role``."""

    def make() -> dict[str, Any]:
        found, stage = run_stages(role, plan_of(method)(context), work, report_to)
        if is_main():
            save_bundle(
                work.folder / role,
                stage.model,  # type: ignore[arg-type]
                stage.tokenizer,
                context.task,
                max_length=stage.train.max_length,
                precision=stage.train.precision,
                long=stage.train.long,
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
    roles: Sequence[str],
    config: RunConfig,
    data: TaskData,
    teacher: Teacher | None,
    linear: LinearModel | None,
    work: Workspace,
) -> list[Compared]:
    """Put the run's models, its product first, side by side. Test is read here, once, after all choices are made."""
    models = [compare_bundle(roles[0], str(work.folder / roles[0]), data, name=Path(config.out).name)]
    if teacher is not None:
        models.append(compare_teacher(teacher, config.teacher.bundles, data))
    for role in roles[1:]:
        own = role != "labels-only"  # labels alone train the very network of the product
        found = compare_bundle(role, str(work.folder / role), data, speed=own, name=_BASELINES[role])
        found.entry["speed"] = found.entry["speed"] or models[0].entry["speed"]
        models.append(found)
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

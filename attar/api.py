"""The Python interface: the command line's verbs as functions."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attar.bundle import merge_bundle
from attar.config import (
    AugmentConfig,
    DataConfig,
    PretrainRun,
    RunConfig,
    TeacherConfig,
    TextConfig,
    TrainConfig,
    from_table,
    to_table,
)
from attar.exporting.export import export_bundle
from attar.inference.predictor import Predictor, load
from attar.methods.bilstm_soft.config import BilstmSoft
from attar.methods.distilbert.config import DistilBertPretraining
from attar.methods.freezing.config import Full
from attar.methods.registry import method_of
from attar.pretraining import pretrain as run_pretrain
from attar.report.page import write_page
from attar.runner import run

__all__ = ["distill", "export", "finetune", "merge", "pretrain", "write_report"]

write_report = write_page


def finetune(
    model: str,
    *,
    data: str | DataConfig,
    method: Any = None,
    out: str | None = None,
    train: dict[str, Any] | None = None,
    baseline: bool = True,
    resume: bool = False,
    overwrite: bool = False,
) -> Predictor:
    """Fine-tune a pre-trained encoder and return it, ready to predict and to teach.

    Args:
        model: local transformers folder or hub name.
        data: a path as on the command line, or a :class:`attar.config.DataConfig` that names columns.
        method: settings of a method, by default :class:`Full`.
        out: folder of the bundle; a temporary one where not given.
        train: training settings that differ from the method's defaults, e.g. ``{"lr": 3e-5, "epochs": 2}``.
        baseline: also fit the TF-IDF linear model to compare with.
        resume: continue an interrupted run.
        overwrite: replace what is at ``out``.
    """
    method = method if method is not None else Full()
    config = RunConfig(
        command="finetune",
        model=model,
        data=_data(data),
        method=method,
        train=_train(method, train),
        out=out or _temporary(),
        baseline=baseline,
    )
    run(config, resume=resume, overwrite=overwrite)
    return load(config.out)


def distill(
    teacher: Predictor | str | Sequence[Predictor | str] | TeacherConfig,
    *,
    data: str | DataConfig,
    method: Any = None,
    augment: AugmentConfig | None = None,
    out: str | None = None,
    train: dict[str, Any] | None = None,
    baseline: bool = True,
    resume: bool = False,
    overwrite: bool = False,
) -> Predictor:
    """Distil a teacher into a small student and return it.

    Args:
        teacher: a bundle (loaded, or its folder), several for an ensemble, or a
            :class:`attar.config.TeacherConfig` for score columns.
        data: a path as on the command line, or a :class:`attar.config.DataConfig` that names columns and
            unlabelled text.
        method: settings of a method, by default :class:`BilstmSoft`.
        augment: synthetic texts for the teacher to label, e.g. ``Tang()`` or ``TinyBertAugmentation(model="…")``.
        out: folder of the bundle; a temporary one where not given.
        train: training settings that differ from the method's defaults.
        baseline: also train the same student on the labels alone, and a TF-IDF linear model.
        resume: continue an interrupted run.
        overwrite: replace what is at ``out``.
    """
    method = method if method is not None else BilstmSoft()
    config = RunConfig(
        command="distill",
        teacher=_teacher(teacher),
        data=_data(data),
        method=method,
        augment=augment,
        train=_train(method, train),
        out=out or _temporary(),
        baseline=baseline,
    )
    run(config, resume=resume, overwrite=overwrite)
    return load(config.out)


def merge(delta: str, out: str, *, encoder: str | None = None, overwrite: bool = False) -> Predictor:
    """Make a whole transformers folder of a delta and its encoder, and return it loaded.

    Freezing, BitFit and what the peft library inserts (LoRA, DoRA, IA3, SHiRA) can be merged; adapters cannot.

    Args:
        delta: folder that a method which freezes has left.
        out: folder to write.
        encoder: where the delta's encoder is now, if it was moved.
        overwrite: replace what is at ``out``.
    """
    return load(merge_bundle(delta, out, encoder=encoder, overwrite=overwrite))


def export(bundle: Predictor | str, out: str, *, format: str = "onnx", **settings: Any) -> Predictor:
    """Write a model for an inference engine, check it against its source, and return it loaded.

    Args:
        bundle: a bundle, a fine-tuned transformers folder, or a delta.
        out: folder to write.
        format: ``onnx``, ``onnx-int8``, ``openvino`` or ``openvino-int8``.
        **settings: ``data``, ``tolerance``, ``encoder``, ``table``, ``table_limit`` and ``overwrite`` of
            :func:`attar.exporting.export.export_bundle`.
    """
    path = bundle.bundle.path if isinstance(bundle, Predictor) else bundle
    export_bundle(path, out, format=format, **settings)
    return load(out)


def pretrain(
    teacher: str,
    *,
    text: str | Sequence[str] | TextConfig,
    method: Any = None,
    out: str | None = None,
    train: dict[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> str:
    """Distil an encoder into a smaller one on texts without labels; return the folder that it lies in.

    Args:
        teacher: pre-trained encoder, a local transformers folder or hub name.
        text: files or folders of texts, or a :class:`attar.config.TextConfig` that names the column.
        method: settings of a method, by default :class:`DistilBertPretraining`.
        out: the folder; a temporary one where not given.
        train: training settings that differ from the method's defaults.
        resume: continue an interrupted run.
        overwrite: replace what is at ``out``.
    """
    method = method if method is not None else DistilBertPretraining()
    if not isinstance(text, TextConfig):
        text = TextConfig(paths=(text,) if isinstance(text, str) else tuple(text))
    config = PretrainRun(
        teacher=teacher, text=text, method=method, train=_train(method, train), out=out or _temporary()
    )
    run_pretrain(config, resume=resume, overwrite=overwrite)
    return config.out


def _data(data: str | Path | DataConfig) -> DataConfig:
    return data if isinstance(data, DataConfig) else DataConfig(path=str(data))


def _teacher(teacher: Any) -> TeacherConfig:
    if isinstance(teacher, TeacherConfig):
        return teacher
    members = [teacher] if isinstance(teacher, str | Path | Predictor) else list(teacher)
    return TeacherConfig(bundles=tuple(m.bundle.path if isinstance(m, Predictor) else str(m) for m in members))


def _train(method: Any, changes: dict[str, Any] | None) -> TrainConfig:
    defaults = method_of(method).train_defaults(method)
    if not changes:
        return defaults
    return from_table(TrainConfig, {**to_table(defaults), **changes}, "train.")


def _temporary() -> str:
    return str(Path(tempfile.mkdtemp(prefix="attar-")) / "bundle")

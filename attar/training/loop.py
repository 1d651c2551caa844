"""The one loop: a stage's texts, its Trainer, and what came of it."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from attar.data.encoding import Encoded, encode
from attar.data.labels import collect_labels
from attar.errors import ConfigError, MissingExtra, ModelError
from attar.nets.first_token import first_token_only
from attar.nets.hardware import denormals_flushed, pick_device, resolve_precision, return_freed_memory, trim_heap
from attar.nets.lean_attention import lean_attention
from attar.nets.parameters import check_frozen, count_moving, frozen_digests, moving_line
from attar.process_group import is_main, world_size
from attar.training.adadelta import sparse_vectors, updates_by_rows
from attar.training.evaluation import EvalSplit, mean_losses
from attar.training.examples import stage_examples
from attar.training.frozen import frozen_in_bfloat16
from attar.training.prefix import frozen_prefix
from attar.training.stage import OnLogits, Stage
from attar.training.trainer import StageTrainer

log = logging.getLogger("attar")

#: Parameters from which memory is worth more than what it costs to give it back.
_LARGE = 50_000_000


@dataclass(frozen=True, kw_only=True)
class Trackers:
    """Where a run is followed beside the terminal."""

    names: Sequence[str] = ()
    """Trackers of transformers: tensorboard, wandb, mlflow."""
    folder: Path = Path("runs")
    """For those that write files."""
    callbacks: Sequence[TrainerCallback] = ()
    """Of transformers, for what no tracker knows."""


def run_stage(stage: Stage, folder: Path, *, title: str, trackers: Trackers = Trackers()) -> dict[str, Any]:
    """Train a stage's model in place, ending on the weights of its best epoch on dev.

    Args:
        stage: what to train.
        folder: where checkpoints go. A checkpoint found there is resumed.
        title: name on the progress bar.
        trackers: who else follows the run.

    Returns:
        ``{"seconds", "curve", "best", "moving", "parameters"}``: training time, over all processes where the stage
        was resumed, the curve as the record keeps it, the best score on dev, how many parameters moved, and how many
        there are.

    Raises:
        ModelError: where a frozen parameter is not bit for bit what it was.
    """
    moving, parameters = count_moving(stage.model)
    log.info(moving_line(stage.name, moving, parameters))
    if parameters >= _LARGE:
        return_freed_memory()
    frozen = frozen_digests(stage.model)
    torch.manual_seed(stage.train.seed)
    examples = stage_examples(stage)
    dev = stage.dev
    if not isinstance(dev, Encoded):
        dev = encode(dev, stage.tokenizer, stage.train.max_length, long=stage.train.long)
    first = first_token_only(stage.model) if isinstance(stage.objective, OnLogits) else nullcontext()
    start = time.perf_counter()
    with frozen_prefix(stage, (examples.encoded, dev)) as (learn, watch):
        before = time.perf_counter() - start  # the states of a frozen prefix
        trainer = StageTrainer(
            stage=stage,
            examples=examples.reading(learn),
            evaluate_dev=_dev_metrics(stage, watch) if stage.task else _dev_loss(stage, watch),
            arguments=_arguments(stage, folder, trackers),
            title=title,
        )
        if "tensorboard" in trackers.names:
            trainer.add_callback(_tensorboard(trackers.folder))
        for callback in trackers.callbacks:
            trainer.add_callback(callback)
        last = get_last_checkpoint(str(folder)) if folder.is_dir() else None
        sparse = sparse_vectors(stage.model) if updates_by_rows(stage.train) else nullcontext()
        with sparse, first, denormals_flushed(), frozen_in_bfloat16(stage), lean_attention(stage.model):
            trainer.train(resume_from_checkpoint=last)
            trim_heap()
    check_frozen(stage.model, frozen)
    return {
        "seconds": round(before + trainer.seconds(), 2),
        "curve": _curve(trainer),
        "best": trainer.state.best_metric,
        "moving": moving,
        "parameters": parameters,
    }


def _dev_metrics(stage: Stage, encoded: Encoded) -> Callable[[Any], Mapping[str, Any]]:
    """Return what scores a model on dev by the task's metrics."""
    task = stage.task
    assert task is not None and not isinstance(stage.dev, Encoded), "labels come with splits"
    dev = EvalSplit(encoded, collect_labels([(stage.dev, True)], task, encoded).values, task)

    def score(model: Any) -> dict[str, Any]:
        outputs = dev.outputs(model, stage.train.precision)
        _check_finite(bool(np.isfinite(outputs.logits).all()), stage)
        return outputs.metrics(task)

    return score


def _dev_loss(stage: Stage, encoded: Encoded) -> Callable[[Any], Mapping[str, Any]]:
    """Return what scores a model on dev by the stage's own objective, with the same random draws every time."""

    def score(model: Any) -> dict[str, float]:
        losses = mean_losses(model, stage.objective, encoded, stage.train.precision)
        _check_finite(math.isfinite(losses["loss"]), stage)
        return losses

    return score


def _check_finite(finite: bool, stage: Stage) -> None:
    """Stop a training that has left the numbers: what follows would be nothing but them."""
    if not finite:
        raise ModelError(
            f"{stage.name}: the training diverged, and the model's outputs are no numbers any more; lower the learning "
            f"rate (--lr, now {stage.train.lr:g}) and start again with --overwrite"
        )


def _tensorboard(folder: Path) -> Any:
    """Return the callback that writes into a folder of our own; its default lies among the checkpoints."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra("tensorboard", "tensorboard") from error
    from transformers.integrations import TensorBoardCallback

    return TensorBoardCallback(SummaryWriter(str(folder)) if is_main() else None)


def _arguments(stage: Stage, folder: Path, trackers: Trackers) -> TrainingArguments:
    train = stage.train
    if train.batch_size % world_size():
        raise ConfigError(
            f"train.batch_size is {train.batch_size} over all processes and does not divide by {world_size()} processes"
        )
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=train.batch_size // world_size(),
        num_train_epochs=train.epochs,
        max_steps=train.max_steps or -1,
        learning_rate=train.lr,
        gradient_accumulation_steps=train.accumulation,
        lr_scheduler_type=train.schedule,
        warmup_steps=train.warmup,
        weight_decay=train.weight_decay,
        max_grad_norm=0.0 if updates_by_rows(train) else train.max_grad_norm,  # RowAdadelta clips by itself
        adam_beta2=train.adam_beta2,
        adam_epsilon=train.adam_epsilon,
        optim="adamw_torch_fused" if pick_device().type in ("cpu", "cuda") else "adamw_torch",
        bf16=resolve_precision(pick_device(), train.precision) == "bfloat16",
        use_cpu=pick_device().type == "cpu",
        seed=train.seed,
        eval_strategy="epoch" if not train.max_steps else "steps",
        save_strategy="epoch" if not train.max_steps else "steps",
        eval_steps=train.max_steps,
        save_steps=train.max_steps or 500,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model=stage.task.headline if stage.task else "loss",
        greater_is_better=stage.task is not None,
        logging_steps=max(1, 20 // train.accumulation),
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to=[name for name in trackers.names if name != "tensorboard"] or "none",
        remove_unused_columns=False,
        dataloader_pin_memory=pick_device().type == "cuda",
        ddp_backend="gloo" if pick_device().type == "cpu" and world_size() > 1 else None,
    )


def _curve(trainer: Trainer) -> list[dict[str, float]]:
    skip = {"grad_norm", "learning_rate", "total_flos", "train_runtime"}
    points = []
    for entry in trainer.state.log_history:
        if "train_runtime" not in entry:
            points.append({k.replace("eval_", "dev_", 1): v for k, v in entry.items() if k not in skip})
    return points

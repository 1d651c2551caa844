"""transformers.Trainer with a stage's objective, length-aware batches in pieces, and our own evaluation."""

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer import TRAINER_STATE_NAME
from transformers.utils import SAFE_WEIGHTS_NAME

from attar.data.batching import LengthBucketSampler
from attar.errors import ConfigError, ModelError
from attar.nets.selection import classifier_names
from attar.training.adadelta import adadelta, updates_by_rows
from attar.training.averaging import WeightAverage
from attar.training.callbacks import ProgressBar, TimedSave
from attar.training.examples import Examples, as_batch
from attar.training.stage import Stage


class StageTrainer(Trainer):
    """The Trainer, told where batches, loss and dev scores come from."""

    def __init__(
        self,
        *,
        stage: Stage,
        examples: Examples,
        evaluate_dev: Callable[[Any], Mapping[str, Any]],
        arguments: TrainingArguments,
        title: str,
    ) -> None:
        self._stage, self._examples, self._evaluate_dev = stage, examples, evaluate_dev
        self._parts: dict[str, Tensor] = {}
        self._batches = 0
        self._started, self._earlier = time.perf_counter(), 0.0
        super().__init__(
            model=stage.model,
            args=arguments,
            train_dataset=examples,
            eval_dataset=examples,
            data_collator=as_batch,  # type: ignore[arg-type]
            optimizers=(adadelta(stage), None),
        )
        self.model_accepts_loss_kwargs = False
        self.remove_callback(PrinterCallback)
        self.add_callback(ProgressBar(title))
        self.add_callback(TimedSave())
        self._average = WeightAverage(stage.model, stage.train.average) if stage.train.average else None
        if self._average:
            self.add_callback(self._average)
        if stage.train.patience is not None:
            self.add_callback(EarlyStoppingCallback(stage.train.patience))

    def seconds(self) -> float:
        """Return how long the training took so far, in this process and those that it goes on from."""
        return self._earlier + time.perf_counter() - self._started

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Give the task head's last map a rate of its own where one is set, in groups beside the others."""
        optimizer = super().create_optimizer(model)
        train, whole = self._stage.train, self._stage.model
        if train.head_lr_factor == 1 or not isinstance(whole, PreTrainedModel):  # a stage without a task head
            return optimizer
        names = classifier_names(whole)
        if not names:
            raise ConfigError(
                f"train.head_lr_factor: {type(whole).__name__} has no head beside an encoder; leave it out"
            )
        head = {id(p) for name, p in whole.named_parameters() if name in names}
        for group in list(optimizer.param_groups):
            own = [p for p in group["params"] if id(p) in head]
            group["params"] = [p for p in group["params"] if id(p) not in head]
            optimizer.add_param_group({**group, "params": own, "lr": train.lr * train.head_lr_factor})
        return optimizer

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Run a batch's pieces forward and backward, one at a time: their gradients add up to the batch's."""
        *before, last = inputs
        losses = []
        for piece in before:
            with self.accelerator.no_sync(model):  # processes cut their batches differently
                losses.append(super().training_step(model, piece, num_items_in_batch))
        losses.append(super().training_step(model, last, num_items_in_batch))
        self._batches += 1
        return torch.stack(losses).sum()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Return the stage's objective on a piece, by its share of the batch, and remember its parts for the log."""
        share = inputs.get("share", 1.0)
        losses = {name: share * loss for name, loss in self._stage.objective(model, inputs).items()}
        for name, part in losses.items():
            if name != "loss":
                self._parts[name] = self._parts.get(name, 0.0) + part.detach()
        return losses["loss"]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the mean of every loss part beside the loss, and the time, which a checkpoint keeps with the log."""
        logs["seconds"] = round(self.seconds(), 2)
        if "loss" in logs:
            logs.update({name: total.item() / self._batches for name, total in self._parts.items()})
            self._parts.clear()
            self._batches = 0
        super().log(logs, start_time)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score the dev split; every process does so, and gets the same."""
        with self._average.in_place() if self._average else nullcontext():
            found = self._evaluate_dev(self.accelerator.unwrap_model(self.model))
        scores = {f"eval_{name}": value for name, value in found.items() if isinstance(value, float)}
        self.log(dict(scores))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, scores)
        return scores

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        # Not by save_pretrained: it gives tensors of older checkpoints their first names back, which nobody would find.
        if output_dir is None or not self.args.should_save:
            return
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        # The encoder of a delta is in memory already, bit for bit, when a checkpoint is read.
        kept = {n: p for n, p in self._stage.model.named_parameters() if p.requires_grad or not self._stage.delta}
        save_file({n: p.detach().contiguous() for n, p in kept.items()}, Path(output_dir) / SAFE_WEIGHTS_NAME)
        if self._average:
            self._average.save(output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / TRAINER_STATE_NAME))
        self._earlier = max((point.get("seconds", 0.0) for point in state.log_history), default=0.0)
        if self._average:
            self._average.load(resume_from_checkpoint)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        moving = {name for name, p in self._stage.model.named_parameters() if p.requires_grad}
        lost = [*moving.intersection(load_result.missing_keys), *load_result.unexpected_keys]
        if lost:
            raise ModelError(
                f"a checkpoint of this run has other weights than its model, among them {lost[0]}; was attar or "
                "transformers replaced meanwhile? --overwrite starts anew"
            )

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if self._average and self.state.best_model_checkpoint:
            self._average.load(self.state.best_model_checkpoint)
            self._average.apply()

    def _get_grad_norm(self, model: nn.Module, grad_norm: float | None = None) -> float | None:
        # Only logged, and torch has no norm of sparse gradients.
        return None if updates_by_rows(self._stage.train) else super()._get_grad_norm(model, grad_norm)

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthBucketSampler:
        train = self._stage.train
        return LengthBucketSampler(self._examples.lengths, train.batch_size, train.seed)

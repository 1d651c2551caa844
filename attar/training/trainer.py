"""transformers.Trainer with a stage's objective, length-aware batches in pieces, and our own evaluation."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainingArguments

from attar.data.batching import LengthBucketSampler
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
        """Log the mean of every loss part beside the loss."""
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
        # What is frozen is in memory already, bit for bit, when a checkpoint is read.
        frozen = {name for name, p in self._stage.model.named_parameters() if not p.requires_grad}
        whole = self._stage.model.state_dict()
        super()._save(output_dir, {name: tensor for name, tensor in whole.items() if name not in frozen})
        if self._average and output_dir is not None and self.args.should_save:
            self._average.save(output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self._average:
            self._average.load(resume_from_checkpoint)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        pass  # frozen parameters are missing by intent

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

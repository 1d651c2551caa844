"""What the loop does beside training: show progress, and save often enough that a kill costs little."""

import time
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from attar.progress import progress

#: Seconds of training that a kill may cost where an epoch is longer than that.
_SAVE_EVERY = 300.0


class ProgressBar(TrainerCallback):
    """One line on stderr: steps, time left, loss, best dev score so far."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: tqdm | None = None
        self._shown: dict[str, str] = {}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Open the bar where the run starts or resumes."""
        self._bar = progress(self._title, state.max_steps, unit=" steps", initial=state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Advance."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        """Show the newest loss and dev score."""
        metric = f"eval_{args.metric_for_best_model}"
        for key, name in (("loss", "loss"), (metric, "dev")):
            if key in (logs or {}):
                self._shown[name] = f"{logs[key]:.4f}"
        if self._bar is not None:
            self._bar.set_postfix(self._shown, refresh=False)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


class TimedSave(TrainerCallback):
    """Save a checkpoint at least every five minutes, besides the one at the end of an epoch."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Ask for a checkpoint when the last one is old."""
        if time.monotonic() - self._last > _SAVE_EVERY:
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the clock again."""
        self._last = time.monotonic()


class StepClock(TrainerCallback):
    """Note when every step begins: from one to the next is a whole one."""

    def __init__(self) -> None:
        self.marks: list[float] = []
        """Seconds, of a clock whose start means nothing."""

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Note the time."""
        self.marks.append(time.perf_counter())

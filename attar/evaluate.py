"""Evaluate a bundle on a data file of its task."""

from typing import Any

from attar.bundle import load_bundle
from attar.config import DataConfig
from attar.data.prepare import load_split
from attar.nets.hardware import pick_device
from attar.training.evaluation import eval_split


def evaluate_bundle(path: str, config: DataConfig, split: str = "test") -> dict[str, Any]:
    """Return ``{"bundle", "split", "rows", "metrics"}`` of a model on one split of a file or folder.

    Raises:
        DataError: for data that does not fit the model's task.
    """
    bundle = load_bundle(path)
    task = bundle.task
    rows = load_split(config, task, split)
    bundle.model.to(pick_device())  # type: ignore[arg-type]
    encoded = eval_split(rows, bundle.tokenizer, bundle.max_length, task, long=bundle.long)
    metrics = encoded.outputs(bundle.model, bundle.precision).metrics(task)
    return {"bundle": path, "split": split, "rows": len(rows), "metrics": metrics}

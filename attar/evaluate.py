"""Evaluate a bundle on a data file of its task."""

from typing import Any

from attar.config import DataConfig
from attar.data.prepare import load_split
from attar.inference.predictor import load
from attar.training.evaluation import Outputs, eval_split


def evaluate_bundle(path: str, config: DataConfig, split: str = "test") -> dict[str, Any]:
    """Return ``{"bundle", "split", "rows", "metrics"}`` of a model on one split of a file or folder.

    Raises:
        DataError: for data that does not fit the model's task.
    """
    model = load(path)
    rows = load_split(config, model.task, split)
    labelled = eval_split(rows, model.bundle.tokenizer, model.bundle.max_length, model.task, long=model.bundle.long)
    encoded = labelled.encoded
    metrics = Outputs(model.engine.score(encoded), labelled.labels, encoded.counts).metrics(model.task)
    return {"bundle": path, "split": split, "rows": len(rows), "metrics": metrics}

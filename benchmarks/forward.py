"""Forward passes of a teacher and a student in turn, on the same encoded texts: no tokenization, one process."""

import statistics
import time
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from attar.bundle import Bundle
from attar.data.encoding import Encoded, encode_texts
from attar.nets.hardware import autocast, pick_device
from attar.nets.scoring import model_inputs


def forward_ratios(
    teacher: Bundle, student: PreTrainedModel, texts: list[str], max_length: int, repeats: int
) -> dict[str, Any]:
    """Return median seconds of a pass of both by batch size (32 and 1), and their ratio."""
    device = pick_device()
    models = {"teacher": teacher.model.to(device).eval(), "student": student.to(device).eval()}
    encoded = encode_texts(texts, None, teacher.tokenizer, max_length)
    found: dict[str, Any] = {"device": device.type, "threads": torch.get_num_threads()}
    for size in (32, 1):
        times: dict[str, list[float]] = {name: [] for name in models}
        for rows in _batches(encoded, size, repeats + 2):
            batch = {name: tensor.to(device) for name, tensor in encoded.batch(rows).items()}
            for name, model in models.items():  # in turn, so that a busy moment hits both
                times[name].append(_timed(model, batch, device, teacher.precision))
        medians = {name: statistics.median(seconds[2:]) for name, seconds in times.items()}  # two warm up
        found[f"batch_{size}"] = {**medians, "ratio": medians["teacher"] / medians["student"]}
    return found


def _batches(encoded: Encoded, size: int, count: int) -> list[np.ndarray]:
    """Draw batches of nearly one length, as scoring has them, spread over all lengths."""
    order = np.argsort(encoded.lengths, kind="stable")
    starts = np.linspace(0, len(order) - size, count).astype(int)
    generator = np.random.default_rng(0)
    return [order[start : start + size] for start in generator.permutation(starts)]


def _timed(model: PreTrainedModel, batch: dict[str, torch.Tensor], device: torch.device, precision: str) -> float:
    with torch.inference_mode(), autocast(device, precision):
        start = time.perf_counter()
        model(**model_inputs(batch)).logits.float().cpu()  # waits for a GPU
        return time.perf_counter() - start

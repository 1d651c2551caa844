"""Rows of several tasks over one encoder, batched and run together."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from attar.data.encoding import Encoded
from attar.data.long_texts import POOLS, require_single
from attar.inference.many.encoding import Place, encode_rows
from attar.inference.many.rows import Asked
from attar.inference.predictor import Prediction, predictions
from attar.nets.hardware import autocast, resolve_precision
from attar.nets.mixed.forward import mixed_logits
from attar.nets.mixed.tree import MixedTree
from attar.nets.scoring import TOKENS_PER_BATCH, forward_batches


class Answer(NamedTuple):
    """Logits of a row, (C,) or (words, C), and for word tasks the numbers of the words that they are of."""

    logits: np.ndarray
    words: np.ndarray | None


def answer_rows(rows: Sequence[Asked], tree: MixedTree) -> list[Answer]:
    """Return the logits of rows, in order; equal texts run once as far as their tasks agree."""
    passes: dict[tuple, list[int]] = {}
    answers: list[Answer | None] = [None] * len(rows)
    in_chunks = [i for i, row in enumerate(rows) if row.member.predictor.bundle.long in POOLS]
    for i, logits in _pooled(rows, in_chunks):
        answers[i] = Answer(logits, None)
    for i, row in enumerate(rows):
        if answers[i] is not None:
            continue
        bundle = row.member.predictor.bundle
        alone = id(row.member.predictor) if row.member.changes is None else None
        passes.setdefault((alone, resolve_precision(row.member.predictor.model.device, bundle.precision)), []).append(i)
    for (_, precision), numbers in passes.items():
        some = [rows[i] for i in numbers]
        encoded, places = encode_rows(some)
        run = _alone if some[0].member.changes is None else _together
        for i, logits in run(some, encoded, places, tree, precision):
            starts = places[i].starts
            answers[numbers[i]] = Answer(logits if starts is None else logits[starts], places[i].words)
    return answers  # type: ignore[return-value]


def decode_rows(rows: Sequence[Asked], answers: Sequence[Answer]) -> list[Prediction]:
    """Return what the logits of rows say, in order."""
    by_task: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        by_task.setdefault(id(row.member.predictor), []).append(i)
    found: dict[int, Prediction] = {}
    for numbers in by_task.values():
        task = rows[numbers[0]].member.predictor.task
        some = [answers[i] for i in numbers]
        if task.kind == "token":
            logits = np.concatenate([answer.logits for answer in some])
            words = [answer.words for answer in some if answer.words is not None]
            said = predictions(logits, task, words, [len(rows[i].text) for i in numbers])
        else:
            said = predictions(np.stack([answer.logits for answer in some]), task)
        found.update(zip(numbers, said, strict=True))
    return [found[i] for i in range(len(rows))]


def _together(
    rows: list[Asked], encoded: Encoded, places: list[Place], tree: MixedTree, precision: str
) -> Iterator[tuple[int, np.ndarray]]:
    device = rows[0].member.predictor.model.device
    most = TOKENS_PER_BATCH[device.type]
    of_text = _by_text(places)
    for texts, batch in encoded.batches(most):
        numbers = [i for text in texts for i in of_text[text]]
        order = {text: i for i, text in enumerate(texts.tolist())}
        tensors = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        where = [order[places[i].text] for i in numbers]
        changes = [found for i in numbers if (found := rows[i].member.changes) is not None]
        with torch.inference_mode(), autocast(device, precision):
            for i, logits in mixed_logits(tree, tensors, where, changes, most):
                yield numbers[i], logits


def _pooled(rows: Sequence[Asked], numbers: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Run rows whose texts are read in chunks through their own models: a batch has a line a chunk there."""
    by_task: dict[int, list[int]] = {}
    for i in numbers:
        by_task.setdefault(id(rows[i].member.predictor), []).append(i)
    for some in by_task.values():
        predictor = rows[some[0]].member.predictor
        require_single(predictor.bundle.long, pairs=any(rows[i].pair is not None for i in some), words=False)
        found = predictor.logits([rows[i].text for i in some])
        yield from zip(some, found, strict=True)


def _alone(
    rows: list[Asked], encoded: Encoded, places: list[Place], _: MixedTree, precision: str
) -> Iterator[tuple[int, np.ndarray]]:
    """Run rows of one task through its own model."""
    model = rows[0].member.predictor.model
    of_text = _by_text(places)
    for texts, batch in forward_batches(
        model, encoded.batches(TOKENS_PER_BATCH[model.device.type]), precision=precision
    ):
        for text, logits in zip(texts, batch, strict=True):
            for i in of_text[text]:
                yield i, logits


def _by_text(places: list[Place]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for i, place in enumerate(places):
        found.setdefault(place.text, []).append(i)
    return found

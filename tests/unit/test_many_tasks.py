"""Batches whose rows belong to different tasks over one encoder say what every task says alone."""

import random

import numpy as np
import pytest

import attar

#: Deltas of every kind with heads of different widths: name, method, kind of task, labels.
TASKS = (
    ("tone", "bitfit", "single-label", ("neg", "pos")),
    ("topic", "bitfit", "single-label", ("film", "music", "plot")),
    ("names", "adapters", "token", None),
    ("place", "adapters", "single-label", None),
    ("low", "pfeiffer", "regression", None),
    ("query", "lora", "multi-label", None),
    ("norm", "dora", "single-label", ("a", "b", "c", "d")),
    ("scale", "ia3", "single-label", None),
    ("top", "freezing", "single-label", ("x", "y", "z")),
    ("people", "freezing", "token", None),
    ("bare", "head", "single-label", None),
)
TEXTS = [
    "the film was very good",
    "good",
    "awful plot , dull actor and a boring scene in rome of it",
    "anna met bob in rome",
    "not bad , not good",
    "it was never dull , always lovely music and a great story " * 3,
]


@pytest.fixture
def fill(make_folder, save_delta):
    """Return a set of deltas over a tiny encoder."""

    def _fill(name="bert", tasks=TASKS, layers=3):
        encoder = make_folder(family=name, layers=layers)
        deltas = attar.DeltaSet(encoder)
        for i, (task, method, kind, labels) in enumerate(tasks):
            deltas.add(task, save_delta(encoder, method, kind=kind, labels=labels, seed=i)[0])
        return deltas

    return _fill


def tasks_of(family):
    """ModernBERT has no biases to train."""
    return [task for task in TASKS if task[1] != "bitfit"] if family == "modernbert" else TASKS


def text_for(deltas, name, text):
    return text.split() if deltas.use(name).task.kind == "token" else text


def mixed_rows(deltas, seed=0):
    rows = [(name, text_for(deltas, name, text)) for name in deltas.names for text in TEXTS]
    random.Random(seed).shuffle(rows)
    return rows


def assert_as_alone(deltas, rows):
    for row, found in zip(rows, deltas.logits_rows(rows), strict=True):
        name, text = row[:2]
        alone = deltas.logits(name, [text], *[[pair] for pair in row[2:]])
        alone = alone if deltas.use(name).task.kind == "token" else alone[0]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, alone, rtol=0, atol=1e-5 * max(1, abs(alone).max()), err_msg=name)


def test_every_kind_in_one_batch_as_alone(family, fill):
    deltas = fill(family, tasks_of(family))
    assert all(member.changes is not None for member in deltas._members.values())
    assert_as_alone(deltas, mixed_rows(deltas))

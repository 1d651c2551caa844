"""A teacher's layers, kept text by text: the same as looking again, and looked at once."""

import copy
import dataclasses

import pytest
import torch

from attar import sizes
from attar.config import TrainConfig
from attar.nets.taps import taps
from attar.teacher.layers import TeacherLayers, layers_limit

LAYERS = 3
WATCHED = {"hidden": (0, 2), "scores": (1, 2), "relations": (2,)}
KINDS = ("hidden", "scores", "query", "key", "value")
ROOMY = 2**30


def inputs(rows=(0, 1, 2)):
    """Texts of 9, 6 and 3 tokens, in any order, padded to the longest."""
    ids = torch.randint(5, 60, (3, 9), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([9, 6, 3])
    mask = (torch.arange(9) < lengths[:, None]).long()
    rows, longest = list(rows), int(lengths[list(rows)].max())
    return {"input_ids": (ids * mask)[rows, :longest], "attention_mask": mask[rows, :longest]}


def live(model, batch):
    with torch.no_grad(), taps(model.eval(), **WATCHED) as seen:
        model.base_model(**batch)
        found = seen.read()
    return found, {kind: {i: getattr(found, kind)[i] for i in getattr(found, kind)} for kind in KINDS}


def real(kind, values, batch):
    mask = batch["attention_mask"].bool()
    if kind == "scores":
        return values.transpose(0, 1)[:, mask[:, :, None] & mask[:, None]]
    return values.transpose(1, 2)[mask] if values.ndim == 4 else values[mask]


def counted(model, limit=ROOMY):
    """Return the model as a teacher that keeps what it showed, and a list that grows by the size of every run.

    The teacher is a copy, so that looking at the model itself does not count.
    """
    look, runs = TeacherLayers(copy.deepcopy(model), **WATCHED, limit=limit), []
    look.teacher.base_model.register_forward_pre_hook(
        lambda _, args, kwargs: runs.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    return look, runs


def same(found, model, batch, tolerance):
    expected, by_kind = live(model, batch)
    torch.testing.assert_close(
        real("hidden", found.embeddings, batch), real("hidden", expected.embeddings, batch), **tolerance
    )
    for kind, layers in by_kind.items():
        assert set(getattr(found, kind)) == set(layers)
        for layer, values in layers.items():
            own = getattr(found, kind)[layer]
            assert own.shape == values.shape
            torch.testing.assert_close(real(kind, own, batch), real(kind, values, batch), **tolerance)


HALF = {"rtol": 1e-3, "atol": 1e-4}


def test_kept_layers_are_those_of_the_model_whatever_batch_a_text_comes_in(make_model, family):
    model = make_model(family, layers=LAYERS)
    look, runs = counted(model)
    first = look(inputs())
    again, alone, mixed = look(inputs()), look(inputs([2])), look(inputs([1, 0, 1]))
    assert runs == [3], "every text once"
    assert torch.equal(first.hidden[2], again.hidden[2]), "the first time it is rounded, too"
    assert torch.equal(first.scores[1], again.scores[1])
    same(first, model, inputs(), HALF)
    same(alone, model, inputs([2]), HALF)
    same(mixed, model, inputs([1, 0, 1]), HALF)


def test_new_texts_among_known_ones_run_alone(make_model):
    model = make_model("bert", layers=LAYERS)
    look, runs = counted(model)
    look(inputs([1]))
    same(look(inputs([0, 1, 2])), model, inputs([0, 1, 2]), HALF)
    assert runs == [1, 2]


def test_segments_are_part_of_a_text(make_model):
    model = make_model("bert", layers=LAYERS)
    look, runs = counted(model)
    batch = inputs([0])
    first = look({**batch, "token_type_ids": torch.zeros_like(batch["input_ids"])})
    second = look({**batch, "token_type_ids": torch.ones_like(batch["input_ids"])})
    assert runs == [1, 1]
    assert not torch.allclose(first.embeddings, second.embeddings, atol=1e-2)


def test_texts_beyond_the_limit_run_every_time_and_exactly(make_model, caplog):
    model = make_model("bert", layers=LAYERS)
    whole = TeacherLayers(model, **WATCHED, limit=ROOMY)
    whole(inputs([0]))
    size = whole._store._end
    look, runs = counted(model, size)
    with caplog.at_level("INFO"):
        look(inputs([0]))
        for _ in range(2):
            same(look(inputs([1])), model, inputs([1]), {"rtol": 1e-5, "atol": 1e-6})
            same(look(inputs([1, 0])), model, inputs([1, 0]), HALF)
    assert runs == [1, 1, 1, 1, 1]
    assert [r.message for r in caplog.records if "train.cache_limit" in r.message] == [
        f"the teacher's layers of 1 texts fill {sizes.show_size(size)} (train.cache_limit): "
        "other texts run in every epoch"
    ]


def test_what_float16_does_not_hold_is_seen_anew(make_model):
    model = make_model("bert", layers=LAYERS)
    with torch.no_grad():
        model.encoder.layer[2].output.LayerNorm.weight.fill_(1e6)
    look, runs = counted(model)
    for _ in range(2):
        same(look(inputs()), model, inputs(), {"rtol": 1e-5, "atol": 1e-6})
    assert runs == [3, 3]


def test_a_disk_that_fills_up_costs_the_cache_and_nothing_else(make_model, monkeypatch, caplog):
    model = make_model("bert", layers=LAYERS)
    look, runs = counted(model)

    class Full:
        seek = staticmethod(lambda *_: None)

        def write(self, _):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(look._store, "_file", Full())
    for _ in range(2):
        same(look(inputs()), model, inputs(), {"rtol": 1e-5, "atol": 1e-6})
    assert runs == [3, 3]
    assert [r.levelname for r in caplog.records if "No space left" in r.message] == ["WARNING"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, 8 * 2**30), ({"epochs": 1}, 0), ({"max_steps": 5}, 0), ({"cache_limit": "0"}, 0)],
)
def test_nothing_is_kept_where_no_text_comes_twice(changes, expected, monkeypatch):
    monkeypatch.setattr("attar.teacher.layers.pick_device", lambda: torch.device("cpu"))
    assert layers_limit(dataclasses.replace(TrainConfig(epochs=3), **changes)) == expected


def test_a_gpu_runs_the_teacher_every_time(monkeypatch):
    monkeypatch.setattr("attar.teacher.layers.pick_device", lambda: torch.device("cuda"))
    assert layers_limit(TrainConfig(epochs=3)) == 0

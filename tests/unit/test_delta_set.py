"""Several deltas over one encoder: no copy of it, no trace in it, and nothing of one task in another."""

import itertools

import numpy as np
import pytest
import torch

import attar
from attar.errors import ConfigError, ModelError
from attar.nets.deltas.format import read_delta

#: One task of each kind, and every method among them: name, method, kind, labels.
TASKS = (
    ("tone", "bitfit", "single-label", ("neg", "pos")),
    ("names", "adapters", "token", None),
    ("topic", "lora", "single-label", ("film", "music", "plot")),
    ("tags", "freezing", "multi-label", None),
    ("score", "ia3", "regression", None),
    ("people", "bitfit", "token", None),
    ("other", "adapters", "single-label", None),
)


def state_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def fill(make_folder, save_delta):
    """Tune a delta for each task and load them all over one encoder; return the set and what each said alone."""

    def _fill(name="bert", tasks=TASKS):
        encoder = make_folder(family=name)
        deltas, alone = attar.DeltaSet(encoder), {}
        for i, (task, method, kind, labels) in enumerate(tasks):
            folder, alone[task] = save_delta(encoder, method, kind=kind, labels=labels, seed=i)
            deltas.add(task, folder)
        return deltas, alone

    return _fill


@pytest.mark.parametrize("name", ["bert", "mpnet"])
def test_in_any_order_every_task_says_what_it_says_alone(name, fill, texts):
    deltas, alone = fill(name)
    kinds = {task: deltas.use(task).task.kind for task in deltas.names}
    assert deltas.names == tuple(task for task, *_ in TASKS)
    for one, other in itertools.permutations(deltas.names, 2):
        for task in (one, other, one):
            np.testing.assert_allclose(deltas.logits(task, texts(kinds[task])), alone[task], atol=1e-5)


def test_each_task_has_its_own_labels_head_and_kind(fill, texts):
    deltas, _ = fill()
    assert {p.label for p in deltas.predict("topic", texts("single-label"))} <= {"film", "music", "plot"}
    assert isinstance(deltas.predict("score", texts("regression"))[0].label, float)
    assert isinstance(deltas.predict("tags", texts("multi-label"))[0].label, list)
    assert [len(p.label) for p in deltas.predict("names", texts("token"))] == [len(t) for t in texts("token")]


def test_the_encoder_is_bit_for_bit_what_it_was_before_within_and_after(fill, texts):
    deltas, _ = fill()
    before = state_of(attar.DeltaSet(deltas.encoder).base())
    kinds = {task: deltas.use(task).task.kind for task in deltas.names}
    assert same(deltas.base().state_dict(), before)
    for task in deltas.names:
        deltas.logits(task, texts(kinds[task]))
        assert same(deltas.base().state_dict(), before)
        deltas.remove(task)
        assert same(deltas.base().state_dict(), before)
    assert deltas.names == ()
    hooked = [m for m in deltas.base().modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooked


def test_the_encoder_is_in_memory_once(fill):
    """A task has of its own exactly what its delta holds."""
    deltas, _ = fill()
    encoder = {parameter.data_ptr() for parameter in deltas.base().parameters()}
    for task in deltas.names:
        bundle = deltas.use(task).bundle
        own = {n: p for n, p in bundle.model.named_parameters() if p.data_ptr() not in encoder}
        tensors = read_delta(bundle.path).tensors
        assert sum(p.numel() for p in own.values()) == sum(t.numel() for t in tensors.values())
        if deltas.use(task).bundle.model.__dict__.get("peft_config") is None:
            assert own.keys() == tensors.keys()


def test_a_removed_task_is_gone_and_its_name_is_free(fill, texts, save_delta):
    deltas, alone = fill(tasks=TASKS[:2])
    deltas.remove("tone")
    assert deltas.names == ("names",)
    with pytest.raises(ConfigError, match="no delta is named 'tone'"):
        deltas.logits("tone", texts("single-label"))
    folder, again = save_delta(deltas.encoder, "lora", seed=9)
    deltas.add("tone", folder)
    assert (deltas.logits("tone", texts("single-label")) == again).all()
    assert (deltas.logits("names", texts("token")) == alone["names"]).all()


def test_no_optimizer_would_take_hold_of_the_shared_encoder(fill):
    deltas, _ = fill(tasks=TASKS[:1])
    assert not any(p.requires_grad for p in deltas.base().parameters())


def test_names_are_said_to_be_taken_or_unknown(fill, save_delta):
    deltas, _ = fill(tasks=TASKS[:1])
    folder, _ = save_delta(deltas.encoder, "head", seed=5)
    with pytest.raises(ConfigError, match="there is a delta named 'tone' already"):
        deltas.add("tone", folder)
    with pytest.raises(ConfigError, match=r"no delta is named 'tune'; did you mean 'tone'\? \(there are: tone\)"):
        deltas.use("tune")
    with pytest.raises(ConfigError, match="found the delta"):
        attar.DeltaSet(folder)


def test_a_delta_of_another_encoder_is_refused_and_leaves_the_set_as_it_was(fill, make_folder, save_delta):
    deltas, _ = fill(tasks=TASKS[:1])
    folder, _ = save_delta(make_folder("another", seed=3), "bitfit", seed=7)
    with pytest.raises(ModelError, match="fits no other encoder"):
        deltas.add("strange", folder)
    assert deltas.names == ("tone",)

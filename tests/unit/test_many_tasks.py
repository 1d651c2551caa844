"""Batches whose rows belong to different tasks over one encoder say what every task says alone."""

import dataclasses
import random
import threading

import numpy as np
import pytest
import torch

import attar
from attar.bundle import save_bundle
from attar.errors import ConfigError, DataError
from attar.inference.predictor import Predictor
from attar.nets import scoring
from attar.nets.deltas.adapters import Adapter
from attar.nets.deltas.format import read_delta
from attar.nets.longer import make_longer
from attar.nets.mixed import changes
from attar.nets.mixed.changes import find_changes

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
    ("sparse", "shira", "single-label", None),
)
TEXTS = [
    "the film was very good",
    "good",
    "awful plot , dull actor and a boring scene in rome of it",
    "anna met bob in rome",
    "not bad , not good",
    "it was never dull , always lovely music and a great story " * 3,
]


#: What differs most between families.
FEW = [task for task in TASKS if task[0] in ("tone", "names", "low", "query", "scale", "top")]


@pytest.fixture(scope="module")
def save(tmp_path_factory, make_task, tune, tokenizer):
    """Tune an encoder and save the delta; return its folder."""

    def _save(encoder, method, kind="single-label", labels=None, *, seed=0, pair=None, max_length=24, long="truncate"):
        task, folder = make_task(kind, labels, pair), tmp_path_factory.mktemp(method)
        model, source = tune(encoder, method, kind, task.labels, seed)
        save_bundle(folder, model, tokenizer, task, max_length=max_length, precision="float32", delta=source, long=long)
        return str(folder)

    return _save


@pytest.fixture(scope="module")
def fill(tmp_path_factory, make_model, tokenizer, save):
    """Return a set of deltas over a tiny encoder."""

    def _fill(name="bert", tasks=TASKS, layers=2):
        encoder = tmp_path_factory.mktemp(name)
        make_model(name, layers=layers).save_pretrained(encoder)
        tokenizer.save_pretrained(encoder)
        deltas = attar.DeltaSet(str(encoder))
        for i, (task, method, kind, labels) in enumerate(tasks):
            deltas.add(task, save(deltas.encoder, method, kind, labels, seed=i))
        return deltas

    return _fill


@pytest.fixture(scope="module")
def deltas(fill):
    """Tasks of every kind over one encoder of three layers; tests leave it as it is."""
    return fill(layers=3)


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


def test_every_kind_in_one_batch_as_alone(deltas):
    assert all(member.changes is not None for member in deltas._members.values())
    assert_as_alone(deltas, mixed_rows(deltas))


def test_every_family_in_mixed_batches_as_alone(family, fill):
    deltas = fill(family, FEW[family == "modernbert" :])  # ModernBERT has no biases for BitFit
    assert all(member.changes is not None for member in deltas._members.values())
    assert_as_alone(deltas, mixed_rows(deltas))


@pytest.mark.parametrize("seed", [1, 2])
def test_the_order_of_rows_does_not_matter(deltas, seed):
    rows = mixed_rows(deltas)
    first = dict(zip(map(repr, rows), deltas.logits_rows(rows), strict=True))
    other = mixed_rows(deltas, seed)
    for row, found in zip(other, deltas.logits_rows(other), strict=True):
        np.testing.assert_allclose(found, first[repr(row)], rtol=0, atol=2e-5)


def test_predictions_are_those_of_every_task(deltas):
    rows = mixed_rows(deltas)
    for (name, text), found in zip(rows, deltas.predict_rows(rows), strict=True):
        alone = deltas.predict(name, [text])[0]
        assert found.label == (pytest.approx(alone.label, abs=1e-4) if name == "low" else alone.label)
        assert found.scores.keys() == alone.scores.keys()
        assert found.confidence == (None if alone.confidence is None else pytest.approx(alone.confidence, abs=1e-4))


def test_a_fan_out_says_what_every_task_says(deltas):
    names = [task[0] for task in TASKS if task[2] != "token"]
    found = deltas.predict_all(TEXTS, names)
    assert list(found) == names
    for name, several in found.items():
        labels = [prediction.label for prediction in deltas.predict(name, TEXTS)]
        assert [p.label for p in several] == (pytest.approx(labels, abs=1e-4) if name == "low" else labels)
    assert list(deltas.predict_all(TEXTS, ["top", "tone", "top"])) == ["top", "tone"]


def test_layers_in_common_run_once_for_all_tasks_and_own_ones_by_task(deltas):
    calls = [[], [], []]
    maps = [deltas.base().get_submodule(f"encoder.layer.{i}.intermediate.dense") for i in range(3)]
    hooks = [
        module.register_forward_pre_hook(lambda _, values, i=i: calls[i].append(len(values[0])))
        for i, module in enumerate(maps)
    ]
    # Words and the text that they make are the same token ids, so that a token task runs with the others.
    rows = [(name, text_for(deltas, name, text)) for name in ("top", "people") for text in TEXTS]
    deltas.logits_rows(rows)
    assert calls == [[len(TEXTS)], [len(TEXTS)], []]
    deltas.logits_rows([*rows, *(("bare", text) for text in TEXTS)])
    assert calls == [[len(TEXTS)] * 2, [len(TEXTS)] * 2, [len(TEXTS)]]
    for hook in hooks:
        hook.remove()


def test_bitfit_tasks_share_one_product_and_nothing_else_is_computed(deltas, monkeypatch):
    products, adapters = [], []
    kernel, adapt = torch.Tensor.addmm_, Adapter.forward
    monkeypatch.setattr(torch.Tensor, "addmm_", lambda *args: (products.append(len(args[1])), kernel(*args))[1])
    monkeypatch.setattr(Adapter, "forward", lambda self, states: (adapters.append(len(states)), adapt(self, states))[1])
    deltas.logits_rows([("tone", "good"), ("topic", "bad"), ("tone", "dull")])
    # Three texts of three tokens, six maps a layer; the last two, and the pooler, are for the first token alone.
    assert products == [3 * 3] * (3 * 6 - 2) + [3] * 3
    assert adapters == []
    deltas.logits_rows([("tone", "good"), ("place", "bad")])
    assert adapters == [1] * (3 * 2)


def test_rows_of_one_text_beyond_a_batch_run_in_portions(deltas, monkeypatch):
    monkeypatch.setitem(scoring.TOKENS_PER_BATCH, "cpu", 40)
    assert_as_alone(deltas, mixed_rows(deltas))


def test_equal_rows_and_no_rows(deltas):
    one, two, three = deltas.logits_rows([("tone", "good"), ("topic", "good"), ("tone", "good")])
    assert (one == three).all() and one.shape == (2,) and two.shape == (3,)
    assert deltas.logits_rows([]) == [] and deltas.predict_rows([]) == []
    assert deltas.predict_all([], ["tone", "topic"]) == {"tone": [], "topic": []}


def test_pairs_and_limits_of_their_own(fill, save):
    """Tasks may cut texts at different lengths, and only some of them read second texts."""
    deltas = fill(tasks=())
    for i, (method, limit, pair) in enumerate([("bitfit", 8, None), ("lora", 24, "other"), ("bitfit", 24, None)]):
        deltas.add(f"task-{i}", save(deltas.encoder, method, seed=i, pair=pair, max_length=limit))
    long = TEXTS[2]
    rows = [("task-0", long), ("task-1", long, "never dull"), ("task-2", long), ("task-1", "good", "bad")]
    assert_as_alone(deltas, rows)
    with pytest.raises(DataError, match=r"row 2: 'task-1' labels pairs of texts; give the second text too"):
        deltas.predict_rows([("task-0", "good"), ("task-1", "good")])


def test_long_texts_are_read_as_each_task_reads_them(fill, save):
    deltas = fill(tasks=())
    ways = ("truncate", "head-tail", "chunks", "chunks-max")
    for long in ways:
        deltas.add(long, save(deltas.encoder, "bitfit", seed=1, max_length=10, long=long))
    rows = [(long, text) for text in TEXTS for long in ways]
    assert_as_alone(deltas, rows)
    longest = deltas.logits_rows([(long, TEXTS[-1]) for long in ways])
    assert len({found.tobytes() for found in longest}) == len(ways)


def test_a_task_that_rows_cannot_share_runs_alone_beside_the_others(fill):
    deltas = fill(tasks=[TASKS[0], TASKS[2], TASKS[9]])
    for name in ("tone", "people"):
        model = deltas.use(name).bundle.model
        table = model.base_model.embeddings.word_embeddings
        table.weight = torch.nn.Parameter(table.weight.detach() + 1)
        assert find_changes(model, deltas.base()) is None
        deltas._members[name] = deltas._members[name]._replace(changes=None)
    assert_as_alone(deltas, mixed_rows(deltas))


def test_an_insertion_that_is_not_known_runs_on_its_own_rows(fill, monkeypatch):
    monkeypatch.setattr(changes, "read_peft", lambda _: None)
    deltas = fill(tasks=[TASKS[0], *TASKS[5:7]])
    assert any(isinstance(c, changes.OwnModule) for p, c in deltas._members["query"].changes.at.items() if "query" in p)
    assert_as_alone(deltas, mixed_rows(deltas))


def test_deltas_come_and_go_while_others_predict(fill, save):
    deltas = fill(tasks=[TASKS[0], TASKS[3], TASKS[9]])
    rows = mixed_rows(deltas)
    expected = deltas.logits_rows(rows)
    folders = [save(deltas.encoder, method, seed=7) for method in ("bitfit", "freezing")]
    stop, wrong = threading.Event(), []

    def predict():
        while not stop.is_set():
            try:
                for one, other in zip(deltas.logits_rows(rows), expected, strict=True):
                    np.testing.assert_allclose(one, other, rtol=0, atol=2e-5)
            except BaseException as error:
                wrong.append(error)
                raise

    threads = [threading.Thread(target=predict) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for i, folder in enumerate(folders * 2):
            deltas.add(f"new-{i}", folder)
            deltas.predict_rows([(f"new-{i}", "good"), ("tone", "bad")])
            deltas.remove(f"new-{i}")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong
    with pytest.raises(ConfigError, match="row 2: no delta is named 'new-0'"):
        deltas.predict_rows([("tone", "good"), ("new-0", "good")])


def test_memory_is_the_encoder_once_and_the_deltas(deltas):
    held = deltas.memory()
    encoder = sum(p.numel() for p in deltas.base().parameters()) * 4
    tensors = [t for name in deltas.names for t in read_delta(deltas.use(name).bundle.path).tensors.values()]
    assert encoder <= held["encoder"] < 1.1 * encoder
    assert held["deltas"] < 1.1 * sum(t.numel() for t in tensors) * 4


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("tone", "found one string"),
        ([("tone", "good"), "tone"], r"row 2: expected \(delta, text\) or .* found str"),
        ([("tone",)], "row 1: .* found 1 entries"),
        ([("tone", 3)], "row 1: 'tone' expects a string, found int"),
        ([("names", "good")], "row 1: 'names' expects a list of words, found str"),
        ([("tone", "good", 3)], "row 1: expected a second text, found int"),
    ],
)
def test_rows_of_another_form_are_named(deltas, rows, message):
    with pytest.raises(DataError, match=message):
        deltas.predict_rows(rows)


def test_texts_and_names_of_a_fan_out_are_checked(deltas):
    with pytest.raises(DataError, match="found one string"):
        deltas.predict_all("good")
    with pytest.raises(DataError, match="'names' expects a list of words"):
        deltas.predict_all(["good"])
    with pytest.raises(ConfigError, match="no delta is named 'tune'; did you mean 'tone'"):
        deltas.predict_all(["good"], ["tune"])


def test_tasks_of_other_precisions_in_one_call(fill):
    deltas = fill(tasks=FEW)
    rows = mixed_rows(deltas)
    exact = deltas.logits_rows(rows)
    for name in deltas.names[:5]:
        member = deltas._members[name]
        bundle = dataclasses.replace(member.predictor.bundle, precision="bfloat16")
        deltas._members[name] = member._replace(predictor=Predictor(bundle))
    for (name, _), found, wanted in zip(rows, deltas.logits_rows(rows), exact, strict=True):
        rough = 0.1 if name in deltas.names[:5] else 2e-5
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=0, atol=rough * max(1, abs(wanted).max()), err_msg=name)


@pytest.mark.parametrize("own", [False, True])
def test_windowed_encoders_mix_as_they_are(own, make_model, tokenizer, tmp_path, save):
    encoder = make_longer(make_model("bert", layers=2), max_length=160, window=8, global_projections=own)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "_global" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    encoder.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    deltas = attar.DeltaSet(str(tmp_path))
    for seed, (task, method, kind, labels) in enumerate(FEW):
        if kind == "single-label":
            deltas.add(task, save(deltas.encoder, method, kind, labels, seed=seed, max_length=150))
    rows = [(task, text) for text in TEXTS for task in deltas.names]
    for (task, text), found in zip(rows, deltas.predict_rows(rows), strict=True):
        wanted = deltas.predict(task, [text])[0]
        assert found.scores == pytest.approx(wanted.scores, abs=1e-4), (task, text)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_encoders_in_half_precision_mix(dtype, make_model, tokenizer, tmp_path, save):
    make_model("bert", layers=2).to(dtype).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    deltas = attar.DeltaSet(str(tmp_path))
    for seed, (task, method, kind, labels) in enumerate(FEW):
        deltas.add(task, save(deltas.encoder, method, kind, labels, seed=seed))
    rows = [(task, "the film was good") for task in deltas.names if deltas.use(task).task.kind != "token"]
    for (task, text), found in zip(rows, deltas.predict_rows(rows), strict=True):
        wanted = deltas.predict(task, [text])[0]
        assert found.scores == pytest.approx(wanted.scores, abs=0.05), task


def test_deltas_that_cut_otherwise_have_a_tokenizer_of_their_own(make_folder, save):
    deltas = attar.DeltaSet(make_folder(family="bert"))
    for long in ("truncate", "head-tail"):
        deltas.add(long, save(deltas.encoder, "bitfit", long=long))
    cut, uncut = (deltas.use(name).bundle.tokenizer for name in ("truncate", "head-tail"))
    assert cut is not uncut
    # What one thread sets on its own must not reach the other in the middle of a call.
    deltas.use("head-tail").encode(["good " * 100])
    assert cut.backend_tokenizer.truncation["max_length"] == 24


def test_a_delta_that_reads_chunks_takes_no_second_texts(make_folder, save):
    deltas = attar.DeltaSet(make_folder(family="bert"))
    deltas.add("tone", save(deltas.encoder, "bitfit", long="chunks"))
    with pytest.raises(ConfigError, match="single texts"):
        deltas.predict_rows([("tone", "good " * 60, "bad")])

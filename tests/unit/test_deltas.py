"""Deltas: what they hold, that they come back, on their own encoder and on no other."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

import attar
from attar.bundle import delta_bytes, folder_bytes, save_bundle
from attar.config import TeacherConfig
from attar.errors import BundleError, MissingExtra, ModelError
from attar.nets import loading
from attar.nets.deltas.extract import extract_delta
from attar.nets.deltas.format import is_delta, read_delta, read_header, write_delta
from attar.nets.selection import bias_names, head_names
from attar.teacher.open import open_teacher

METHODS = ("head", "freezing", "bitfit", "adapters", "lora", "dora", "ia3", "shira")
TEXTS = ["the film was very good", "awful plot , dull actor", "not good", "anna met bob in rome"]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["bert", "mpnet", "modernbert"])
def test_a_loaded_delta_says_what_the_trained_model_said(name, method, make_folder, save_delta, tmp_path):
    if (name, method) == ("modernbert", "bitfit"):
        pytest.skip("it has no biases")
    encoder = make_folder(family=name, layers=4 if name == "modernbert" else 2)
    folder, before = save_delta(encoder, method)
    assert not list(Path(folder).glob("model*")) + list(Path(folder).glob("tokenizer*"))
    assert attar.load(folder).logits(TEXTS) == pytest.approx(before, abs=1e-5, rel=1e-5)
    assert delta_bytes(folder) < folder_bytes(encoder) / 1.5
    assert folder_bytes(folder) == delta_bytes(folder) + folder_bytes(encoder)
    assert delta_bytes(encoder) is None
    plain = tmp_path / "plain"
    plain.touch()
    modes = {file.stat().st_mode for file in Path(folder).iterdir() if file.is_file()}
    assert modes == {plain.stat().st_mode}, "others may read a delta as any other file"


@pytest.mark.parametrize("kind", ["multi-label", "regression", "token"])
@pytest.mark.parametrize("method", ["bitfit", "adapters", "lora"])
def test_every_kind_of_task_comes_back_with_its_labels(kind, method, make_folder, save_delta, make_task, texts):
    folder, before = save_delta(make_folder(), method, kind=kind)
    loaded = attar.load(folder)
    assert loaded.logits(texts(kind)) == pytest.approx(before, abs=1e-5, rel=1e-5)
    assert loaded.task == make_task(kind)
    assert tuple(loading.output_labels(loading.load_config(folder))) == make_task(kind).labels


def test_what_is_written_is_what_is_read(tmp_path, make_folder, tune):
    for method in ("freezing", "adapters", "lora"):
        model, source = tune(make_folder(name=f"encoder-{method}"), method)
        delta = extract_delta(model, source, "single-label", ("neg", "pos"))
        write_delta(delta, tmp_path / method)
        found = read_delta(tmp_path / method)
        assert same(found.tensors, delta.tensors)
        assert (found.method, found.settings, found.labels) == (method, {"seed": 0}, ("neg", "pos"))
        assert found.fingerprint == loading.fingerprint(source.encoder) == read_header(tmp_path / method).fingerprint
        assert Path(found.encoder).is_absolute()


def test_a_delta_holds_what_moved_and_nothing_else(make_folder, tune):
    model, source = tune(make_folder(), "bitfit")
    delta = extract_delta(model, source, "single-label", ("neg", "pos"))
    assert delta.tensors.keys() == bias_names(model) | head_names(model)
    model, source = tune(make_folder(), "adapters")
    delta = extract_delta(model, source, "single-label", ("neg", "pos"))
    assert delta.tensors.keys() == {n for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("method", ["head", "bitfit", "lora"])
def test_a_pooler_that_the_checkpoint_lacks_is_kept_though_it_never_moved(method, make_folder, save_delta):
    encoder = make_folder(kind="token", labels=tuple("abcde"))  # a model that was saved without a pooler, with a head
    folder, before = save_delta(encoder, method)
    assert "bert.pooler.dense.weight" in read_delta(folder).tensors
    torch.manual_seed(99)
    assert attar.load(folder).logits(TEXTS) == pytest.approx(before, abs=1e-5, rel=1e-5)


def test_a_stored_head_of_the_same_width_is_kept_where_it_was_not_trained(make_folder, tune):
    encoder = make_folder(kind="single-label")
    model, source = tune(encoder, "bitfit")
    stored = loading.load_for_task(encoder, "single-label").state_dict()["classifier.weight"]
    model.classifier.weight.data.copy_(stored)
    assert "classifier.weight" not in extract_delta(model, source, "single-label", ("neg", "pos")).tensors


def test_a_bitfit_delta_of_twelve_layers_of_768_with_its_head_is_under_a_megabyte(tmp_path, tokenizer, make_task, tune):
    encoder = tmp_path / "encoder"
    config = BertConfig(vocab_size=64, hidden_size=768, num_hidden_layers=12, num_attention_heads=12)
    BertModel(config).save_pretrained(encoder)
    tokenizer.save_pretrained(encoder)
    model, source = tune(str(encoder), "bitfit")
    save_bundle(tmp_path / "delta", model, tokenizer, make_task(), max_length=24, precision="auto", delta=source)
    assert sum(t.numel() for t in read_delta(tmp_path / "delta").tensors.values()) == 102_912 + 2 * 769
    assert delta_bytes(tmp_path / "delta") < 500_000


# --- the encoder of a delta


def test_another_encoder_is_refused_with_both_names_and_fingerprints(make_folder, save_delta):
    folder, _ = save_delta(make_folder("one"), "bitfit")
    other = make_folder("other", seed=1)
    with pytest.raises(ModelError) as caught:
        attar.load(folder, encoder=other)
    own = read_header(folder)
    for part in (own.encoder, own.fingerprint, other, loading.fingerprint(other)):
        assert part in str(caught.value)


def test_an_encoder_that_was_changed_in_its_place_is_refused(make_folder, make_model, save_delta):
    encoder = make_folder()
    folder, _ = save_delta(encoder, "bitfit")
    make_model(seed=1).save_pretrained(encoder)
    with pytest.raises(ModelError, match="fits no other encoder"):
        attar.load(folder)


def test_an_encoder_that_moved_is_found_by_its_new_name(make_folder, save_delta, tmp_path):
    encoder = make_folder()
    folder, before = save_delta(encoder, "lora")
    moved = str(shutil.move(encoder, tmp_path / "moved"))
    with pytest.raises(ModelError, match=r'was not found.*"encoder" in .*delta.json'):
        attar.load(folder)
    assert attar.load(folder, encoder=moved).logits(TEXTS) == pytest.approx(before, abs=1e-5, rel=1e-5)
    rewrite(folder, lambda t: t.update(encoder=moved))
    assert attar.load(folder).logits(TEXTS) == pytest.approx(before, abs=1e-5, rel=1e-5)
    with pytest.raises(BundleError, match="is no delta"):
        attar.load(moved, encoder=moved)


@pytest.mark.parametrize("method", ["bitfit", "lora"])
def test_a_fingerprint_is_the_deltas_own_and_stays_when_it_moves(method, make_folder, save_delta, tmp_path):
    encoder = make_folder()
    one, _ = save_delta(encoder, method, seed=0)
    other, _ = save_delta(encoder, method, seed=1)
    first = loading.fingerprint(one)
    assert len({first, loading.fingerprint(other), loading.fingerprint(encoder)}) == 3
    assert loading.fingerprint(shutil.move(one, tmp_path / "moved")) == first


def test_the_fingerprint_of_a_hub_model_waits_for_its_files(make_folder, tmp_path, monkeypatch):
    """Only its configuration is on this machine when a delta asks whether it is the one."""
    encoder, snapshot = Path(make_folder()), tmp_path / "snapshot"
    snapshot.mkdir()
    shutil.copy(encoder / "config.json", snapshot)
    monkeypatch.setattr(loading, "local_folder", lambda name: snapshot)
    monkeypatch.setattr(loading, "_load", lambda *_: shutil.copytree(encoder, snapshot, dirs_exist_ok=True))
    found = loading.fingerprint("some/encoder")
    monkeypatch.undo()
    assert found == loading.fingerprint(str(encoder))


# --- bad folders


def spoil_weights(folder, change):
    file = Path(folder) / "delta.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("classifier.weight"), "lacks classifier.weight; the model would have random"),
        (lambda t: t.update(strange=torch.zeros(1)), "has strange, which"),
        (lambda t: t.update({"classifier.bias": torch.zeros(7)}), r"classifier.bias of shape \(7,\).*expects \(2,\)"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(change, message, make_folder, save_delta):
    folder, _ = save_delta(make_folder(), "bitfit")
    spoil_weights(folder, change)
    with pytest.raises(BundleError, match=message):
        attar.load(folder)


@pytest.mark.parametrize("method", ["bitfit", "lora"])
@pytest.mark.parametrize("bytes_left", [0, 5, 4000])
def test_torn_weights_are_one_clear_error(method, bytes_left, make_folder, save_delta):
    folder, _ = save_delta(make_folder(), method)
    (file,) = Path(folder).glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:bytes_left])
    with pytest.raises(BundleError, match="torn"):
        attar.load(folder)
    file.unlink()
    with pytest.raises(BundleError, match="torn"):
        attar.load(folder)


def rewrite(folder, change, name="delta.json"):
    file = Path(folder) / name
    table = json.loads(file.read_text())
    change(table)
    file.write_text(json.dumps(table))


def test_a_header_that_cannot_be_read_is_one_clear_error(make_folder, save_delta):
    folder, _ = save_delta(make_folder(), "adapters")
    rewrite(folder, lambda t: t["insertion"].update(bottleneck_width=3))
    with pytest.raises(BundleError, match=r"insertion cannot be made.*bottleneck_width"):
        attar.load(folder)
    rewrite(folder, lambda t: t["insertion"].update(kind="prompts"))
    with pytest.raises(BundleError, match="unknown insertion 'prompts'"):
        attar.load(folder)
    rewrite(folder, lambda t: t.pop("labels"))
    with pytest.raises(BundleError, match="lacks labels"):
        attar.load(folder)
    rewrite(folder, lambda t: t.update(format=2))
    with pytest.raises(BundleError, match="format 2"):
        attar.load(folder)
    (Path(folder) / "delta.json").write_text("{")
    with pytest.raises(BundleError, match="not valid JSON"):
        attar.load(folder)
    (Path(folder) / "delta.json").write_text("[]")
    with pytest.raises(BundleError, match="format list"):
        attar.load(folder)


def test_a_delta_of_a_model_that_its_source_does_not_make_is_refused(make_folder, tune):
    model, source = tune(make_folder(), "adapters")
    with pytest.raises(ModelError, match="they differ in"):
        extract_delta(model, dataclasses.replace(source, insertion=None), "single-label", ("neg", "pos"))


def test_without_peft_the_extra_is_named(make_folder, save_delta, monkeypatch):
    folder, _ = save_delta(make_folder(), "lora")
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(MissingExtra, match=r"attar\[peft\]"):
        attar.load(folder)


# --- wherever a model is loaded


def test_a_delta_stands_wherever_a_fine_tuned_model_does(make_folder, save_delta, make_task, rows):
    encoder = make_folder()
    folder, before = save_delta(encoder, "adapters")
    assert loading.has_head(folder, "single-label")
    assert not loading.has_head(folder, "token")
    assert loading.load_config(folder).architectures == ["BertForSequenceClassification"]
    assert loading.load_tokenizer(folder).get_vocab() == loading.load_tokenizer(encoder).get_vocab()
    changed = loading.load_encoder(folder)
    assert not isinstance(changed, type(loading.load_for_task(folder, "single-label")))
    assert not torch.equal(
        changed(torch.tensor([[2, 9, 3]])).last_hidden_state,
        loading.load_encoder(encoder)(torch.tensor([[2, 9, 3]])).last_hidden_state,
    )
    teacher = open_teacher(TeacherConfig(bundles=(folder,)), make_task())
    assert teacher.max_length == 24
    answers = teacher.logits([rows(TEXTS)], "score").take(range(len(TEXTS)))
    assert answers == pytest.approx(before, abs=1e-2)  # the cache keeps half precision


def test_a_delta_is_no_encoder_for_a_new_head(make_folder, save_delta):
    folder, _ = save_delta(make_folder(), "bitfit")
    with pytest.raises(ModelError, match="attar merge"):
        loading.load_for_task(folder, "single-label", ("a", "b"))
    with pytest.raises(ModelError, match="expected token"):
        loading.load_for_task(folder, "token")
    with pytest.raises(ModelError, match="itself a delta"):
        attar.load(folder, encoder=folder)


@pytest.mark.parametrize("method", ["adapters", "lora"])
def test_a_loaded_delta_is_saved_as_a_delta_again(method, make_folder, save_delta, tmp_path):
    folder, before = save_delta(make_folder(), method)
    attar.load(folder).save(str(tmp_path / "copy"))
    shutil.rmtree(folder)
    assert is_delta(tmp_path / "copy")
    again = attar.load(str(tmp_path / "copy"))
    assert again.logits(TEXTS) == pytest.approx(before, abs=1e-5, rel=1e-5)
    assert again.bundle.max_length == 24


def test_a_delta_without_a_manifest_keeps_its_kind_of_task(make_folder, save_delta):
    folder, _ = save_delta(make_folder(), "bitfit", kind="multi-label")
    before = attar.load(folder).predict(["a film"])
    (Path(folder) / "attar.json").unlink()
    alone = attar.load(folder)
    assert alone.task.kind == "multi-label"
    assert alone.predict(["a film"]) == before

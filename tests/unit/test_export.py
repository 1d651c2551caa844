"""Exported models say what their sources say, in the engine and through attar.load."""

import json

import numpy as np
import onnxruntime
import pytest
import torch

import attar
from attar.bundle import folder_bytes, load_bundle, save_bundle
from attar.config import DataConfig
from attar.errors import BundleError, ConfigError
from attar.evaluate import evaluate_bundle
from attar.exporting import export as exporting
from attar.exporting.bilstm import folded_bytes
from attar.exporting.export import export_bundle
from attar.methods.bilstm_soft.vocabulary import build_tokenizer
from attar.nets.bilstm import BilstmConfig, BilstmForSequenceClassification
from attar.nets.longer import make_longer

TEXTS = ["the film was very good", "awful plot , dull actor", "not good", "anna met bob in rome", "a"]


def ask(model, kind="single-label", pair=False):
    texts = [text.split() for text in TEXTS] if kind == "token" else TEXTS
    return model.logits(texts, TEXTS[::-1] if pair else None)


@pytest.fixture
def save(tmp_path, make_task, tokenizer, make_model):
    """Save a tiny task model as a bundle."""

    def _save(family="bert", kind="single-label", *, pair=None, tokenizer=tokenizer, **settings):
        task = make_task(kind, pair=pair)
        model = make_model(family, kind=kind, labels=task.labels, **settings)
        folder = tmp_path / f"{family}-{kind}"
        save_bundle(folder, model, tokenizer, task, max_length=24, precision="float32")
        return str(folder)

    return _save


@pytest.fixture
def unlabelled(tmp_path, sentences):
    """A file of texts, pairs and lists of words."""
    texts = sentences(30)
    rows = [{"text": t, "second": s} for t, s in zip(texts, texts[::-1], strict=True)]
    (tmp_path / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = [{"text": t.split()} for t in texts]
    (tmp_path / "words.jsonl").write_text("\n".join(map(json.dumps, words)))
    return lambda kind="single-label": str(tmp_path / ("words.jsonl" if kind == "token" else "texts.jsonl"))


@pytest.fixture
def bilstm(tmp_path, make_task, rows):
    """Save a tiny BiLSTM as a bundle."""

    def _save(pair=None):
        tokenizer = build_tokenizer([rows(TEXTS)], min_count=1, max_words=100, lowercase=True, max_length=24)
        task = make_task(pair=pair)
        torch.manual_seed(0)
        config = BilstmConfig(
            vocab_size=len(tokenizer),
            embedding_width=6,
            hidden_size=5,
            projection_size=7,
            siamese=pair is not None,
            id2label=task.id2label,
            label2id=task.label2id,
        )
        model = BilstmForSequenceClassification(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.5)
        save_bundle(tmp_path / "bilstm", model, tokenizer, task, max_length=24, precision="float32")
        return str(tmp_path / "bilstm")

    return _save


def check_family(family, save, unlabelled, tmp_path, make_tokenizer, **settings):
    tokenizer = make_tokenizer(segments=family in ("bert", "electra", "deberta-v2"))
    source = save(family, tokenizer=tokenizer, **settings)
    report = export_bundle(source, str(tmp_path / "out"), data=unlabelled())
    assert report["attempts"][0]["max_difference"] < 1e-3
    np.testing.assert_allclose(ask(attar.load(report["out"])), ask(attar.load(source)), atol=2e-4)


def test_a_bert_is_exported_with_a_signature_that_plain_onnxruntime_runs(save, unlabelled, tmp_path):
    source, out = save(layers=1), tmp_path / "out"
    report = export_bundle(source, str(out), data=unlabelled())
    assert report["setting"] == "float32"
    assert report["bytes"] == folder_bytes(out)
    manifest = json.loads((out / "attar.json").read_text())
    assert manifest["task"]["labels"] == ["neg", "pos"]
    session = onnxruntime.InferenceSession(str(out / manifest["export"]["file"]))
    assert {i.name for i in session.get_inputs()} == set(manifest["export"]["inputs"])
    assert [o.name for o in session.get_outputs()] == list(manifest["export"]["outputs"])
    model, loaded = attar.load(source), attar.load(str(out))
    ids = model.bundle.tokenizer(TEXTS, padding=True, return_tensors="np")
    raw = session.run(["logits"], {name: ids[name].astype(np.int64) for name in manifest["export"]["inputs"]})[0]
    np.testing.assert_allclose(raw, ask(model), atol=1e-4)
    for length in (1, 12, 24, 40):  # any batch, any length, cut at the same limit
        text = [" ".join(["good"] * length)] * (1 + length % 3)
        np.testing.assert_allclose(loaded.logits(text), model.logits(text), atol=1e-4)
    one, other = loaded.predict(TEXTS)[0], model.predict(TEXTS)[0]
    assert (one.label, one.scores.keys()) == (other.label, other.scores.keys())
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")], "nothing half-written stays"
    with pytest.raises(BundleError, match="exported"):
        load_bundle(str(out))
    with pytest.raises(BundleError, match="exists already"):
        export_bundle(source, str(out), data=unlabelled())
    loaded.save(str(tmp_path / "copy"))
    assert (ask(attar.load(str(tmp_path / "copy"))) == ask(loaded)).all()


def test_an_mpnet_is_exported(save, unlabelled, tmp_path, make_tokenizer):
    check_family("mpnet", save, unlabelled, tmp_path, make_tokenizer, layers=1)


def test_static_int8_is_close_says_so_and_keeps_stdout_clean(save, unlabelled, tmp_path, capfd):
    source, out = save(layers=1), tmp_path / "out"
    report = export_bundle(source, str(out), format="openvino-int8", data=unlabelled(), tolerance=20)
    assert capfd.readouterr().out == "", "the progress of the quantisation is for stderr"
    assert (report["setting"], report["attempts"][0]["max_difference"] > 1e-4) == ("int8", True)
    exported = attar.load(str(out))
    assert (exported.bundle.precision, exported.bundle.export["engine"]) == ("int8", "openvino")
    assert (ask(exported).argmax(-1) == ask(attar.load(source)).argmax(-1)).all()


def test_adapters_are_exported_where_they_hang(make_folder, save_delta, unlabelled, tmp_path):
    folder, before = save_delta(make_folder(layers=1), "adapters")
    exported = attar.export(folder, str(tmp_path / "out"), data=unlabelled())
    np.testing.assert_allclose(exported.logits(TEXTS[:4]), before, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "bitfit"])
def test_a_delta_is_exported_merged(method, make_folder, save_delta, unlabelled, tmp_path):
    folder, before = save_delta(make_folder(), method)
    exported = attar.export(folder, str(tmp_path / "out"), data=unlabelled())
    np.testing.assert_allclose(exported.logits(TEXTS[:4]), before, atol=1e-4)


@pytest.mark.slow
def test_every_family_is_exported(family, save, unlabelled, tmp_path, make_tokenizer):
    check_family(family, save, unlabelled, tmp_path, make_tokenizer, layers=3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["multi-label", "regression", "token", "pair"])
@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_every_kind_of_task_is_exported(kind, format, save, unlabelled, tmp_path):
    pair, kind = ("second", "single-label") if kind == "pair" else (None, kind)
    source = save(kind=kind, pair=pair)
    exported = attar.export(source, str(tmp_path / "out"), format=format, data=unlabelled(kind))
    expected = ask(attar.load(source), kind, pair is not None)
    np.testing.assert_allclose(ask(exported, kind, pair is not None), expected, atol=1e-3)


@pytest.mark.parametrize("format", ["onnx", "openvino"])
@pytest.mark.parametrize("pair", [None, "second"])
def test_a_folded_bilstm_says_the_same(pair, format, bilstm, unlabelled, tmp_path):
    source = bilstm(pair)
    exported = attar.export(source, str(tmp_path / "out"), format=format, data=unlabelled())
    assert exported.bundle.export["setting"] == "folded, float32 table"
    expected = ask(attar.load(source), pair=pair is not None)
    np.testing.assert_allclose(ask(exported, pair=pair is not None), expected, atol=1e-5)
    empty = ["", "good"]  # a text without words reads one padding vector, in the source too
    second = ["", ""] if pair else None
    np.testing.assert_allclose(exported.logits(empty, second), attar.load(source).logits(empty, second), atol=1e-5)


def test_the_bilstms_table_may_be_smaller_or_too_large(bilstm, unlabelled, tmp_path):
    source = bilstm()
    settings = {"data": unlabelled(), "overwrite": True, "tolerance": 20}
    half = attar.export(source, str(tmp_path / "out"), table="float16", **settings)
    np.testing.assert_allclose(ask(half), ask(attar.load(source)), atol=0.01)
    labelled = tmp_path / "labelled.csv"
    labelled.write_text(
        "text,label\n"
        + "".join(f"{text},{label}\n" for text, label in zip(TEXTS[2:], ("neg", "pos", "neg"), strict=True))
    )
    config = DataConfig(path=str(labelled))
    expected = evaluate_bundle(source, config)["metrics"]
    assert evaluate_bundle(half.bundle.path, config)["metrics"]["accuracy"] == expected["accuracy"]
    int8 = attar.export(source, str(tmp_path / "out"), format="onnx-int8", **settings)
    assert (int8.bundle.export["setting"], int8.bundle.precision) == ("folded, int8 table", "int8")
    np.testing.assert_allclose(ask(int8), ask(attar.load(source)), atol=0.1)
    limit = str(folded_bytes(load_bundle(source).model, "float32") - 1)
    plain = attar.export(source, str(tmp_path / "out"), table_limit=limit, **settings)
    assert plain.bundle.export["setting"].startswith("not folded")
    np.testing.assert_allclose(ask(plain), ask(attar.load(source)), atol=1e-5)


def test_bad_settings_are_refused_before_anything_is_written(bilstm, unlabelled, tmp_path):
    source, out = bilstm(), tmp_path / "out"
    for wrong, told in (
        ({"format": "tflite"}, "onnx, onnx-int8, openvino"),
        ({"table": "int4"}, "float32, float16"),
        ({"tolerance": float("nan")}, "tolerance"),
        ({"table_limit": "much"}, "table-limit"),
    ):
        with pytest.raises(ConfigError, match=told):
            export_bundle(source, str(out), data=unlabelled(), **wrong)
    with pytest.raises(BundleError, match="--data"):
        export_bundle(source, str(out))
    with pytest.raises(BundleError, match="choose another"):
        export_bundle(source, source, data=unlabelled(), overwrite=True)
    assert not out.exists()


def test_an_interrupted_export_leaves_the_old_folder_and_nothing_else(bilstm, unlabelled, tmp_path, monkeypatch):
    source, out = bilstm(), tmp_path / "out"
    export_bundle(source, str(out), data=unlabelled())
    before = sorted(p.name for p in tmp_path.iterdir())
    monkeypatch.setattr(exporting, "folder_bytes", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        export_bundle(source, str(out), data=unlabelled(), overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert ask(attar.load(str(out))).shape == (5, 2)


@pytest.mark.parametrize(("name", "own"), [("bert", False), ("bert", True), ("mpnet", False)])
def test_windowed_attention_is_exported_as_it_is(tmp_path, make_model, make_task, tokenizer, unlabelled, name, own):
    settings = {"pad_token_id": 1} if name == "mpnet" else {}
    model = make_model(name, kind="single-label", **settings)
    model = make_longer(model, max_length=200, window=16, global_projections=own)
    with torch.no_grad():
        for place, parameter in model.named_parameters():
            if "_global" in place:
                parameter.add_(0.3 * torch.randn_like(parameter))
    save_bundle(tmp_path / "long", model, tokenizer, make_task(), max_length=180, precision="float32")
    export_bundle(str(tmp_path / "long"), str(tmp_path / "out"), data=unlabelled(), tolerance=100)
    texts = ["good film bad " * n for n in (2, 5, 9, 25, 50)]  # below and above the window
    source, exported = attar.load(str(tmp_path / "long")), attar.load(str(tmp_path / "out"))
    np.testing.assert_allclose(exported.logits(texts), source.logits(texts), atol=1e-4)


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_model_in_half_precision_is_exported_in_float32(
    tmp_path, make_model, make_task, tokenizer, unlabelled, format
):
    model = make_model(kind="single-label").to(torch.bfloat16)
    save_bundle(tmp_path / "half", model, tokenizer, make_task(), max_length=24, precision="float32")
    export_bundle(str(tmp_path / "half"), str(tmp_path / "out"), format=format, data=unlabelled())
    exact = make_model(kind="single-label").to(torch.bfloat16).float()
    save_bundle(tmp_path / "exact", exact, tokenizer, make_task(), max_length=24, precision="float32")
    found = attar.load(str(tmp_path / "out")).logits(TEXTS)
    np.testing.assert_allclose(found, attar.load(str(tmp_path / "exact")).logits(TEXTS), atol=2e-2)

"""The quality gate: an export that is worse than its source is caught, and a safer one is found."""

import csv
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

import attar
from attar.bundle import save_bundle
from attar.cli.main import app
from attar.errors import BundleError, DataError, QualityError
from attar.exporting import formats
from attar.exporting.encoder import OPSETS, write_encoder
from attar.exporting.export import export_bundle
from attar.exporting.gate import open_validation
from attar.inference.predictor import Predictor


@pytest.fixture
def source(tmp_path, make_model, make_task, tokenizer, sentences):
    """A tiny BERT as a bundle; with ``outliers``, int8 activations lose all but one channel of half its products."""

    def _make(kind="single-label", *, outliers=False, **task):
        task = make_task(kind, **task)
        model = make_model(kind=kind, labels=task.labels)
        if outliers:
            with torch.no_grad():
                for layer in model.bert.encoder.layer:
                    layer.intermediate.dense.bias[0] = layer.attention.self.value.bias[0] = 1e5
                    layer.output.dense.weight[:, 0] = layer.attention.output.dense.weight[:, 0] = 0
        save_bundle(tmp_path / "source", model, tokenizer, task, max_length=24, precision="float32")
        if outliers:  # both labels equally often, so that a constant answer is half wrong
            logits = attar.load(str(tmp_path / "source")).logits(sentences(60))
            model.classifier.bias.data[1] -= float(np.median(logits[:, 1] - logits[:, 0]))
            save_bundle(tmp_path / "source", model, tokenizer, task, max_length=24, precision="float32")
        return attar.load(str(tmp_path / "source"))

    return _make


@pytest.fixture
def labelled(tmp_path, sentences):
    """Texts with the labels that a model gives them, as a file: the model scores 100 %."""

    def _make(model, n=60):
        texts = sentences(n)
        file = tmp_path / "labelled.csv"
        with file.open("w", newline="") as out:
            writer = csv.writer(out)
            writer.writerows([["text", "label"], *zip(texts, [p.label for p in model.predict(texts)], strict=True)])
        return str(file)

    return _make


def engine(change):
    """An exported model whose logits are the reference's, changed."""
    return lambda checked: SimpleNamespace(engine=SimpleNamespace(score=lambda _: change(checked.reference.copy())))


def test_an_equal_model_drops_nothing_and_a_broken_one_is_measured(source, labelled):
    model = source()
    checked = open_validation(model, labelled(model))
    same = checked.compare(engine(lambda logits: logits + 0.25)(checked))
    assert (same["max_difference"], same["agreement"], same["drop"]) == (pytest.approx(0.25), 1.0, 0.0)
    assert (same["metric"], same["source"], same["exported"]) == ("accuracy", 1.0, 1.0)
    turned = checked.compare(engine(lambda logits: -logits)(checked))
    assert (turned["agreement"], turned["drop"]) == (0.0, 100.0)
    lost = checked.compare(engine(lambda logits: logits * np.nan)(checked))
    assert (lost["max_difference"], lost["drop"]) == (None, 100.0)
    json.dumps(lost, allow_nan=False)


def test_without_labels_the_changed_answers_count(source, tmp_path, sentences):
    model = source()
    (tmp_path / "texts.txt").write_text("\n".join(sentences(50)))
    checked = open_validation(model, str(tmp_path / "texts.txt"))
    assert checked.labels is None

    def change(logits):
        logits[:5] = -logits[:5]
        return logits

    found = checked.compare(engine(change)(checked))
    assert (found["metric"], found["drop"]) == (None, pytest.approx(10.0))


@pytest.mark.parametrize(
    ("kind", "labels", "written"),
    [
        ("single-label", None, ["pos", "neg", "pos"]),
        ("multi-label", None, [["neg", "pos"], [], ["pos"]]),
        ("regression", None, [0.5, -1.0, 2.0]),
        ("token", None, [["O", "B-PER"], ["O"], ["O", "O", "O"]]),
        ("multi-label", ("a, b", "c"), [["a, b", "c"], [], ["c"]]),
    ],
)
def test_kept_texts_are_read_back_with_their_labels(kind, labels, written, source, make_task):
    model = source(kind, labels=labels)
    folder = model.bundle.path
    texts = ["the anna", "rome", "a good film"]
    table = pa.table({"text": [t.split() for t in texts] if kind == "token" else texts, "label": written})
    pq.write_table(table, f"{folder}/predictions.parquet")
    checked = open_validation(model, None)
    assert "3 of the 3 texts" in checked.where
    wanted = {
        "single-label": [1, 0, 1],
        "multi-label": [[1, 1], [0, 0], [0, 1]],
        "regression": [0.5, -1, 2],
        "token": [0, 1, 0, 0, 0, 0],
    }
    assert checked.labels.squeeze().tolist() == wanted[kind]


def test_validation_that_does_not_fit_is_refused(source, tmp_path):
    model = source()
    with pytest.raises(BundleError, match="--data FILE"):
        open_validation(model, None)
    (tmp_path / "other.csv").write_text("review,stars\ngood film,5\n")
    with pytest.raises(DataError, match="expected a column 'text'"):
        open_validation(model, str(tmp_path / "other.csv"))


@pytest.fixture
def traced_once(tmp_path, monkeypatch):
    """Export a model once, for all calls of a test."""

    def _trace(model, engine="onnx"):
        file = tmp_path / "traced.onnx"
        names = ("input_ids", "attention_mask", "token_type_ids")
        write_encoder(model.bundle.model, names, OPSETS[engine], file)
        monkeypatch.setattr(formats, "write_encoder", lambda *args: shutil.copy(file, args[-1]))

    return _trace


def test_int8_that_collapses_is_refused_or_mended_by_leaving_products_in_float(
    source, labelled, traced_once, tmp_path, monkeypatch
):
    model = source(outliers=True)
    data, out = labelled(model), tmp_path / "out"
    traced_once(attar.load(model.bundle.path))
    report = export_bundle(model.bundle.path, str(out), format="onnx-int8", data=data, tolerance=10)
    tried = report["attempts"]
    assert [one["passed"] for one in tried] == [False] * (len(tried) - 1) + [True]
    assert tried[0]["drop"] > 10
    assert "float32" in report["setting"]
    assert attar.load(str(out)).bundle.export["gate"]["attempts"] == tried

    shutil.rmtree(out)
    monkeypatch.setattr(formats, "product_errors", lambda *_: {})  # nothing is left in float: int8 stays broken
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(QualityError, match="Nothing was written") as error:
        export_bundle(model.bundle.path, str(out), format="onnx-int8", data=data, tolerance=10)
    assert [one["passed"] for one in error.value.report["attempts"]] == [False] * 4
    assert sorted(p.name for p in tmp_path.iterdir()) == before

    found = CliRunner().invoke(
        app, ["export", model.bundle.path, "--format", "onnx-int8", "--data", data, "--out", str(out), "--json"]
    )
    assert isinstance(found.exception, QualityError)
    assert len(json.loads(found.stdout)["attempts"]) == 4
    assert not out.exists()


def test_static_int8_that_collapses_is_mended_by_leaving_products_in_float(source, labelled, traced_once, tmp_path):
    model = source(outliers=True)
    data, out = labelled(model), tmp_path / "out"
    traced_once(attar.load(model.bundle.path), "openvino")
    report = export_bundle(model.bundle.path, str(out), format="openvino-int8", data=data, tolerance=10)
    tried = report["attempts"]
    assert [one["passed"] for one in tried] == [False] * (len(tried) - 1) + [True]
    assert "float32" in report["setting"]


def test_a_source_may_be_checked_by_any_engine(source, labelled):
    model = source()
    checked = open_validation(model, labelled(model))
    assert checked.compare(Predictor(model.bundle))["max_difference"] == 0


def test_texts_where_words_are_wanted_are_refused(source, tmp_path):
    (tmp_path / "a.csv").write_text("text\nanna met bob\n")
    with pytest.raises(DataError, match="expected lists of words in column 'text', found texts"):
        open_validation(source("token"), str(tmp_path / "a.csv"))

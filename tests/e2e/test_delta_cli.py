"""Deltas on the command line: made by a run, used like any bundle, merged."""

import json
from pathlib import Path

import pytest
import torch
from toy import FAST, call, near
from transformers import AutoModelForSequenceClassification

import attar

METHODS = ("freezing", "bitfit", "adapters", "lora")
TEXTS = ["the film was great", "it was an awful story"]


def ran(*arguments):
    result = call(*arguments, "--json")
    assert result.code == 0, result.err
    return result.json


@pytest.fixture(scope="module")
def deltas(tmp_path_factory, encoder, data):
    """A delta of each method, all of one encoder."""
    folder = tmp_path_factory.mktemp("deltas")
    for method in METHODS:
        quick = ("--epochs", 2, *FAST, "--no-baseline")
        top = ("--set", "method.layers=1") if method == "freezing" else ()
        ran("finetune", "--model", encoder, "--data", data, "--method", method, "--out", folder / method, *quick, *top)
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_a_run_leaves_a_delta_with_its_record_and_no_copy_of_the_encoder(method, deltas, encoder):
    folder = deltas / method
    weights = "adapter_model.safetensors" if method == "lora" else "delta.safetensors"
    assert {"delta.json", weights, "attar.json", "record.json", "recipe.toml", "README.md"} <= {
        file.name for file in folder.iterdir()
    }
    assert not [file.name for file in folder.iterdir() if file.name.startswith(("model", "tokenizer", "config"))]
    record = json.loads((folder / "record.json").read_text())
    size = sum((folder / name).stat().st_size for name in ("delta.json", weights))
    size += (folder / "adapter_config.json").stat().st_size if method == "lora" else 0
    assert record["models"][0]["delta_bytes"] == size
    assert record["models"][0]["bytes"] > size + (Path(encoder) / "model.safetensors").stat().st_size
    header = json.loads((folder / "delta.json").read_text())
    assert (header["method"], header["labels"], header["encoder"]) == (method, ["neg", "pos"], encoder)


@pytest.mark.parametrize("method", METHODS)
def test_a_delta_predicts_and_is_evaluated_as_its_run_found(method, deltas, data):
    folder = deltas / method
    record = json.loads((folder / "record.json").read_text())
    assert near(ran("evaluate", folder, "--data", data)["metrics"], record["models"][0]["metrics"]["test"])
    shown = ran("predict", folder, *TEXTS)["predictions"]
    assert [row["label"] for row in shown] == [p.label for p in attar.load(str(folder)).predict(TEXTS)]


def test_deltas_of_all_methods_answer_over_one_encoder_as_they_do_alone(deltas, encoder):
    tasks = attar.DeltaSet(encoder)
    for method in METHODS:
        tasks.add(method, str(deltas / method))
    for method in (*METHODS, *reversed(METHODS)):
        alone = attar.load(str(deltas / method)).logits(TEXTS)
        assert tasks.logits(method, TEXTS) == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("method", ["adapters", "lora"])
def test_a_delta_teaches(method, deltas, data, tmp_path):
    small = ("--set", "method.width=8", "--set", "method.hidden=8", "--set", "method.projection=16")
    out = ("--out", tmp_path / "student", "--epochs", 1, "--no-baseline", "--set", "method.vectors=random")
    record = ran("distill", "--teacher", deltas / method, "--data", data, *small, *out)
    teacher = next(entry for entry in record["models"] if entry["role"] == "teacher")
    assert teacher["metrics"]["test"]["accuracy"] == pytest.approx(
        json.loads((deltas / method / "record.json").read_text())["models"][0]["metrics"]["test"]["accuracy"]
    )


def test_a_student_is_cut_from_a_delta_as_from_the_model_that_it_stands_for(deltas, data, tmp_path):
    out = ("--epochs", 1, *FAST, "--no-baseline", "--method", "logits", "--student", "layers:0")
    ran("distill", "--teacher", deltas / "lora", "--data", data, "--out", tmp_path / "student", *out)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student")
    assert not [name for name in model.state_dict() if "lora" in name]
    refused = call("distill", "--teacher", deltas / "adapters", "--data", data, "--out", tmp_path / "other", *out)
    assert refused.code == 2
    assert "adapters cannot be merged" in refused.err


@pytest.mark.parametrize("method", ["freezing", "bitfit", "lora"])
def test_merge_leaves_what_transformers_loads_alone(method, deltas, tmp_path):
    found = ran("merge", deltas / method, "--out", tmp_path / "whole")
    assert Path(found["out"]) == tmp_path / "whole"
    assert found["bytes"] > 2 * sum(f.stat().st_size for f in (deltas / method).glob("*.safetensors"))
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "whole").eval()
    whole, delta = attar.load(str(tmp_path / "whole")), attar.load(str(deltas / method))
    batch = whole.bundle.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        assert model(**batch).logits.numpy() == pytest.approx(delta.logits(TEXTS), abs=1e-4)
    assert whole.task == delta.task


def test_merge_refuses_in_one_line_and_leaves_nothing(deltas, encoder, tmp_path):
    (tmp_path / "there").mkdir()
    cases = (
        (deltas / "adapters", tmp_path / "whole", "non-linear"),
        (encoder, tmp_path / "whole", "holds no delta"),
        (deltas / "bitfit", tmp_path / "there", "--overwrite"),
        (tmp_path / "nowhere", tmp_path / "whole", "holds no delta"),
    )
    for delta, out, message in cases:
        result = call("merge", delta, "--out", out)
        assert result.code == 2
        assert message in result.err
        assert len(result.err.strip().splitlines()) == 1
        assert result.out == ""
        assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert call("merge", deltas / "bitfit", "--out", tmp_path / "there", "--overwrite").code == 0
    assert attar.load(str(tmp_path / "there")).predict(TEXTS)


@pytest.mark.parametrize(
    "command", [("finetune", "--model"), ("distill", "--method", "logits", "--student")], ids=["model", "student"]
)
def test_a_delta_in_the_place_of_an_encoder_is_refused_with_the_way_out(command, deltas, teacher, data, tmp_path):
    extra = ("--teacher", teacher) if command[0] == "distill" else ()
    result = call(*command, deltas / "bitfit", *extra, "--data", data, "--out", tmp_path / "out")
    assert result.code == 2
    assert "attar merge" in result.err.splitlines()[-1]
    assert not list(tmp_path.iterdir())

"""``attar pretrain`` as a person uses it: what it leaves, what it refuses, and both steps in a row."""

import json
import re
import signal

import pytest
import torch
from safetensors.torch import load_file
from test_resume import stop_in_training
from toy import FAST, call, reviews, save_encoder, start
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from attar.config import dump_toml, read_toml

SIZES = ("--epochs", 2, "--batch-size", 8, "--max-length", 32, "--lr", "2e-3", "--set", "train.accumulation=1")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A folder of two files of documents, in two formats."""
    folder = tmp_path_factory.mktemp("corpus")
    texts = reviews(360, 3)["text"]
    documents = [" ".join(texts[i : i + 6]) for i in range(0, 360, 3)]
    (folder / "a.txt").write_text("\n".join(documents[:60]))
    (folder / "b.jsonl").write_text("\n".join(json.dumps({"id": i, "body": t}) for i, t in enumerate(documents[60:])))
    return str(folder)


@pytest.fixture(scope="session")
def large(tmp_path_factory):
    """A pre-trained encoder of four layers, with a head for masked words."""
    return save_encoder(tmp_path_factory.mktemp("large") / "bert", layers=4)


@pytest.fixture(scope="session")
def general(tmp_path_factory, large, corpus):
    """What ``attar pretrain`` leaves, and its record."""
    out = tmp_path_factory.mktemp("general") / "student"
    result = call("pretrain", "--teacher", large, "--text", corpus, "--out", out, *SIZES, "--json")
    assert result.code == 0, result.err
    return str(out), result.json


def test_it_leaves_an_ordinary_folder_with_every_loss_in_the_record(general, large):
    out, record = general
    model = AutoModelForMaskedLM.from_pretrained(out)
    assert (model.config.model_type, model.config.n_layers) == ("distilbert", 2)
    assert AutoModel.from_pretrained(out).config.n_layers == 2
    assert AutoTokenizer.from_pretrained(out).get_vocab() == AutoTokenizer.from_pretrained(large).get_vocab()
    (stage,) = record["stages"]
    assert (stage["role"], record["command"], record["models"], record["task"]) == ("pretrained", "pretrain", [], {})
    dev = [point for point in stage["curve"] if "dev_loss" in point]
    assert len(dev) == 2
    assert {"dev_soft_loss", "dev_mlm_loss", "dev_cosine_loss"} < set(dev[0])
    assert any({"loss", "soft_loss", "mlm_loss", "cosine_loss"} <= set(point) for point in stage["curve"])
    assert record["data"]["rows"]["documents"] == 120
    assert any("layers 0, 3 of the teacher's 4" in note for note in record["data"]["notes"])


def test_its_page_shows_the_losses_and_no_table_of_models(general, tmp_path):
    out, _ = general
    assert call("report", out, "--out", tmp_path / "page.html").code == 0
    page = (tmp_path / "page.html").read_text()
    assert "On the held-out documents: loss" in page
    assert "perplexity of masked words" in page
    assert "dev_mlm_loss" not in re.sub(r"(?s)<script.*", "", page)
    assert "measured on the" not in page
    assert 'data-chart="speed"' not in page
    data = json.loads(re.search(r'(?s)id="data">(.*?)</script>', page)[1])
    (curves,) = data["runs"]["run-1"]["curves"]
    assert {one["name"] for one in curves["losses"]} == {"loss", "soft loss", "mlm loss", "cosine loss"}
    assert {one["name"] for one in curves["dev"]} == {"loss", "soft loss", "mlm loss", "cosine loss"}


def test_its_recipe_makes_the_same_weights_again_and_the_table_is_for_people(general, tmp_path):
    out, _ = general
    result = call("run", f"{out}/recipe.toml", "--out", tmp_path / "again")
    assert result.code == 0, result.err
    assert "perplexity of masked words" in result.out
    a, b = load_file(f"{out}/model.safetensors"), load_file(tmp_path / "again" / "model.safetensors")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_result_is_an_encoder_to_fine_tune_and_a_student(general, teacher, data, tmp_path):
    out, _ = general
    fast = (*FAST, "--epochs", 1, "--no-baseline", "--json")
    tuned = call("finetune", "--model", out, "--data", data, "--out", tmp_path / "tuned", *fast)
    assert tuned.code == 0, tuned.err
    student = ("--method", "distilbert", "--student", out)
    distilled = call("distill", "--teacher", teacher, *student, "--data", data, "--out", tmp_path / "student", *fast)
    assert distilled.code == 0, distilled.err
    assert {model["role"] for model in distilled.json["models"]} == {"student", "teacher"}


def test_a_head_then_a_student_from_an_encoder_without_a_head(large, corpus, tmp_path):
    AutoModel.from_pretrained(large).save_pretrained(tmp_path / "bare")
    AutoTokenizer.from_pretrained(large).save_pretrained(tmp_path / "bare")
    run = ("pretrain", "--text", corpus, *SIZES)
    refused = call(*run, "--teacher", tmp_path / "bare", "--out", tmp_path / "student")
    assert refused.code == 2
    assert "no masked-language-model head" in refused.err
    assert "--method mlm-head" in refused.err
    assert not (tmp_path / "student.work").exists()
    head = call(*run, "--method", "mlm-head", "--teacher", tmp_path / "bare", "--out", tmp_path / "head", "--json")
    assert head.code == 0, head.err
    own = load_file(tmp_path / "bare" / "model.safetensors")
    found = load_file(tmp_path / "head" / "model.safetensors")
    assert all(torch.equal(found[f"bert.{name}"], value) for name, value in own.items() if "pooler" not in name)
    assert call(*run, "--teacher", tmp_path / "head", "--out", tmp_path / "student").code == 0


def test_both_in_a_row_say_what_each_step_brought(large, teacher, data, corpus, tmp_path):
    recipe = {
        "command": "distill",
        "out": str(tmp_path / "student"),
        "teacher": {"bundles": [teacher]},
        "data": {"path": data},
        "method": {"name": "distilbert"},
        "train": {"epochs": 1, "lr": 5e-3, "batch_size": 16, "max_length": 24},
        "pretrain": {
            "teacher": large,
            "text": {"paths": [corpus]},
            "train": {"epochs": 1, "batch_size": 8, "accumulation": 1, "max_length": 32},
        },
    }
    (tmp_path / "recipe.toml").write_text(dump_toml(recipe))
    result = call("run", tmp_path / "recipe.toml", "--json")
    assert result.code == 0, result.err
    record = result.json
    roles = ["student", "teacher", "no-pretraining", "labels-only", "linear"]
    assert [model["role"] for model in record["models"]] == roles
    assert [stage["role"] for stage in record["stages"]] == ["pretrained", "student", "no-pretraining", "labels-only"]
    sizes = {model["role"]: model["parameters"] for model in record["models"]}
    assert sizes["student"] == sizes["labels-only"]
    assert record["data"]["pretraining"]["rows"]["documents"] == 120
    assert read_toml(tmp_path / "student" / "recipe.toml")["method"]["student"] == "half"
    assert AutoModel.from_pretrained(tmp_path / "student").config.model_type == "distilbert"
    assert not (tmp_path / "student.work").exists()
    assert call("report", tmp_path / "student").code == 0
    assert re.search("pre-training (adds|costs)", (tmp_path / "student" / "report.html").read_text())


def test_a_method_that_takes_no_student_cannot_follow_a_pretraining(large, teacher, data, corpus, tmp_path):
    run = ("distill", "--teacher", teacher, "--data", data, "--out", tmp_path / "student", "--method", "bilstm-soft")
    result = call(*run, "--set", f"pretrain.teacher={large}", "--set", f'pretrain.text.paths=["{corpus}"]')
    assert result.code == 2
    assert "found bilstm-soft" in result.err
    assert list(tmp_path.iterdir()) == []


def broken(folder):
    (folder / "a.txt").write_text("one\ntwo")
    (folder / "bad.parquet").write_bytes(b"PAR1")


@pytest.mark.parametrize(
    ("make", "flags", "message"),
    [
        (broken, (), r"bad\.parquet: expected a whole Parquet file"),
        (lambda folder: None, (), "found none; check the folder"),
        (lambda folder: (folder / "a.txt").write_text("short\ntexts"), SIZES, "at least 12 tokens, found none"),
        (lambda folder: (folder / "a.txt").write_text("a\nb"), ("--max-length", 2000), r"reads at most 64 tokens"),
        (lambda folder: (folder / "a.txt").write_text("a\nb"), ("--method", "logits"), "belongs to attar distill"),
        (lambda folder: (folder / "a.txt").write_text("a\nb"), (*SIZES, "--student", "layers:9"), "from 0 to 3"),
    ],
)
def test_bad_input_exits_2_with_one_line_and_leaves_nothing(large, tmp_path, make, flags, message):
    folder = tmp_path / "texts"
    folder.mkdir()
    make(folder)
    result = call("pretrain", "--teacher", large, "--text", folder, "--out", tmp_path / "out", *flags)
    assert result.code == 2
    (line,) = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert re.search(message, line)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts"]


def test_an_output_in_the_way_is_kept(general, large, corpus):
    out, _ = general
    run = ("pretrain", "--teacher", large, "--text", corpus, "--out", out, *SIZES)
    assert call(*run).code == 2
    assert "already done" in call(*run, "--resume").err


@pytest.mark.slow
def test_a_killed_pretraining_resumes_to_the_weights_of_an_uninterrupted_one(large, corpus, cache, tmp_path):
    run = ("pretrain", "--teacher", large, "--text", corpus, *SIZES, "--epochs", 12)
    process = start(*run, "--out", tmp_path / "student", cwd=tmp_path, cache=cache)
    stop_in_training(process, tmp_path / "student.work", signal.SIGKILL)
    assert not (tmp_path / "student").exists()
    encoded = tmp_path / "student.work" / "corpus" / "train.ids"
    stamp = encoded.stat().st_mtime_ns
    assert call(*run, "--out", tmp_path / "student").code == 2
    assert encoded.stat().st_mtime_ns == stamp
    resumed = call(*run, "--out", tmp_path / "student", "--resume")
    assert resumed.code == 0, resumed.err
    assert "tokenize" not in resumed.err
    whole = call(*run, "--out", tmp_path / "whole")
    assert whole.code == 0, whole.err
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("student", "whole"))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-6, msg=name)

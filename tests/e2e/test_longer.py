"""``attar longer`` and ``--long``, as a person calls them."""

import json
from pathlib import Path

import pytest
from toy import call, reviews, write_rows

LONG = ("--max-length", 120, "--batch-size", 16, "--lr", "5e-3", "--epochs", 1, "--no-baseline", "--json")
SMALL = ("--max-length", 24, "--batch-size", 16, "--lr", "5e-3", "--epochs", 1, "--no-baseline", "--json")


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """Reviews of some 100 words: 12 short ones of one label, one after another."""
    folder = tmp_path_factory.mktemp("documents")
    for split, n, seed in (("train", 32, 0), ("dev", 8, 1), ("test", 8, 2)):
        short = reviews(12 * n, seed)
        sorted_texts = {
            label: [t for t, k in zip(*short.values(), strict=True) if k == label] for label in ("neg", "pos")
        }
        texts = [" ".join(sorted_texts["neg" if i % 2 else "pos"][6 * i : 6 * i + 12]) for i in range(n)]
        write_rows(folder / f"{split}.csv", {"text": texts, "label": ["neg" if i % 2 else "pos" for i in range(n)]})
    return str(folder)


@pytest.fixture(scope="module")
def long_encoder(tmp_path_factory, encoder):
    out = tmp_path_factory.mktemp("long") / "encoder"
    done = call("longer", "--model", encoder, "--max-length", 120, "--window", 16, "--out", out, "--global-projections")
    assert done.code == 0, done.err
    assert "8 tokens to either side" in done.out
    return str(out)


@pytest.fixture(scope="module")
def long_teacher(tmp_path_factory, long_encoder, documents):
    out = tmp_path_factory.mktemp("long-teacher") / "teacher"
    done = call("finetune", "--model", long_encoder, "--data", documents, "--out", out, *LONG)
    assert done.code == 0, done.err
    return str(out)


def manifest(folder):
    return json.loads((Path(folder) / "attar.json").read_text())


def test_a_windowed_encoder_is_tuned_and_predicts(long_teacher):
    assert json.loads((Path(long_teacher) / "config.json").read_text())["attention_window"] == 16
    assert manifest(long_teacher)["max_length"] == 120
    done = call("predict", long_teacher, "great film " * 50, "--json")
    assert done.code == 0, done.err


def test_half_of_a_windowed_teacher_keeps_its_windows(long_teacher, documents, tmp_path):
    out = tmp_path / "half"
    flags = ("--method", "distilbert", "--student", "half")
    done = call("distill", "--teacher", long_teacher, "--data", documents, "--out", out, *flags, *LONG)
    assert done.code == 0, done.err
    config = json.loads((out / "config.json").read_text())
    assert (config["attention_window"], config["num_hidden_layers"]) == (16, 1)
    assert any("windowed attention" in note for stage in done.json["stages"] for note in stage["notes"])


def test_a_windowed_teacher_teaches_a_bilstm(long_teacher, documents, tmp_path):
    out = tmp_path / "bilstm"
    done = call("distill", "--teacher", long_teacher, "--data", documents, "--out", out, *LONG)
    assert done.code == 0, done.err


def test_a_delta_of_a_windowed_encoder(long_encoder, documents, tmp_path):
    """LoRA wraps the very maps that the global projections stand beside."""
    out = tmp_path / "delta"
    flags = ("--method", "lora")
    done = call("finetune", "--model", long_encoder, "--data", documents, "--out", out, *flags, *LONG)
    assert done.code == 0, done.err
    done = call("evaluate", out, "--data", documents, "--json")
    assert done.code == 0, done.err


@pytest.mark.parametrize("long", ["head-tail", "chunks", "chunks-max"])
def test_long_texts_in_other_ways(encoder, documents, tmp_path, long):
    out = tmp_path / "tuned"
    done = call("finetune", "--model", encoder, "--data", documents, "--out", out, "--long", long, *SMALL)
    assert done.code == 0, done.err
    assert manifest(out)["long"] == long
    record = next(m for m in done.json["models"] if m["role"] == "tuned")
    again = call("evaluate", out, "--data", documents, "--json")
    assert again.json["metrics"]["accuracy"] == record["metrics"]["test"]["accuracy"]


def test_chunks_distil_into_a_windowed_student(encoder, documents, tmp_path):
    teacher, out = tmp_path / "teacher", tmp_path / "student"
    done = call("finetune", "--model", encoder, "--data", documents, "--out", teacher, "--long", "chunks", *SMALL)
    assert done.code == 0, done.err
    # 300 tokens, because the window is 256 where the run itself converts
    flags = ("--method", "logits", "--student", encoder, "--long", "windowed", *LONG, "--max-length", 300)
    done = call("distill", "--teacher", teacher, "--data", documents, "--out", out, *flags)
    assert done.code == 0, done.err
    assert json.loads((out / "config.json").read_text())["max_position_embeddings"] == 300
    assert manifest(out)["long"] == "windowed"


def test_a_run_makes_its_encoder_longer_itself(encoder, documents, tmp_path):
    out = tmp_path / "tuned"
    flags = (*LONG, "--max-length", 300, "--long", "windowed")
    done = call("finetune", "--model", encoder, "--data", documents, "--out", out, *flags)
    assert done.code == 0, done.err
    assert json.loads((out / "config.json").read_text())["attention_window"] == 256


def test_masked_words_train_a_windowed_encoder_further(long_encoder, documents, tmp_path):
    out = tmp_path / "trained"
    flags = ("--method", "mlm-head", "--set", "method.encoder=true", "--max-length", 120, "--epochs", 1, "--lr", "1e-3")
    text = Path(documents) / "train.csv"
    done = call("pretrain", "--teacher", long_encoder, "--text", text, "--out", out, *flags, "--json")
    assert done.code == 0, done.err
    assert "the encoder among them" in done.out
    config = json.loads((out / "config.json").read_text())
    assert config["architectures"] == ["WindowedBertForMaskedLM"]


def test_a_bundle_is_made_longer_with_its_head_and_task(teacher, tmp_path):
    out = tmp_path / "long"
    done = call("longer", "--model", teacher, "--max-length", 120, "--window", 24, "--out", out, "--json")
    assert done.code == 0, done.err
    assert done.json["window"] == 24
    assert manifest(out)["task"] == manifest(teacher)["task"]
    assert manifest(out)["max_length"] == 120
    texts = ["a great film", "an awful film"]
    one, other = (call("predict", folder, *texts, "--json") for folder in (teacher, str(out)))
    assert one.out == other.out
    again = call("longer", "--model", teacher, "--max-length", 120, "--window", 24, "--out", out)
    assert again.code == 2
    assert "--overwrite" in again.err
    assert call("longer", "--model", teacher, "--max-length", 90, "--window", 8, "--out", out, "--overwrite").code == 0
    assert manifest(out)["max_length"] == 90


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--max-length", 100, "--window", 256), "no shorter than texts of 100"),
        (("--max-length", 100, "--window", 9), "even number"),
        (("--max-length", 100, "--window", 8, "--out", "SAME"), "choose another --out"),
    ],
)
def test_bad_requests_are_one_line(encoder, tmp_path, flags, says):
    flags = tuple(encoder if flag == "SAME" else flag for flag in flags)
    out = () if "--out" in flags else ("--out", tmp_path / "x")
    done = call("longer", "--model", encoder, *flags, *out, "--overwrite")
    assert done.code == 2
    assert says in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--max-length", 300), "reads at most 64 tokens"),
        (("--max-length", 300, "--long", "windowed", "--method", "bitfit"), "attar longer"),
        (("--max-length", 100, "--long", "windowed"), "no shorter than texts of 100"),
        (("--long", "tail"), "expects one of truncate"),
    ],
)
def test_bad_runs_are_refused(encoder, documents, tmp_path, flags, says):
    done = call("finetune", "--model", encoder, "--data", documents, "--out", tmp_path / "x", *flags, "--no-baseline")
    assert done.code == 2
    assert says in done.err.splitlines()[-1]
    assert not (tmp_path / "x").exists()


def test_a_bilstm_cannot_be_windowed(teacher, documents, tmp_path):
    flags = ("--long", "windowed", "--max-length", 300, "--no-baseline")
    done = call("distill", "--teacher", teacher, "--data", documents, "--out", tmp_path / "x", *flags)
    assert done.code == 2
    assert "it has no attention" in done.err.splitlines()[-1]

"""The command line from end to end, on a tiny encoder: what is left on disk, on stdout, on stderr, and exit codes."""

import csv
import json
import random
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from toy import BAD, FAST, GOOD, NAMES, PLAIN, call, near, reviews, save_encoder, write_rows
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertForSequenceClassification,
)

import attar

#: A BiLSTM that the toy tasks need no wider.
SMALL_BILSTM = ("--set", "method.width=8", "--set", "method.hidden=8", "--set", "method.projection=16")
BILSTM = ("--method", "bilstm-soft", *SMALL_BILSTM)
LOGITS = ("--method", "logits", *FAST)


def shards(cache: Path) -> set[Path]:
    return set((cache / "signals").rglob("*.arrow"))


def folder_state(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def distilled(out: Path, *arguments: object) -> dict:
    result = call("distill", *arguments, "--out", out, "--json")
    assert result.code == 0, result.err
    return result.json


def model(record: dict, role: str) -> dict:
    return next(entry for entry in record["models"] if entry["role"] == role)


@pytest.fixture(scope="module")
def student(tmp_path_factory, teacher, data):
    """A BiLSTM student with everything that a run leaves."""
    out = tmp_path_factory.mktemp("student") / "student"
    distilled(out, "--teacher", teacher, "--data", data, *BILSTM, "--epochs", 4, "--augment", "tang", "--set",
              "augment.n_iter=2")  # fmt: skip
    return out


# What every run promises -------------------------------------------------------------------------------------------


def test_help_leaves_torch_unloaded():
    script = (
        "import sys\nfrom attar.cli.main import main\nsys.argv = ['attar', '--help']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "heavy = {'torch', 'transformers', 'datasets', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "distill" in done.stdout
    assert "finetune" in done.stdout


@pytest.mark.parametrize(
    "command", ["finetune", "distill", "merge", "augment", "evaluate", "predict", "report", "run", "serve", "demo"]
)
def test_every_command_has_help_with_an_example(command):
    result = call(command, "--help")
    assert result.code == 0
    assert f"attar {command}" in result.out.partition("Example:")[2]


def test_finetune_leaves_a_bundle_that_learnt_the_task(teacher):
    record = attar_record(teacher)
    assert record["command"] == "finetune"
    assert model(record, "tuned")["metrics"]["test"]["accuracy"] > 0.9
    assert not Path(teacher + ".work").exists()


def attar_record(bundle: object) -> dict:
    return json.loads((Path(bundle) / "record.json").read_text())


def test_card_record_recipe_and_predictions_of_a_bundle_agree(student, data):
    record = attar_record(student)
    recipe = tomllib.loads((student / "recipe.toml").read_text())
    manifest = json.loads((student / "attar.json").read_text())
    predictions = pq.read_table(student / "predictions.parquet").to_pydict()
    card = (student / "README.md").read_text()

    assert recipe == record["config"]
    assert recipe["method"]["name"] == "bilstm-soft"
    assert manifest["task"] == {**record["task"]}
    assert manifest["max_length"] == recipe["train"]["max_length"]
    assert record["data"]["rows"]["train"] == 128
    assert record["data"]["rows"]["augmented"] > 128
    assert [entry["role"] for entry in record["models"]] == ["student", "teacher", "labels-only", "linear"]
    true = np.array(predictions["label"])
    assert predictions["text"] == reviews(32, seed=2)["text"]
    for entry in record["models"]:
        accuracy = entry["metrics"]["test"]["accuracy"]
        assert np.mean(np.array(predictions[entry["role"]]) == true) == pytest.approx(accuracy)
        assert f"{accuracy:.4f}" in next(line for line in card.splitlines() if line.startswith(f"| {entry['role']} "))
    agreed = np.mean(np.array(predictions["student"]) == np.array(predictions["teacher"]))
    assert model(record, "student")["agreement"] == pytest.approx(agreed)
    n = sum(w.numel() for w in load_file(student / "model.safetensors").values())
    assert model(record, "student")["parameters"] == n
    assert f"{n:,}" in card


def test_the_recipe_in_a_bundle_makes_the_same_bundle_again(student, tmp_path):
    result = call("run", student / "recipe.toml", "--out", tmp_path / "again", "--json")
    assert result.code == 0, result.err
    first, second = attar_record(student), result.json
    for one, other in zip(first["models"], second["models"], strict=True):
        assert one["metrics"] == other["metrics"], one["role"]
    a, b = load_file(student / "model.safetensors"), load_file(tmp_path / "again" / "model.safetensors")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_finetune_with_the_same_seed_makes_the_same_weights(teacher, tmp_path):
    recipe = Path(teacher) / "recipe.toml"
    assert call("run", recipe, "--out", tmp_path / "again").code == 0
    a, b = load_file(Path(teacher) / "model.safetensors"), load_file(tmp_path / "again" / "model.safetensors")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_json_is_one_object_on_stdout_and_nothing_else(teacher, student, data, tmp_path):
    commands = [
        ("distill", "--teacher", teacher, "--data", data, "--out", tmp_path / "s", *LOGITS, "--epochs", 1),
        ("evaluate", student, "--data", data),
        ("predict", student, "a great film"),
        ("predict", student, "--data", f"{data}/test.csv", "--out", tmp_path / "p.csv"),
        ("report", student, "--out", tmp_path / "page.html"),
        ("augment", "--data", data, "--out", tmp_path / "more.parquet", "--n-iter", 1),
    ]
    for command in commands:
        result = call(*command, "--json")
        assert result.code == 0, result.err
        assert isinstance(json.loads(result.out), dict), command[0]
        assert result.out.count("\n") == 1, command[0]


def test_an_existing_out_is_refused_untouched_and_replaced_with_overwrite(teacher, data, tmp_path):
    out = tmp_path / "taken"
    out.mkdir()
    (out / "precious.txt").write_text("mine")
    arguments = ("--teacher", teacher, "--data", data, "--out", out, *LOGITS, "--epochs", 1, "--no-baseline")

    refused = call("distill", *arguments)
    assert refused.code == 2
    assert "--overwrite" in refused.err
    assert folder_state(tmp_path) == {"taken/precious.txt": b"mine"}

    assert call("distill", *arguments, "--overwrite").code == 0
    assert not (out / "precious.txt").exists()
    assert (out / "model.safetensors").exists()


def test_a_failed_overwrite_keeps_the_old_bundle(teacher, data, tmp_path):
    out = tmp_path / "taken"
    out.mkdir()
    (out / "precious.txt").write_text("mine")
    result = call("distill", "--teacher", tmp_path / "nowhere", "--data", data, "--out", out, "--overwrite", *LOGITS)
    assert result.code == 2
    assert folder_state(tmp_path) == {"taken/precious.txt": b"mine"}


# The main path with both methods -----------------------------------------------------------------------------------


def test_logits_student_is_evaluated_predicts_and_is_reported(teacher, student, data, tmp_path):
    out = tmp_path / "half"
    record = distilled(out, "--teacher", teacher, "--data", data, *LOGITS, "--epochs", 4)
    assert model(record, "student")["metrics"]["test"]["accuracy"] > 0.9
    assert model(record, "student")["agreement"] > 0.9
    assert AutoModelForSequenceClassification.from_pretrained(out).config.num_hidden_layers == 1

    evaluated = call("evaluate", out, "--data", data, "--json").json
    assert evaluated["rows"] == 32
    assert near(evaluated["metrics"], model(record, "student")["metrics"]["test"])

    shown = call("predict", out, "really superb", "so dull").out.splitlines()
    assert [line.split("\t")[0] for line in shown] == ["pos", "neg"]
    assert [line.split("\t")[2] for line in shown] == ["really superb", "so dull"]

    page = tmp_path / "page.html"
    assert call("report", out, student, "--out", page).code == 0
    html = page.read_text()
    assert "half" in html
    assert "bilstm-soft" in html
    assert "http://" not in html.replace("http://www.w3.org", "")


def read_rows(file: Path) -> list[dict]:
    if file.suffix == ".csv":
        with file.open(newline="") as content:
            rows = list(csv.DictReader(content))
        return [{**row, "confidence": float(row["confidence"])} for row in rows]
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text().splitlines()]
    return pq.read_table(file).to_pylist()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_predict_over_a_file_gives_every_row_its_prediction_in_order(student, data, tmp_path, suffix):
    out = tmp_path / f"labelled{suffix}"
    result = call("predict", student, "--data", f"{data}/test.csv", "--out", out)
    assert result.code == 0, result.err
    rows = read_rows(out)
    texts = reviews(32, seed=2)["text"]
    assert [row["text"] for row in rows] == texts
    expected = attar.load(str(student)).predict(texts)
    assert [row["prediction"] for row in rows] == [p.label for p in expected]
    assert [row["confidence"] for row in rows] == pytest.approx([p.confidence for p in expected], abs=1e-6)
    assert [file.name for file in tmp_path.iterdir()] == [out.name]

    assert call("predict", student, "--data", f"{data}/test.csv", "--out", out).code == 2
    assert call("predict", student, "--data", f"{data}/test.csv", "--out", out, "--overwrite").code == 0


# Bad input ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stranger(tmp_path_factory, teacher):
    """A fine-tuned model with other labels than the reviews."""
    folder = tmp_path_factory.mktemp("stranger") / "stranger"
    net = BertForSequenceClassification.from_pretrained(teacher, id2label={0: "cat", 1: "dog"}, label2id={})
    net.save_pretrained(folder)
    AutoTokenizer.from_pretrained(teacher).save_pretrained(folder)
    return str(folder)


BAD_INPUTS = {
    "a missing column": (("--text", "txt"), "did you mean 'text'"),
    "a missing file": (("--data", "nowhere/reviews.csv"), "nowhere/reviews.csv"),
    "a missing unlabelled file": (("--unlabelled", "nowhere/raw.txt"), "nowhere/raw.txt"),
    "an unknown method": (("--method", "bilstm_soft"), "did you mean 'bilstm-soft'"),
    "a method of finetune": (("--method", "full"), "attar finetune"),
    "an unknown --set key": (("--set", "train.epoch=3"), "did you mean 'epochs'"),
    "an unknown setting of the method": (("--set", "method.temprature=3"), "did you mean 'temperature'"),
    "a --set of the wrong type": (("--set", "train.epochs=many"), "many"),
    "a weight out of range": (("--alpha", "1.5"), "1.5"),
    "a teacher with other labels": (("--teacher", "{stranger}"), "cat"),
    "a teacher without a head": (("--teacher", "{encoder}"), "attar finetune"),
    "a teacher that is not there": (("--teacher", "nowhere/teacher"), "nowhere/teacher"),
    "one class only": (("--data", "{one_class}"), "only 'pos'"),
    "a label in test that train lacks": (("--data", "{strange_test}"), "'meh'"),
    "an empty text": (("--data", "{empty_text}"), "--drop-bad-rows"),
    "scores and a bundle at once": (("--teacher-scores", "probs:pos=p,neg=n"), "found both"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_input_exits_2_with_one_line_and_leaves_nothing(case, teacher, encoder, stranger, data, tmp_path):
    files = tmp_path / "files"
    places = {
        "stranger": stranger,
        "encoder": encoder,
        "one_class": write_rows(files / "one.csv", {"text": reviews(20)["text"], "label": ["pos"] * 20}),
        "empty_text": write_rows(files / "empty.csv", {"text": ["a film", " "] * 5, "label": ["a", "b"] * 5}),
        "strange_test": str(files / "split"),
    }  # fmt: skip
    write_rows(files / "split" / "train.csv", reviews(20))
    write_rows(files / "split" / "test.csv", {"text": ["a film"], "label": ["meh"]})
    changes, expected = BAD_INPUTS[case]
    flags = {"--teacher": teacher, "--data": data, "--method": "logits", "--out": str(tmp_path / "out")}
    if case == "scores and a bundle at once":
        scored = {**reviews(20), "p": [0.5] * 20, "n": [0.5] * 20}
        flags["--data"] = write_rows(files / "scored.csv", scored)
    flags[changes[0]] = changes[1].format(**places)
    before = folder_state(tmp_path)

    result = call("distill", *(part for flag in flags.items() for part in flag))

    assert result.code == 2, result.err
    lines = result.err.splitlines()
    assert len(lines) == 1, result.err
    assert lines[0].startswith("error: ")
    assert expected in lines[0]
    assert result.out == ""
    assert folder_state(tmp_path) == before
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.work").exists()


# Other programs' models --------------------------------------------------------------------------------------------


def test_transformers_loads_a_finetuned_bundle_and_says_the_same(teacher):
    net = AutoModelForSequenceClassification.from_pretrained(teacher).eval()
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    texts = ["a great film", "the acting was very dull in london"]
    with torch.inference_mode():
        logits = net(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    torch.testing.assert_close(logits, torch.from_numpy(attar.load(teacher).logits(texts)), rtol=1e-5, atol=1e-5)
    assert net.config.id2label == {0: "neg", 1: "pos"}
    assert net.config.problem_type == "single_label_classification"


def test_a_plain_transformers_folder_is_a_teacher(teacher, data, tmp_path):
    plain = tmp_path / "plain"
    BertForSequenceClassification.from_pretrained(teacher).save_pretrained(plain)
    AutoTokenizer.from_pretrained(teacher).save_pretrained(plain)
    assert not (plain / "attar.json").exists()
    record = distilled(
        tmp_path / "student", "--teacher", plain, "--data", data, *LOGITS, "--epochs", 1, "--no-baseline"
    )
    assert near(model(record, "teacher")["metrics"], model(attar_record(teacher), "tuned")["metrics"])


def test_a_student_cut_from_a_teacher_with_its_labels_in_another_order_names_its_outputs_rightly(
    teacher, data, tmp_path
):
    swapped = tmp_path / "swapped"
    net = BertForSequenceClassification.from_pretrained(teacher)
    with torch.no_grad():
        net.classifier.weight.copy_(net.classifier.weight.flip(0))
        net.classifier.bias.copy_(net.classifier.bias.flip(0))
    net.config.id2label, net.config.label2id = {0: "pos", 1: "neg"}, {"pos": 0, "neg": 1}
    net.save_pretrained(swapped)
    AutoTokenizer.from_pretrained(teacher).save_pretrained(swapped)

    out = tmp_path / "student"
    arguments = (*LOGITS, "--student", "layers:0,1", "--epochs", 2, "--no-baseline")
    record = distilled(out, "--teacher", swapped, "--data", data, *arguments)
    assert model(record, "teacher")["metrics"]["test"]["accuracy"] > 0.9
    assert model(record, "student")["metrics"]["test"]["accuracy"] > 0.9
    assert list(AutoModelForSequenceClassification.from_pretrained(out).config.id2label.values()) == ["neg", "pos"]


# Other teachers, other data ----------------------------------------------------------------------------------------


def score_columns(teacher: str, table: dict) -> dict:
    predictions = attar.load(teacher).predict(table["text"])
    return {**table, "p_pos": [p.scores["pos"] for p in predictions], "p_neg": [p.scores["neg"] for p in predictions]}


def test_score_columns_teach_without_any_model(teacher, tmp_path):
    folder = tmp_path / "scored"
    for split, n, seed in (("train", 64, 0), ("dev", 16, 1), ("test", 16, 2)):
        write_rows(folder / f"{split}.csv", score_columns(teacher, reviews(n, seed)))
    record = distilled(
        tmp_path / "student", "--teacher-scores", "probs:neg=p_neg,pos=p_pos", "--data", folder, *BILSTM,
        "--set", "method.vectors=random", "--epochs", 3,
    )  # fmt: skip
    taught = model(record, "teacher")
    assert taught["parameters"] is None
    assert taught["metrics"]["test"]["accuracy"] > 0.9
    assert [entry["role"] for entry in record["models"]] == ["student", "teacher", "labels-only", "linear"]


def test_an_ensemble_teaches_with_the_sum_of_its_sizes(teacher, twin, data, tmp_path):
    record = distilled(
        tmp_path / "student", "--teacher", teacher, "--teacher", twin, "--data", data, *BILSTM,
        "--epochs", 2,
    )  # fmt: skip
    sizes = [model(attar_record(bundle), "tuned")["parameters"] for bundle in (teacher, twin)]
    assert model(record, "teacher")["parameters"] == sum(sizes)
    assert model(record, "teacher")["metrics"]["test"]["accuracy"] > 0.9


@pytest.fixture(scope="module")
def twin(tmp_path_factory, encoder, data):
    """A second teacher of the same labels, from another seed."""
    out = tmp_path_factory.mktemp("twin") / "twin"
    assert (
        call("finetune", "--model", encoder, "--data", data, "--out", out, "--epochs", 6, "--seed", 1, *FAST).code == 0
    )
    return str(out)  # fmt: skip


def test_unlabelled_text_and_the_rows_beyond_the_limit_are_scored_and_learnt_from(teacher, data, cache, tmp_path):
    raw = tmp_path / "raw.txt"
    raw.write_text("anna was really witty\n\nbob is very stale and bland\nwitty london\n")
    before = shards(cache)
    record = distilled(
        tmp_path / "student", "--teacher", teacher, "--data", data, *BILSTM, "--epochs", 1, "--limit", 16,
        "--unlabelled", raw, "--no-baseline", "--set", "method.vectors=random",
    )  # fmt: skip
    rows = record["data"]["rows"]
    assert (rows["train"], rows["unlabelled"]) == (16, 112 + 3)
    assert model(record, "student")["parameters"] is not None
    vocabulary = AutoTokenizer.from_pretrained(tmp_path / "student").get_vocab()
    assert {"anna", "bob", "witty", "london"} <= set(vocabulary)
    scored = sum(pq_rows(file) for file in shards(cache) - before)
    assert scored >= 3


def pq_rows(file: Path) -> int:
    import pyarrow as pa

    return pa.ipc.open_file(str(file)).read_all().num_rows


def test_a_teacher_worse_than_the_linear_model_is_said_loudly(encoder, data, tmp_path):
    bad = tmp_path / "bad"
    arguments = ("--model", encoder, "--data", data, "--out", bad, *FAST, "--epochs", 1)
    assert call("finetune", *arguments, "--set", "train.max_steps=1", "--lr", "1e-6").code == 0
    result = call("distill", "--teacher", bad, "--data", data, "--out", tmp_path / "student", *LOGITS, "--epochs", 1)
    assert result.code == 0
    warnings = attar_record(tmp_path / "student")["warnings"]
    assert "worse than a TF-IDF linear model" in warnings[0]
    assert f"WARNING: {warnings[0]}" in result.err


def pairs(n: int, seed: int) -> dict:
    """Whether two texts are of one mind."""
    first, second = reviews(n, seed), reviews(n, seed + 100)
    random.Random(seed).shuffle(second["text"])
    minds = [{word for word in text.split()} & set(GOOD) != set() for text in second["text"]]
    same = [(label == "pos") == mind for label, mind in zip(first["label"], minds, strict=True)]
    return {"sentence1": first["text"], "sentence2": second["text"], "label": ["same" if s else "other" for s in same]}


def multi_label(n: int, seed: int) -> dict:
    """Whether a text praises, and whether it names somebody."""
    table = reviews(n, seed)
    rng = random.Random(seed)
    named = [rng.random() < 0.5 for _ in range(n)]
    texts = [f"{text} {rng.choice(NAMES)}" if name else text for text, name in zip(table["text"], named, strict=True)]
    praise = [int(label == "pos") for label in table["label"]]
    return {"text": texts, "praises": praise, "names": [int(name) for name in named]}


def regression(n: int, seed: int) -> dict:
    """How much praise: the share of good words."""
    rng = random.Random(seed)
    texts, values = [], []
    for _ in range(n):
        words = rng.choices([*GOOD, *BAD], k=4)
        texts.append(" ".join(words))
        values.append(sum(word in GOOD for word in words) / 4)
    return {"text": texts, "value": values}


def tagged(n: int, seed: int) -> dict:
    """Persons and places among plain words."""
    rng = random.Random(seed)
    tags = {name: "B-PER" if i % 2 == 0 else "B-LOC" for i, name in enumerate(NAMES)}
    tokens = [rng.choices([*PLAIN, *NAMES], k=rng.randint(3, 8)) for _ in range(n)]
    return {"tokens": tokens, "tags": [[tags.get(word, "O") for word in row] for row in tokens]}


KINDS = {
    "pair": (pairs, ".csv", "single-label", "accuracy", 0.0),
    "multi-label": (multi_label, ".csv", "multi-label", "micro_f1", 0.5),
    "regression": (regression, ".csv", "regression", "pearson", 0.5),
    "token": (tagged, ".jsonl", "token", "accuracy", 0.8),
}


@pytest.fixture(scope="module", params=KINDS)
def taught(request, tmp_path_factory, encoder):
    """A kind of task with its data folder and a fine-tuned teacher."""
    make, suffix, kind, metric, floor = KINDS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    for split, n, seed in (("train", 96, 0), ("dev", 24, 1), ("test", 24, 2)):
        write_rows(folder / "data" / f"{split}{suffix}", make(n, seed))
    flags = ("--task", "multi-label", "--label", "praises", "--label", "names") if kind == "multi-label" else ()
    out = folder / "teacher"
    result = call("finetune", "--model", encoder, "--data", folder / "data", "--out", out, "--epochs", 6, *FAST, *flags)
    assert result.code == 0, result.err
    return kind, folder / "data", out, flags, metric, floor


def test_each_kind_of_task_distils_into_a_cut_student(taught, tmp_path):
    kind, folder, tutor, flags, metric, floor = taught
    length = ("--set", "train.max_length=24")
    record = distilled(tmp_path / "s", "--teacher", tutor, "--data", folder, *LOGITS, "--epochs", 5, *length, *flags)
    assert record["task"]["kind"] == kind
    assert {"student", "teacher", "labels-only", "linear"} == {entry["role"] for entry in record["models"]}
    assert model(record, "student")["metrics"]["test"][metric] >= floor
    assert near(model(record, "teacher")["metrics"], model(attar_record(tutor), "tuned")["metrics"])

    evaluated = call("evaluate", tmp_path / "s", "--data", folder, "--json")
    assert evaluated.code == 0, evaluated.err
    assert near(evaluated.json["metrics"], model(record, "student")["metrics"]["test"])
    source = next(Path(folder).glob("test.*"))
    labelled = tmp_path / "labelled.parquet"
    assert call("predict", tmp_path / "s", "--data", source, "--out", labelled).code == 0
    assert pq.read_metadata(labelled).num_rows == 24


@pytest.mark.parametrize("taught", ["token"], indirect=True)
def test_token_bundles_load_in_transformers_and_tag_word_by_word(taught):
    _, _, tutor, *_ = taught
    net = AutoModelForTokenClassification.from_pretrained(tutor).eval()
    tokenizer = AutoTokenizer.from_pretrained(tutor)
    words = ["anna", "was", "in", "paris"]
    encoded = tokenizer([words], is_split_into_words=True, return_tensors="pt")
    with torch.inference_mode():
        ids = net(**encoded).logits[0].argmax(-1)
    by_word = {w: net.config.id2label[int(i)] for w, i in zip(encoded.word_ids(0), ids, strict=True) if w is not None}
    assert [by_word[i] for i in range(4)] == attar.load(str(tutor)).predict([words])[0].label


def test_bilstm_refuses_token_data_with_the_way_out(tmp_path, encoder):
    folder = tmp_path / "data"
    for split, n, seed in (("train", 24, 0), ("dev", 8, 1)):
        write_rows(folder / f"{split}.jsonl", tagged(n, seed))
    tutor = tmp_path / "teacher"
    assert call("finetune", "--model", encoder, "--data", folder, "--out", tutor, "--epochs", 1, *FAST).code == 0
    result = call("distill", "--teacher", tutor, "--data", folder, "--out", tmp_path / "out", *BILSTM)
    assert result.code == 2
    assert result.err.count("error: ") == 1
    assert "--method logits" in result.err
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.work").exists()


def test_augmented_file_holds_texts_of_their_origins(data, tmp_path):
    out = tmp_path / "more.parquet"
    assert call("augment", "--data", data, "--out", out, "--n-iter", 2).code == 0
    rows = Dataset.from_parquet(str(out))
    labels = reviews(128)["label"]
    assert all(row["label"] == labels[row["origin"]] for row in rows)


def test_evaluate_refuses_labels_that_the_model_does_not_know(student, tmp_path):
    file = write_rows(tmp_path / "other.csv", {"text": ["a film", "acting"], "label": ["pos", "meh"]})
    result = call("evaluate", student, "--data", file)
    assert result.code == 2
    assert "'meh'" in result.err


def test_a_bundle_moves_to_another_folder_and_predicts_the_same(student, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(student, moved)
    before = attar.load(str(student)).logits(["a great film"])
    assert np.array_equal(before, attar.load(str(moved)).logits(["a great film"]))


def test_python_interface_makes_the_same_student_as_the_command_line(teacher, data, tmp_path):
    arguments = ("--teacher", teacher, "--data", data, *LOGITS, "--epochs", 1, "--no-baseline")
    distilled(tmp_path / "cli", *arguments)
    found = attar.distill(
        teacher,
        data=data,
        method=attar.Logits(),
        out=str(tmp_path / "api"),
        train={"lr": 5e-3, "batch_size": 16, "max_length": 24, "epochs": 1},
        baseline=False,
    )
    assert [p.label for p in found.predict(["great", "dull"])]
    a, b = load_file(tmp_path / "cli" / "model.safetensors"), load_file(tmp_path / "api" / "model.safetensors")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_encoders_of_another_depth_are_students_by_folder(teacher, data, tmp_path):
    other = save_encoder(tmp_path / "other", layers=1, seed=5)
    record = distilled(
        tmp_path / "student", "--teacher", teacher, "--data", data, *LOGITS, "--student", other, "--epochs", 5,
        "--no-baseline",
    )  # fmt: skip
    assert model(record, "student")["metrics"]["test"]["accuracy"] > 0.8


def test_a_cache_limit_that_is_no_size_is_refused(data, encoder, tmp_path):
    out = tmp_path / "out"
    result = call("finetune", "--model", encoder, "--data", data, "--out", out, "--cache-limit", "much")
    assert result.code == 2
    assert "cache_limit: expected a size such as 8GiB, 500MB or 0; found 'much'" in result.err
    assert not out.exists()
    assert not (tmp_path / "out.work").exists()


def test_a_diverged_training_is_said_with_the_way_out(encoder, data, tmp_path):
    flags = (*FAST, "--epochs", 2, "--lr", "1e30")
    result = call("finetune", "--model", encoder, "--data", data, "--out", tmp_path / "o", *flags)
    assert result.code == 2
    assert "the training diverged" in result.err
    assert "--lr" in result.err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("taught", ["token"], indirect=True)
def test_words_without_a_token_have_no_answer_and_count_neither_way(taught, tmp_path):
    _, folder, tutor, *_ = taught
    rows = [json.loads(line) for line in next(folder.glob("test.*")).read_text().splitlines()]
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "dev"):
        source = next(folder.glob(f"{split}.*"))
        (data / source.name).write_bytes(source.read_bytes())
    words, tags = (next(k for k, v in rows[0].items() if k == name) for name in rows[0])
    for row in rows:
        row[words], row[tags] = ["\u200b", *row[words]], [row[tags][0], *row[tags]]
    (data / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    flags = (*FAST, "--epochs", 1)
    result = call("finetune", "--model", tutor, "--data", data, "--out", tmp_path / "o", *flags)
    assert result.code == 0, result.err
    said = pq.read_table(tmp_path / "o" / "predictions.parquet").to_pydict()
    assert all(len(a) == len(b) for a, b in zip(said["label"], said["tuned"], strict=True))
    assert all(answer[0] is None and None not in answer[1:] for answer in said["tuned"])
    hits = [
        x == y for a, b in zip(said["label"], said["tuned"], strict=True) for x, y in zip(a[1:], b[1:], strict=True)
    ]
    assert sum(hits) / len(hits) == pytest.approx(
        model(attar_record(tmp_path / "o"), "tuned")["metrics"]["test"]["accuracy"]
    )

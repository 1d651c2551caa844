"""``--augment tinybert`` and ``attar augment --method tinybert``, from files to a student."""

import json
import tomllib

import pytest
from datasets import Dataset
from toy import FAST, NAMES, call, reviews, write_rows

import attar

TINY = ("--set", "augment.n_iter=2", "--set", "augment.n_candidates=5")


def test_a_file_of_replaced_words_is_the_same_from_flags_and_in_python(encoder, data, tmp_path):
    out = tmp_path / "more.parquet"
    command = ("augment", "--method", "tinybert", "--model", encoder, "--data", data, "--out", out, "--seed", 3)
    result = call(*command, *TINY, "--json")
    assert result.code == 0, result.err
    made = Dataset.from_parquet(str(out))
    originals = reviews(128)
    assert json.loads(result.out)["rows"] == len(made) > 128
    for row in made:
        old, new = originals["text"][row["origin"]].split(), row["text"].split()
        assert len(old) == len(new)
        assert old != new
        assert row["label"] == originals["label"][row["origin"]]

    from attar.augment.synthetic import synthetic_texts
    from attar.config import DataConfig
    from attar.data.prepare import load_data

    settings = attar.TinyBertAugmentation(model=encoder, n_iter=2, n_candidates=5, seed=3)
    again = synthetic_texts(load_data(DataConfig(path=data)).train, settings)
    assert again["text"][:] == made["text"][:]


def test_a_student_learns_from_replaced_words_and_its_recipe_says_how(teacher, encoder, data, tmp_path):
    out = tmp_path / "student"
    command = ("distill", "--teacher", teacher, "--data", data, "--out", out, "--method", "bilstm-soft", *FAST)
    small = ("--set", "method.hidden=8", "--set", "method.projection=8", "--set", "method.width=8", "--epochs", 1)
    chosen = ("--augment", "tinybert", "--set", f"augment.model={encoder}", *TINY, "--no-baseline")
    result = call(*command, *small, *chosen, "--json")
    assert result.code == 0, result.err
    assert result.json["data"]["rows"]["augmented"] > 128
    told = tomllib.loads((out / "recipe.toml").read_text())["augment"]
    assert told["method"] == "tinybert"
    assert told["model"] == encoder
    assert told["n_iter"] == 2


def test_words_with_tags_are_replaced_and_taught_from_file_to_student(encoder, tmp_path):
    words = [["anna", "went", "to", "paris"], ["bob", "was", "great"], ["a", "dull", "film", "in", "rome"]] * 8
    tags = [["PER" if w in NAMES[::2] else "O" for w in text] for text in words]
    data = write_rows(tmp_path / "tags.jsonl", {"tokens": words, "ner_tags": tags})
    out = tmp_path / "more.parquet"
    command = ("augment", "--method", "tinybert", "--model", encoder, "--data", data, "--out", out)
    assert call(*command, *TINY).code == 0
    for row in Dataset.from_parquet(str(out)):
        assert row["tokens"] not in words
        assert len(row["tokens"]) == len(row["ner_tags"])
        assert set(row["ner_tags"]) <= {"PER", "O"}
    tutor = tmp_path / "teacher"
    assert call("finetune", "--model", encoder, "--data", data, "--out", tutor, "--epochs", 1, *FAST).code == 0
    command = ("distill", "--teacher", tutor, "--data", data, "--out", tmp_path / "s", "--epochs", 1, *FAST)
    chosen = ("--method", "logits", "--student", "half", "--augment", "tinybert", "--set", f"augment.model={encoder}")
    result = call(*command, *chosen, *TINY, "--no-baseline", "--json")
    assert result.code == 0, result.err
    assert result.json["data"]["rows"]["augmented"] > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((), "'augment.model' is missing"),
        (("--tagger", "hanta"), "unknown setting 'augment.tagger'"),
        (("--set", "augment.p_mask=0.1"), "unknown setting 'augment.p_mask'"),
        (("--model", "nowhere"), "nowhere"),
    ],
)
def test_settings_that_the_method_does_not_have_are_refused(settings, message, data, tmp_path):
    result = call("augment", "--method", "tinybert", "--data", data, "--out", tmp_path / "more.parquet", *settings)
    assert result.code == 2
    assert result.err.count("error: ") == 1
    assert message in result.err
    assert not list(tmp_path.iterdir())


def test_a_teacher_is_no_masked_language_model_and_nothing_is_written(teacher, data, tmp_path):
    command = ("distill", "--teacher", teacher, "--data", data, "--out", tmp_path / "s", "--augment", "tinybert")
    result = call(*command, "--set", f"augment.model={teacher}")
    assert result.code == 2
    assert "has no masked-language-model head, it is a BertForSequenceClassification" in result.err
    assert not list(tmp_path.iterdir())


def test_a_line_of_the_data_that_does_not_fit_is_named(encoder, tmp_path):
    file = write_rows(tmp_path / "bad.csv", {"text": ["a great film", " "], "label": ["pos", "neg"]})
    command = ("augment", "--method", "tinybert", "--model", encoder, "--data", file, "--out", tmp_path / "o.parquet")
    result = call(*command)
    assert result.code == 2
    assert "row 2" in result.err

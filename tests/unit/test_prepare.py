import csv
import json
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from attar.config import DataConfig
from attar.data.prepare import load_data, load_split
from attar.data.sample_reviews import sample_path
from attar.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def write(tmp_path):
    """Write columns as CSV or Parquet, or as JSON Lines; return the path."""

    def _write(name, table):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
        if name.endswith(".csv"):
            with file.open("w", newline="") as out:
                csv.writer(out).writerows([list(table), *(row.values() for row in rows)])
        elif name.endswith(".parquet"):
            Dataset.from_dict(table).to_parquet(file)
        else:
            file.write_text("\n".join(map(json.dumps, rows)))
        return str(file)

    return _write


def texts(n, word="text"):
    return [f"{word} number {i}" for i in range(n)]


def load(path, keep=(), **config):
    return load_data(DataConfig(path=path, **config), keep)


def test_single_label_from_csv(write):
    data = load(write("a.csv", {"review": texts(20), "label": ["pos", " neg"] * 10, "other": ["x"] * 20}))
    assert data.task.labels == ("neg", "pos")
    assert (data.task.text, data.task.label) == ("review", ("label",))
    assert data.train.column_names == ["text", "label"]
    assert data.train.features["label"] == Value("int64")
    assert all((row["label"] == 1) == (int(row["text"].split()[-1]) % 2 == 0) for row in data.train)
    assert (len(data.train), len(data.dev), data.test, data.unlabelled) == (18, 2, None, None)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([10, 9, 2], ("2", "9", "10")),
        ([1.0, 0.0, 2.0], ("0", "1", "2")),
        ([-1, 0, 1], ("-1", "0", "1")),
        ([True, False, True], ("False", "True")),
        (["class 10", "class 9", "B"], ("B", "class 9", "class 10")),
        (["1.0", "0", "02"], ("0", "1", "02")),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.jsonl"])
def test_label_names(write, name, values, labels):
    data = load(write(name, {"text": texts(30), "label": values * 10}))
    assert data.task.labels == labels
    expected = str(values[0]).removesuffix(".0")
    rows = [row for row in data.train if int(row["text"].split()[-1]) % 3 == 0]
    assert {data.task.labels[row["label"]] for row in rows} == {expected}


def test_same_label_under_other_types(write, tmp_path):
    write("d/train.csv", {"text": texts(10), "label": ["0", "1"] * 5})
    write("d/dev.jsonl", {"text": texts(2, "dev"), "label": [1.0, 0.0]})
    write("d/test.parquet", {"text": texts(2, "test"), "label": [True, False], "extra": [1, 2]})
    with pytest.raises(DataError, match=r"\(test\), row 1: .* \(0, 1\), found 'True'"):
        load(str(tmp_path / "d"))
    write("d/test.parquet", {"text": texts(2, "test"), "label": [1, 0], "extra": [1, 2]})
    data = load(str(tmp_path / "d"))
    assert data.dev["label"][:] == data.test["label"][:] == [1, 0]


def test_hub_label_names(tmp_path):
    features = Features({"text": Value("large_string"), "label": ClassLabel(names=["world", "art", "never"])})
    table = {"text": texts(20), "label": [0, 1] * 10}
    (tmp_path / "d").mkdir()
    Dataset.from_dict(table, features=features).to_parquet(tmp_path / "d" / "train.parquet")
    Dataset.from_dict({**table, "label": [-1] * 20}, features=features).to_parquet(tmp_path / "d" / "test.parquet")
    data = load(str(tmp_path / "d"))
    assert data.task.labels == ("world", "art", "never")
    assert data.test is None
    assert "the test split has no labels (label) and was left out" in data.notes


def test_pairs(write):
    table = {"headline": texts(20, "head"), "lead": texts(20, "lead"), "label": ["match", "mismatch"] * 10}
    data = load(write("a.csv", table))
    assert data.train.column_names == ["text", "pair", "label"]
    assert all(row["text"].replace("head", "lead") == row["pair"] for row in data.train)


def test_columns_that_have_each_others_names(write):
    path = write("a.csv", {"pair": texts(10, "first"), "text": texts(10, "second"), "label": ["a", "b"] * 5})
    row = load(path, text="pair", pair="text").train[0]
    assert row["text"].startswith("first")
    assert row["pair"].startswith("second")


def test_multi_label_lists(write, tmp_path):
    write("d/train.jsonl", {"text": texts(9), "tags": [["b", "a"], [], ["c"]] * 3})
    write("d/dev.jsonl", {"text": texts(2), "tags": [["c"], ["a", "b"]]})
    data = load(str(tmp_path / "d"))
    assert (data.task.kind, data.task.labels) == ("multi-label", ("a", "b", "c"))
    assert data.train["label"][:3] == [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    assert data.dev["label"][:] == [[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]
    write("d/dev.jsonl", {"text": texts(2), "tags": [["c"], ["a", "z"]]})
    with pytest.raises(DataError, match=r"\(dev\), row 2: .*found 'z'"):
        load(str(tmp_path / "d"))


def test_multi_label_indicator_lists(write, tmp_path):
    write("d/train.jsonl", {"text": texts(4), "labels": [[0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1]]})
    write("d/dev.jsonl", {"text": texts(1), "labels": [[1, 1, 1]]})
    data = load(str(tmp_path / "d"))
    assert data.task.labels == ("0", "1", "2")
    assert data.train["label"][:2] == [[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    assert data.dev["label"][0] == [1.0, 1.0, 1.0]
    write("d/dev.jsonl", {"text": texts(2), "labels": [[1, 1, 1], [1, 2, 0]]})
    with pytest.raises(DataError, match=r"row 2: expected 3 times 0 or 1 in column 'labels', found \[1, 2, 0\]"):
        load(str(tmp_path / "d"))


def test_multi_label_columns(write):
    path = write("a.csv", {"text": texts(20), "rude": ["0", "1"] * 10, "loud": ["1", "1"] * 10})
    data = load(path)
    assert (data.task.kind, data.task.labels) == ("multi-label", ("rude", "loud"))
    assert {tuple(row) for row in data.train["label"]} == {(0.0, 1.0), (1.0, 1.0)}
    assert data.train.features["label"] == List(Value("float32"))
    bad = write("b.csv", {"text": texts(4), "rude": ["0", "1", "2", "0"], "loud": ["1"] * 4})
    with pytest.raises(DataError, match=r"row 3: expected 0 or 1 in label column 'rude', found '2'"):
        load(bad, label=("rude", "loud"))


def test_tokens(write, tmp_path):
    write("d/train.jsonl", {"tokens": [["a", "b"], ["c"]], "tags": [["X", "Y"], ["X"]], "genre": ["n", "m"]})
    write("d/dev.jsonl", {"tokens": [["d", "e", "f"]], "tags": [["Y", "X", "Y"]]})
    data = load(str(tmp_path / "d"))
    assert (data.task.kind, data.task.labels) == ("token", ("X", "Y"))
    assert data.train[:] == {"text": [["a", "b"], ["c"]], "label": [[0, 1], [0]]}
    assert data.dev["label"][:] == [[1, 0, 1]]


@pytest.mark.parametrize(
    ("tokens", "tags", "expected"),
    [
        ([["a"], ["b", "c"]], [["X"], ["X"]], r"row 2: .* 2 tokens in 'tokens' and 1 tags in 'tags'"),
        ([["a"], []], [["X"], []], r"row 2: expected a text in column 'tokens', found none \(1 such row\)"),
        ([["a"], ["b", None]], [["X"], ["X", "X"]], r"row 2: expected a text"),
        ([["a"], ["b"]], [["X"], [None]], r"row 2: expected a label"),
    ],
)
def test_tokens_that_do_not_fit(write, tokens, tags, expected):
    with pytest.raises(DataError, match=expected):
        load(write("a.jsonl", {"tokens": tokens, "tags": tags}))


def test_regression(write):
    data = load(write("a.csv", {"text": texts(20), "score": [str(i / 4) for i in range(20)]}))
    assert (data.task.kind, data.task.labels) == ("regression", ("score",))
    assert all(row["label"] == int(row["text"].split()[-1]) / 4 for row in data.train)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("n/a", "row 7: expected a number in column 'score', found 'n/a'"),
        ("nan", "row 7: expected a number in column 'score', found 'nan'"),
        ("inf", "row 7: expected a number in column 'score', found 'inf'"),
        ("", "row 7: expected a label in column 'score', found none"),
    ],
)
def test_regression_target_that_is_no_number(write, value, expected):
    scores = [str(i / 4) for i in range(20)]
    scores[6] = value
    with pytest.raises(DataError, match=expected):
        load(write("a.csv", {"text": texts(20), "score": scores}), task="regression")


def with_cell(values, row, cell):
    return [*values[:row], cell, *values[row + 1 :]]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
@pytest.mark.parametrize(
    ("column", "cell"), [("text", ""), ("text", " \t\u00a0"), ("text", None), ("label", None), ("label", " ")]
)
def test_empty_cells(write, name, column, cell):
    table = {"text": texts(20), "label": ["a", "b"] * 10}
    table[column] = with_cell(with_cell(table[column], 4, cell), 9, cell)
    path = write(name, table)
    with pytest.raises(DataError, match=rf"\(train\), row 5: expected a {column} .*\(2 such rows\).*--drop-bad-rows"):
        load(path)
    data = load(path, drop_bad_rows=True)
    assert len(data.train) + len(data.dev) == 18
    kept = {*data.train["text"], *data.dev["text"]}
    assert kept == set(texts(20)) - {"text number 4", "text number 9"}
    assert f"2 rows with empty {column} dropped from {path} (train)" in data.notes


def test_nan_is_no_label(write):
    path = write("a.parquet", {"text": texts(20), "label": with_cell([0.0, 1.0] * 10, 3, float("nan"))})
    with pytest.raises(DataError, match="row 4: expected a label"):
        load(path)
    assert load(path, drop_bad_rows=True).task.labels == ("0", "1")


def test_rows_are_counted_across_chunks_and_after_drops(write, monkeypatch, tmp_path):
    monkeypatch.setattr("attar.data.formats.json_format.BATCH_ROWS", 3)
    write("d/train.jsonl", {"text": with_cell(texts(10), 7, " "), "label": ["a", "b"] * 5})
    write("d/dev.jsonl", {"text": with_cell(texts(8), 0, ""), "label": with_cell(["a"] * 8, 7, "c")})
    with pytest.raises(DataError, match=r"\(train\), row 8"):
        load(str(tmp_path / "d"))
    with pytest.raises(DataError, match=r"\(dev\), row 8: expected a label that the training rows have \(a, b\)"):
        load(str(tmp_path / "d"), drop_bad_rows=True)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"text": texts(10), "label": ["a"] * 10}, "at least 2 labels in column 'label', found only 'a'"),
        ({"text": texts(10), "rating": [0.5] * 10}, "different numbers in 'rating', found only 0.5"),
        ({"text": texts(120), "label": [f"id{i}" for i in range(120)]}, "120 different values in 120 rows"),
        ({"text": texts(4), "tags": [[], [], [], []]}, "found none"),
    ],
)
def test_labels_to_learn_nothing_from(write, table, expected):
    with pytest.raises(DataError, match=expected):
        load(write("a.jsonl", table))


def test_dev_lacks_a_column(write, tmp_path):
    write("d/train.csv", {"text": texts(10), "label": ["a", "b"] * 5})
    write("d/dev.csv", {"text": texts(10), "labels": ["a", "b"] * 5})
    with pytest.raises(
        DataError, match=r"\(dev\): expected a column 'label', found text, labels; did you mean 'labels'"
    ):
        load(str(tmp_path / "d"))


def test_dev_cut_is_stratified_and_repeatable(write):
    labels = ["rare" if i % 10 == 0 else "often" for i in range(300)]
    labels[5] = "once"
    path = write("a.csv", {"text": texts(300), "label": labels})
    first, again = load(path, dev_share=0.2), load(path, dev_share=0.2)
    other = load(path, dev_share=0.2, split_seed=1)
    names = [first.task.labels[i] for i in first.dev["label"]]
    assert Counter(names) == {"often": 54, "rare": 6}
    assert first.dev["text"][:] == again.dev["text"][:] != other.dev["text"][:]
    assert not {*first.dev["text"]} & {*first.train["text"]}
    assert len(first.train) == 240
    assert "dev: 60 rows cut from train (stratified, seed 0)" in first.notes


def test_dev_cut_is_capped(write, monkeypatch):
    monkeypatch.setattr("attar.data.prepare._LARGEST_DEV", 7)
    data = load(write("a.csv", {"text": texts(100), "score": [i / 3 for i in range(100)]}), dev_share=0.5)
    assert (len(data.dev), len(data.train)) == (7, 93)


def test_limit_turns_the_rest_into_unlabelled_text(write):
    path = write("a.csv", {"text": texts(200), "label": ["a", "a", "a", "b"] * 50})
    data = load(path, limit=40, unlabelled=(write("more.csv", {"text": ["more", "still more"]}),))
    assert Counter(data.train["label"]) == {0: 30, 1: 10}
    assert (len(data.dev), len(data.unlabelled)) == (20, 142)
    assert data.unlabelled.features == data.train.features
    assert set(data.unlabelled["label"]) == {None}
    assert len({*data.train["text"], *data.dev["text"], *data.unlabelled["text"]}) == 202
    assert "labels of 40 of 180 training rows kept (stratified, seed 0)" in " ".join(data.notes)
    assert load(path, limit=40).train["text"][:] == data.train["text"][:]
    assert load(path, limit=500).unlabelled is None


def test_limit_keeps_every_class(write):
    labels = ["often"] * 196 + ["x", "x", "y", "y"]
    data = load(write("a.csv", {"text": texts(200), "label": labels}), limit=4)
    assert set(data.train["label"]) == {0, 1, 2}


def test_unlabelled_files(write, tmp_path):
    path = write("a.csv", {"review": texts(10), "label": ["a", "b"] * 5})
    (tmp_path / "plain.txt").write_text("one\n\ntwo\n")
    same = write("more.jsonl", {"review": ["three"], "label": ["not looked at"]})
    data = load(path, unlabelled=(str(tmp_path / "plain.txt"), same))
    assert data.unlabelled["text"][:] == ["one", "two", "three"]
    with pytest.raises(DataError, match=r"other.csv: expected a column 'review', found reviews, x; did you mean"):
        load(path, unlabelled=(write("other.csv", {"reviews": ["a"], "x": ["b"]}),))
    with pytest.raises(DataError, match=r"gaps.csv, row 2: expected a text"):
        load(path, unlabelled=(write("gaps.csv", {"review": ["a", " "], "x": [1, 2]}),))


def test_unlabelled_pairs_need_both_texts(write, tmp_path):
    path = write("a.csv", {"text1": texts(10), "text2": texts(10), "label": ["a", "b"] * 5})
    (tmp_path / "plain.txt").write_text("one\n")
    with pytest.raises(DataError, match="expected a column 'text1', found text"):
        load(path, unlabelled=(str(tmp_path / "plain.txt"),))
    both = write("more.csv", {"text1": ["a"], "text2": ["b"]})
    assert load(path, unlabelled=(both,)).unlabelled[0] == {"text": "a", "pair": "b", "label": None}


def test_score_columns_are_kept(write, tmp_path):
    table = {"text": texts(20), "label": ["a", "b"] * 10, "p_a": [str(i / 20) for i in range(20)]}
    path = write("a.csv", table)
    (tmp_path / "plain.txt").write_text("one\n")
    scored = write("more.csv", {"text": ["two"], "p_a": ["0.5"]})
    data = load(path, keep=("p_a",), limit=10, unlabelled=(str(tmp_path / "plain.txt"), scored))
    assert data.train.features["p_a"] == Value("float64")
    assert all(row["p_a"] == int(row["text"].split()[-1]) / 20 for row in data.train)
    assert data.unlabelled["p_a"][-2:] == [None, 0.5]
    with pytest.raises(DataError, match="expected a column 'p_b', found text, label, p_a; did you mean 'p_a'"):
        load(path, keep=("p_b",))
    broken = write("b.csv", {**table, "p_a": with_cell(table["p_a"], 11, "unsure")})
    with pytest.raises(DataError, match="row 12: expected a number in column 'p_a', found 'unsure'"):
        load(broken, keep=("p_a",))


def test_fingerprint_is_of_the_content(write, tmp_path):
    table = {"text": texts(50, "é"), "label": ["0", "1"] * 25}
    as_csv = load(write("a.csv", table)).fingerprint
    assert load(write("b.jsonl", table)).fingerprint == as_csv
    assert load(write("c.parquet", {**table, "label": [0, 1] * 25})).fingerprint == as_csv
    gap = {
        "text": [*table["text"][:20], " ", *table["text"][20:]],
        "label": [*table["label"][:20], "1", *table["label"][20:]],
    }
    assert load(write("d.csv", gap), drop_bad_rows=True).fingerprint == as_csv
    moved = {**table, "text": with_cell(with_cell(table["text"], 0, "é number 0é"), 1, " number 1")}
    assert load(write("e.csv", moved)).fingerprint != as_csv
    assert load(write("f.csv", {**table, "label": ["1", "0"] * 25})).fingerprint != as_csv
    assert load(write("a.csv", table), split_seed=1).fingerprint != as_csv


def test_settings_out_of_range(write):
    path = write("a.csv", {"text": texts(10), "label": ["a", "b"] * 5})
    with pytest.raises(ConfigError, match="dev_share"):
        load(path, dev_share=1.0)
    with pytest.raises(ConfigError, match="limit"):
        load(path, limit=0)
    with pytest.raises(ConfigError, match="split_seed"):
        load(path, split_seed=-1)
    with pytest.raises(DataError, match="add a dev file"):
        load(write("b.csv", {"text": texts(2), "label": ["a", "b"]}))


def test_bundled_sample():
    data = load(str(sample_path()))
    assert (len(data.train), len(data.dev), len(data.test)) == (2000, 400, 600)
    assert data.task.labels == ("negative", "positive")
    assert not {*data.train["text"]} & {*data.dev["text"], *data.test["text"]}
    assert all(0.45 < np.mean(split["label"]) < 0.55 for split in (data.train, data.dev, data.test))
    licence = (sample_path() / "LICENSE").read_text()
    assert "Copyright (c) 2016 C.J. Hutto" in licence
    assert sum(file.stat().st_size for file in sample_path().iterdir()) < 400_000


def test_texts_stay_on_disk(write, tmp_path):
    data = load(write("a.csv", {"text": texts(20), "label": ["a", "b"] * 10}))
    assert any(str(tmp_path / "cache") in str(file["filename"]) for file in data.train.cache_files)


def test_rows_of_two_zeros_and_ones_are_no_lists_of_labels(write):
    """Were they, every row would have both labels."""
    path = write("a.jsonl", {"text": texts(12), "labels": [[0, 1], [1, 0], [0, 0]] * 4})
    assert {tuple(row) for row in load(path).train["label"]} == {(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)}


def test_a_split_alone_is_read_as_its_task_was(write):
    lists = write("a.jsonl", {"text": texts(12), "labels": [[0, 2], [1], []] * 4})
    flags = write("b.csv", {"text": texts(12), "0": [0, 1] * 6, "1": [1, 1] * 6})
    rows = write("c.jsonl", {"text": texts(12), "labels": [[0, 1, 1], [1, 0, 0], [0, 0, 0]] * 4})
    wanted = {lists: [1.0, 0.0, 1.0], flags: [0.0, 1.0], rows: [0.0, 1.0, 1.0]}
    for path, first in wanted.items():
        label = ("0", "1") if path == flags else ()
        task = load(path, label=label).task
        assert load_split(DataConfig(path=path, label=label), task, "test")["label"][0] == first, path
    one = write("one.jsonl", {"text": texts(2), "labels": [[1, 1, 1], [1, 2, 0]]})
    with pytest.raises(DataError, match=r"row 2: expected 3 times 0 or 1"):
        load_split(DataConfig(path=one), load(rows).task, "test")


@pytest.mark.parametrize("labels", [["①", "②"], ["10²", "x"], ["٣", "2"]])
def test_labels_of_unusual_digits_are_names(write, labels):
    assert set(load(write("a.csv", {"text": texts(20), "label": labels * 10})).task.labels) == set(labels)


def test_a_number_beyond_the_declared_names_is_an_unknown_label(tmp_path):
    features = Features({"text": Value("string"), "label": Value("int64")})
    rows = Dataset.from_dict({"text": texts(12), "label": [0, 1, 7] * 4}, features=features)
    table = rows.data.table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": {
            "text": {"dtype": "string", "_type": "Value"},
            "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
        }}})}
    )  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"expected a label that the training rows have \(neg, pos\), found '7'"):
        load(str(tmp_path / "a.parquet"))

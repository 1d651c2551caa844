"""Predict over files: order, columns, bad rows, windows, and what a resumed job accepts."""

import csv
import gzip
import json
import time
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attar.bundle import save_bundle
from attar.data.readers import read_texts
from attar.data.windows import windows
from attar.errors import BundleError, ConfigError, DataError
from attar.inference import files
from attar.inference.files import predict_file
from attar.inference.predictor import load


@pytest.fixture
def make_bundle(tmp_path, make_model, make_task, tokenizer):
    """Save a bundle of a kind of task; return its path."""

    def _make(kind="single-label", name="bundle", pair=None, seed=0):
        task = make_task(kind, pair=pair)
        model = make_model(kind=kind, labels=task.labels, seed=seed)
        save_bundle(tmp_path / name, model, tokenizer, task, max_length=32, precision="float32")
        return str(tmp_path / name)

    return _make


@pytest.fixture
def small_windows(monkeypatch):
    """Windows of eight rows, so that a short file has several."""
    monkeypatch.setattr(files, "_ROWS", {"cpu": 8, "cuda": 8, "mps": 8})


def write(path, table):
    pq.write_table(pa.table(table), path, row_group_size=7)
    return str(path)


def read(path):
    name = path.name
    if name.endswith(".parquet"):
        return pq.read_table(path).to_pylist()
    content = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
    lines = content.decode().splitlines()
    return list(csv.DictReader(lines)) if ".csv" in name else [json.loads(line) for line in lines]


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl", "csv.gz", "jsonl.gz"])
def test_rows_keep_their_order_and_have_the_columns_asked_for(
    make_bundle, sentences, tmp_path, small_windows, ending, monkeypatch
):
    bundle, texts = make_bundle(), sentences(30)
    data = write(tmp_path / "in.parquet", {"id": list(range(30)), "text": texts, "other": ["x"] * 30})
    out = tmp_path / f"out.{ending}"
    monkeypatch.setattr("attar.inference.writers._GROUP_ROWS", 10)
    summary = predict_file(bundle, data, str(out), keep=["id"], scores=True)
    assert summary == {"out": str(out), "rows": 30, "bad_rows": 0, "model": bundle}
    found = read(out)
    assert list(found[0]) == ["id", "prediction", "confidence", "p_neg", "p_pos"]
    assert [int(row["id"]) for row in found] == list(range(30))
    expected = load(bundle).predict(texts)
    assert [row["prediction"] for row in found] == [p.label for p in expected]
    for name in ("neg", "pos"):
        np.testing.assert_allclose(
            [float(row[f"p_{name}"]) for row in found], [p.scores[name] for p in expected], atol=1e-5
        )
    assert len({p.label for p in expected}) == 2
    assert not out.with_name(out.name + ".work").exists()


def test_windows_in_work_at_a_time_come_out_in_order(make_bundle, sentences, tmp_path, small_windows, monkeypatch):
    """The first window alone, then several threads, the second slower than the third."""
    bundle, texts = make_bundle(), sentences(60)
    inner = files.score_table

    def uneven(model, table, *rest):
        time.sleep(0.05 * (table.column("text")[0].as_py() == texts[8]))
        return inner(model, table, *rest)

    monkeypatch.setattr(files, "_WORKERS", 3)
    monkeypatch.setattr(files, "score_table", uneven)
    predict_file(bundle, write(tmp_path / "in.parquet", {"text": texts}), str(tmp_path / "out.jsonl"))
    found = read(tmp_path / "out.jsonl")
    assert [row["text"] for row in found] == texts
    assert [row["prediction"] for row in found] == [p.label for p in load(bundle).predict(texts)]


@pytest.mark.parametrize("kind", ["multi-label", "regression", "token"])
def test_every_kind_of_task(make_bundle, sentences, tmp_path, small_windows, kind):
    bundle, texts = make_bundle(kind), sentences(20)
    given = [text.split() for text in texts] if kind == "token" else texts
    data, out = write(tmp_path / "in.parquet", {"text": given}), tmp_path / "out.parquet"
    predict_file(bundle, data, str(out))
    found, expected = read(out), load(bundle).predict(given)
    assert [row["text"] for row in found] == given
    if kind == "regression":
        np.testing.assert_allclose([row["prediction"] for row in found], [p.label for p in expected], atol=1e-5)
        assert {row["confidence"] for row in found} == {None}
    else:
        assert [row["prediction"] for row in found] == [p.label for p in expected]
    if kind == "multi-label":
        predict_file(bundle, data, str(out), scores=True, overwrite=True)
        assert read(out)[3]["p_pos"] == pytest.approx(expected[3].scores["pos"], abs=1e-5)
        return
    with pytest.raises(ConfigError, match=f"a {kind} model has none"):
        predict_file(bundle, data, str(out), scores=True, overwrite=True)


def test_pairs_are_read_together_and_a_half_of_one_is_bad(make_bundle, sentences, tmp_path):
    bundle = make_bundle(pair="other")
    first, second = sentences(6), sentences(6, seed=1)
    data, out = write(tmp_path / "in.parquet", {"text": first, "other": second}), tmp_path / "out.jsonl"
    predict_file(bundle, data, str(out))
    expected = load(bundle).predict(first, second)
    assert [row["prediction"] for row in read(out)] == [p.label for p in expected]
    broken = write(tmp_path / "broken.parquet", {"text": first, "other": [*second[:4], None, second[5]]})
    with pytest.raises(DataError, match=r"row 5: expected a text in column 'other', found None"):
        predict_file(bundle, broken, str(tmp_path / "b.jsonl"))


@pytest.mark.parametrize("blank", ["", "  \t", None])
def test_a_bad_row_is_named_and_nothing_is_left_behind(make_bundle, sentences, tmp_path, small_windows, blank):
    texts = sentences(30)
    texts[19] = blank
    data, out = write(tmp_path / "in.parquet", {"text": texts}), tmp_path / "out" / "out.csv"
    out.parent.mkdir()
    with pytest.raises(DataError, match="row 20: expected a text in column 'text'") as caught:
        predict_file(make_bundle(), data, str(out))
    assert "\n" not in str(caught.value)
    assert not list(out.parent.iterdir())


def test_skipped_rows_keep_their_place_without_a_prediction(make_bundle, sentences, tmp_path, small_windows, caplog):
    texts = sentences(30)
    bad = {0, *range(8, 16), 29}  # the first, a whole window, the last
    given = [None if i in bad else text for i, text in enumerate(texts)]
    data, out = write(tmp_path / "in.parquet", {"text": given, "id": list(range(30))}), tmp_path / "out.parquet"
    bundle = make_bundle()
    summary = predict_file(bundle, data, str(out), keep=["id"], scores=True, skip_bad_rows=True)
    assert (summary["rows"], summary["bad_rows"]) == (30, 10)
    found = read(out)
    assert {row["id"] for row in found if row["prediction"] is None} == bad
    assert {row["id"] for row in found if row["p_neg"] is None} == bad
    expected = {i: p.label for i, p in enumerate(load(bundle).predict(texts))}
    assert all(row["prediction"] == expected[row["id"]] for row in found if row["id"] not in bad)
    assert "row 1:" in caplog.text
    assert "row 9:" in caplog.text
    assert "10 of 30 rows" in caplog.text


@pytest.mark.parametrize(
    ("name", "lines", "fault"),
    [
        ("in.jsonl", ['{"text": "good film"}', '{"text": "bad', "7", '{"text": "not good"}'], "line 2: .*not JSON"),
        ("in.csv", ["text,id", "good film,1", "bad film,2,x", "bad", "not good,4"], "line 3: expected 2 columns"),
    ],
)
def test_a_broken_line_keeps_its_place_without_a_prediction(make_bundle, tmp_path, name, lines, fault):
    bundle, data, out = make_bundle(), tmp_path / name, tmp_path / "out.jsonl"
    data.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=fault):
        predict_file(bundle, str(data), str(out))
    summary = predict_file(bundle, str(data), str(out), skip_bad_rows=True)
    assert (summary["rows"], summary["bad_rows"]) == (4, 2)
    expected = [one.label for one in load(bundle).predict(["good film", "not good"])]
    assert [row["prediction"] for row in read(out)] == [expected[0], None, None, expected[1]]
    with pytest.raises(DataError, match=fault):  # what was skipped once is not skipped without the flag
        predict_file(bundle, str(data), str(out), overwrite=True)


def test_a_file_of_bad_rows_alone(make_bundle, tmp_path):
    data, out = write(tmp_path / "in.parquet", {"text": pa.nulls(3)}), tmp_path / "out.jsonl"
    assert predict_file(make_bundle(), data, str(out), skip_bad_rows=True)["bad_rows"] == 3
    assert [row["prediction"] for row in read(out)] == [None] * 3


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"keep": ["idd"]}, DataError, "did you mean 'id'"),
        ({"keep": ["prediction"]}, ConfigError, "column of predictions"),
        ({"text": "id"}, DataError, "expected text in column 'id', found int64"),
        ({"pair": "nowhere"}, DataError, "expected a column 'nowhere'"),
        ({"encoder": "elsewhere"}, BundleError, "is no delta"),
    ],
)
def test_wrong_columns_are_refused_before_anything_is_written(make_bundle, tmp_path, settings, error, words):
    data = write(tmp_path / "in.parquet", {"id": [1], "text": ["good"], "prediction": ["x"]})
    out = tmp_path / "out.csv"
    with pytest.raises(error, match=words):
        predict_file(make_bundle(), data, str(out), **settings)
    assert not out.exists()
    assert not (tmp_path / "out.csv.work").exists()


@pytest.mark.parametrize("name", ["out.txt", "out", "out.parquet.gz"])
def test_an_unknown_format_to_write_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="expects a name that ends in"):
        predict_file("nowhere", "nothing.csv", str(tmp_path / name))


# Resuming ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def interrupted(make_bundle, sentences, tmp_path, small_windows, monkeypatch):
    """A job of 30 rows that stopped after two windows; its bundle, data and output."""
    bundle, out = make_bundle(), tmp_path / "out.parquet"
    data = write(tmp_path / "in.parquet", {"text": sentences(30)})
    add = files.Parts.add

    def stop_at_16(self, start, table):
        if start == 16:
            raise KeyboardInterrupt
        add(self, start, table)

    with monkeypatch.context() as patch:
        patch.setattr(files.Parts, "add", stop_at_16)
        with pytest.raises(KeyboardInterrupt):
            predict_file(bundle, data, str(out))
    assert not out.exists()
    return bundle, data, out


def test_a_resumed_job_predicts_only_what_is_missing(interrupted, tmp_path, monkeypatch):
    bundle, data, out = interrupted
    whole = tmp_path / "whole.parquet"
    predict_file(bundle, data, str(whole))
    # What a killed process leaves: a part half written, and half of the whole file.
    (tmp_path / "out.parquet.work" / ".16.1.tmp").write_bytes(b"PAR1 half")
    (tmp_path / "out.parquet.work" / "whole.parquet").write_bytes(b"PAR1 half")
    seen = []
    inner = files.score_table
    monkeypatch.setattr(files, "score_table", lambda m, table, *rest: seen.append(len(table)) or inner(m, table, *rest))
    assert predict_file(bundle, data, str(out), resume=True)["rows"] == 30
    assert sum(seen) == 14
    assert out.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "out.parquet.work").exists()


def test_a_job_killed_between_the_move_and_the_clean_up_ends_well(interrupted, tmp_path):
    bundle, data, out = interrupted
    out.write_bytes(b"moved already")
    predict_file(bundle, data, str(out), resume=True)
    assert len(read(out)) == 30


def test_without_a_flag_an_interrupted_job_is_left_alone(interrupted):
    bundle, data, out = interrupted
    with pytest.raises(BundleError, match="--resume continues it"):
        predict_file(bundle, data, str(out))
    predict_file(bundle, data, str(out), overwrite=True)
    with pytest.raises(BundleError, match="exists already"):
        predict_file(bundle, data, str(out), resume=True)


def test_another_job_is_not_resumed(interrupted, make_bundle, sentences, tmp_path):
    bundle, data, out = interrupted
    parts = sorted((tmp_path / "out.parquet.work").iterdir())
    other = make_bundle(name="other", seed=1)
    with pytest.raises(BundleError, match="another bundle"):
        predict_file(other, data, str(out), resume=True)
    with pytest.raises(BundleError, match="another scores"):
        predict_file(bundle, data, str(out), resume=True, scores=True)
    write(tmp_path / "in.parquet", {"text": sentences(31)})
    with pytest.raises(BundleError, match="another input and another rows"):
        predict_file(bundle, data, str(out), resume=True)
    assert sorted((tmp_path / "out.parquet.work").iterdir()) == parts


# Windows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 1, 7, 25, 39, 40])
@pytest.mark.parametrize(("most_rows", "most_bytes"), [(6, 10**9), (100, 10**9), (100, 400), (6, 1)])
def test_windows_give_every_row_once_within_their_limits(tmp_path, start, most_rows, most_bytes):
    texts = ["x" * (i * 17 % 50) for i in range(40)]
    rows = read_texts(write(tmp_path / "in.parquet", {"text": texts}))
    found = list(windows(rows, start=start, most_rows=most_rows, most_bytes=most_bytes))
    assert [text for table in found for text in table.column("text").to_pylist()] == texts[start:]
    for table in found:
        assert len(table) == 1 or (len(table) <= most_rows and table.nbytes <= most_bytes + 60)


def test_reading_on_gives_the_same_windows(tmp_path):
    texts = ["x" * (i * 17 % 50) for i in range(40)]
    rows = read_texts(write(tmp_path / "in.parquet", {"text": texts}))
    found = [len(table) for table in windows(rows, most_rows=9, most_bytes=200)]
    for k in range(len(found)):
        rest = windows(rows, start=sum(found[:k]), most_rows=9, most_bytes=200)
        assert [len(table) for table in rest] == found[k:]


def test_files_of_a_folder_are_read_one_after_another(make_bundle, sentences, tmp_path, small_windows):
    texts = sentences(20)
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "a.parquet", {"text": texts[:11]})
    write(tmp_path / "data" / "b.parquet", {"text": texts[11:]})
    predict_file(make_bundle(), str(tmp_path / "data"), str(tmp_path / "out.jsonl"))
    assert [row["text"] for row in read(tmp_path / "out.jsonl")] == texts


def test_one_process_at_a_time_writes_a_file(tmp_path):
    first = files.Parts(tmp_path / "scores.csv")
    first.start({"rows": 4})
    first.add(0, pa.table({"a": [1, 2]}))
    for flag in ("resume", "overwrite"):
        with pytest.raises(BundleError, match=r"another process is at work in .*scores\.csv\.work"):
            files.Parts(tmp_path / "scores.csv", **{flag: True}).start({"rows": 4})
    assert first.done == 2


def test_a_job_inside_its_bundle_goes_on(make_bundle, sentences, tmp_path, small_windows, monkeypatch):
    bundle, data = make_bundle(), write(tmp_path / "in.parquet", {"text": sentences(30)})
    out, add = tmp_path / "bundle" / "said.parquet", files.Parts.add

    def stop_at_16(self, start, table):
        if start == 16:
            raise KeyboardInterrupt
        add(self, start, table)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(files.Parts, "add", stop_at_16)
        predict_file(bundle, data, str(out))
    assert predict_file(bundle, data, str(out), resume=True)["rows"] == 30
    assert predict_file(bundle, data, str(out), overwrite=True)["rows"] == 30


def test_lists_of_times_are_kept_in_csv(make_bundle, tmp_path):
    days = pa.array([[datetime(2026, 1, 2)], []], pa.list_(pa.timestamp("s")))
    pq.write_table(pa.table({"text": ["good", "bad"], "days": days}), tmp_path / "in.parquet")
    predict_file(make_bundle(), str(tmp_path / "in.parquet"), str(tmp_path / "out.csv"), keep=("days",))
    assert [row["days"] for row in read(tmp_path / "out.csv")] == ['["2026-01-02 00:00:00"]', "[]"]


@pytest.mark.parametrize(
    ("kind", "texts", "pairs", "said"),
    [
        ("token", [["a", None]], None, "no string"),
        ("token", [["a"]], ["b"], "takes no second texts"),
        ("single-label", ["half \ud83d"], None, "UTF-8"),
        ("pair", ["a"], [None], "second text 1: expected a string, found NoneType"),
    ],
)
def test_texts_of_another_form_are_refused(make_bundle, kind, texts, pairs, said):
    model = load(make_bundle("single-label", pair="second") if kind == "pair" else make_bundle(kind))
    with pytest.raises(DataError, match=said):
        model.predict(texts, pairs)


@pytest.mark.parametrize("kind", ["single-label", "token"])
def test_no_texts_have_no_logits(make_bundle, kind):
    model = load(make_bundle(kind))
    assert model.logits([]).shape == (0, model.task.n_outputs)

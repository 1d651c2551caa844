"""attar bench: what is measured, and on which texts."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from attar.bench import bench as benching
from attar.bench.bench import bench
from attar.bench.measure import measure_bundle
from attar.bench.texts import bench_texts
from attar.bundle import folder_bytes, save_bundle
from attar.cli.main import app
from attar.errors import ConfigError, DataError


@pytest.fixture
def bundle(tmp_path, make_model, make_task, tokenizer):
    def _save(kind="single-label", pair=None, name="bundle"):
        task = make_task(kind, pair=pair)
        model = make_model(kind=kind, labels=task.labels, layers=1)
        save_bundle(tmp_path / name, model, tokenizer, task, max_length=24, precision="float32")
        return str(tmp_path / name)

    return _save


@pytest.fixture
def in_process(monkeypatch):
    """Measure here and shortly, not in a process of its own."""

    class Here:
        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def submit(self, call, *args, **settings):
            found = call(*args, **settings, budget=0.05)
            return type("Done", (), {"result": lambda _: found})()

    monkeypatch.setattr(benching, "ProcessPoolExecutor", Here)


@pytest.mark.parametrize(("kind", "pair"), [("single-label", None), ("single-label", "second"), ("token", None)])
def test_a_bundle_is_measured_from_raw_text(kind, pair, bundle, sentences):
    folder = bundle(kind, pair)
    texts = [text.split() for text in sentences(40)] if kind == "token" else sentences(40)
    found = measure_bundle(folder, texts, sentences(40, seed=1) if pair else None, budget=0.05)
    latency, rate = found["latency"], found["throughput"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"]
    assert latency["tokenizer"] < latency["p99"]
    assert latency["engine"] < latency["p99"]
    assert rate["total"] < min(rate["tokenizer"], rate["engine"])
    assert rate["texts"] <= 40
    assert (found["engine"], found["precision"], found["bytes"]) == ("torch", "float32", folder_bytes(folder))
    assert found["memory"]["peak"] > 0


def test_bundles_lie_side_by_side_in_one_table_or_one_object(bundle, in_process, tmp_path, sentences):
    (tmp_path / "texts.txt").write_text("\n".join(sentences(30)))
    folders = [bundle(name="one"), bundle(name="two")]
    arguments = ["bench", *folders, "--data", str(tmp_path / "texts.txt")]
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert [one["bundle"] for one in found["bundles"]] == folders
    assert found["texts"] == f"30 texts of {tmp_path / 'texts.txt'}"
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0
    assert "texts/s" in shown.stdout


@pytest.mark.slow
def test_every_bundle_has_a_process_of_its_own(bundle):
    found = bench([bundle()], lengths="4")
    assert found["bundles"][0]["memory"]["model"] > 0


def test_lengths_are_words_in_turn(bundle):
    texts, pairs, _ = bench_texts(bundle(), None, "3,10")
    assert [len(text.split()) for text in texts[:4]] == [3, 10, 3, 10]
    assert (pairs, len(set(texts)) > 100) == (None, True)
    texts, pairs, _ = bench_texts(bundle("token", name="token"), None, "5")
    assert len(texts[0]) == 5
    texts, pairs, _ = bench_texts(bundle(pair="second", name="pair"), None, "5")
    assert len(texts) == len(pairs)


def test_texts_kept_with_the_bundle_are_the_default(bundle):
    folder = bundle("token")
    with pytest.raises(DataError, match="--lengths"):
        bench_texts(folder, None, None)
    kept = pa.table({"text": [["a", "film"], ["good"]], "label": [["O", "O"], ["O"]]})
    pq.write_table(kept, f"{folder}/predictions.parquet")
    assert bench_texts(folder, None, None)[0] == [["a", "film"], ["good"]]


@pytest.mark.parametrize("profile", ["", "0", "8-16", "a", "8,,9"])
def test_a_profile_that_cannot_be_read_is_refused(profile, bundle):
    with pytest.raises((ConfigError, DataError), match="--lengths"):
        bench_texts(bundle(), None, profile)


def test_data_and_lengths_together_and_strange_columns_are_refused(bundle, tmp_path):
    with pytest.raises(ConfigError, match="found both"):
        bench_texts(bundle(), "x", "8")
    (tmp_path / "other.csv").write_text("review\ngood\n")
    with pytest.raises(DataError, match="expected a column 'text'; found review"):
        bench_texts(bundle(), str(tmp_path / "other.csv"), None)

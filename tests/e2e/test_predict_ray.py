"""`attar predict --ray` on a small Ray of this machine."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy import call, reviews

import attar

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(cache):
    """A Ray with one core and a small object store."""
    ray = pytest.importorskip("ray")
    ray.init(address="local", num_cpus=1, object_store_memory=100 * 2**20, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture
def folder(tmp_path):
    """Three files of 40 rows; their texts in order."""
    texts = reviews(120, seed=3)["text"]
    (tmp_path / "in").mkdir()
    for k in range(3):
        rows = slice(k * 40, k * 40 + 40)
        pq.write_table(pa.table({"text": texts[rows], "id": range(120)[rows]}), tmp_path / "in" / f"{k}.parquet")
    return tmp_path / "in", texts


def test_a_folder_of_files_is_predicted_in_order(cluster, teacher, folder, tmp_path):
    data, texts = folder
    out = tmp_path / "out"
    run = ("predict", teacher, "--data", data, "--out", out, "--ray", "local", "--keep", "id", "--scores")
    result = call(*run, "--json")
    assert result.code == 0, result.err
    assert (result.json["rows"], result.json["bad_rows"]) == (120, 0)
    found = pa.concat_tables(pq.read_table(file) for file in sorted(out.glob("*.parquet")))
    assert found.column_names == ["id", "prediction", "confidence", "p_neg", "p_pos"]
    assert found.column("id").to_pylist() == list(range(120))
    assert found.column("prediction").to_pylist() == [p.label for p in attar.load(str(teacher)).predict(texts)]

    again = call(*run)
    assert again.code == 2
    assert "exists already" in again.err
    assert call(*run, "--overwrite").code == 0
    assert sum(pq.read_metadata(file).num_rows for file in out.glob("*.parquet")) == 120


def test_bad_rows_end_the_job_with_one_line_or_are_skipped(cluster, teacher, tmp_path):
    data = tmp_path / "in.parquet"
    pq.write_table(pa.table({"text": ["great", None, "so dull"], "id": ["a", "b", "c"]}), data)
    run = ("predict", teacher, "--data", data, "--out", tmp_path / "out", "--ray", "local")
    result = call(*run)
    assert result.code == 2
    errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.err
    assert "expected a text in column 'text', found None" in errors[0]
    assert "'id': 'b'" in errors[0]
    assert not list((tmp_path / "out").glob("*"))
    skipped = call(*run, "--skip-bad-rows", "--json")
    assert skipped.code == 0, skipped.err
    assert (skipped.json["rows"], skipped.json["bad_rows"]) == (3, 1)


@pytest.mark.parametrize(
    ("flags", "words"),
    [(("--resume",), "--resume does not go with --ray"), (("--data", "x.txt"), "--ray reads Parquet")],
)
def test_what_ray_does_not_do_is_refused(cluster, teacher, folder, tmp_path, flags, words):
    result = call("predict", teacher, "--data", folder[0], "--out", tmp_path / "out", "--ray", "local", *flags)
    assert result.code == 2
    assert words in result.err

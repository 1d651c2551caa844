"""`attar predict` killed in its middle: the resumed file is byte for byte the uninterrupted one."""

import signal
import time

import pyarrow.parquet as pq
import pytest
from toy import call, reviews, start, write_rows

pytestmark = pytest.mark.slow

ROWS = 20_000


def kill_after(process, work, parts):
    """Kill a process without warning once the work folder holds this many parts."""
    deadline = time.monotonic() + 120
    while len(list(work.glob("0*.parquet"))) < parts:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "no part appeared"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("ending", ["parquet", "jsonl.gz"])
def test_killed_twice_and_resumed_it_is_byte_for_byte_the_same(teacher, cache, tmp_path, ending):
    table = reviews(ROWS, seed=5)
    table["text"][777] = "  "
    table["id"] = list(range(ROWS))
    data = write_rows(tmp_path / "in.parquet", table)
    out, whole = tmp_path / f"out.{ending}", tmp_path / f"whole.{ending}"
    flags = ("--keep", "id", "--scores", "--skip-bad-rows")
    run = ("predict", teacher, "--data", data, "--out", out, *flags)
    work = tmp_path / f"out.{ending}.work"

    for reached in (2, 4):
        kill_after(start(*run, "--resume", cwd=tmp_path, cache=cache), work, reached)
        done = {file.name: file.stat().st_mtime_ns for file in work.glob("0*.parquet")}
        assert not out.exists()
        assert reached <= len(done) < ROWS // 2048, "the kill came too late to test anything"
    refused = call(*run)
    assert refused.code == 2
    assert "--resume continues it" in refused.err
    other = call(*run, "--resume", "--text", "id")
    assert other.code == 2
    assert other.err.count("\n") == 1
    assert {file.name: file.stat().st_mtime_ns for file in work.glob("0*.parquet")} == done

    resumed = call(*run, "--resume", "--json")
    assert resumed.code == 0, resumed.err
    assert (resumed.json["rows"], resumed.json["bad_rows"]) == (ROWS, 1)
    assert not work.exists()
    assert call("predict", teacher, "--data", data, "--out", whole, *flags).code == 0
    assert out.read_bytes() == whole.read_bytes()
    if ending == "parquet":
        found = pq.read_table(out)
        assert found.column("id").to_pylist() == list(range(ROWS))
        assert found.column("prediction").null_count == 1


def test_bad_rows_end_with_exit_2_and_one_line(teacher, tmp_path):
    data = write_rows(tmp_path / "in.jsonl", {"text": ["so dull", "", "great"]})
    result = call("predict", teacher, "--data", data, "--out", tmp_path / "out.csv")
    assert result.code == 2
    assert result.err.startswith("error: ")
    assert "row 2: expected a text in column 'text', found ''" in result.err
    assert result.err.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize("flags", [("--keep", "id"), ("--scores",), ("--resume",), ("--ray", "local")])
def test_flags_of_files_are_refused_for_texts(teacher, flags):
    result = call("predict", teacher, "so dull", *flags)
    assert result.code == 2
    assert "--data FILE" in result.err

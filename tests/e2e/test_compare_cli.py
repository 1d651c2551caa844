"""attar compare: the whole grid, a kill in its middle, a run that fails, a budget."""

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
from toy import call, start, write_rows

from attar.config import read_toml
from attar.errors import AttarError
from attar.recipe import config_of
from attar.runner import run

QUICK = ("train.lr=5e-3", "train.batch_size=16", "train.max_length=24", "train.epochs=2")


def arguments(encoder, data, out, *more):
    settings = [word for setting in QUICK for word in ("--set", setting)]
    methods = () if "--methods" in more else ("--methods", "full,bitfit")
    return ("compare", "--model", encoder, "--data", data, "--out", out, "--seeds", "0,1", *methods, *settings, *more)


def stamps(out: Path) -> dict[str, int]:
    return {file.parent.name: file.stat().st_mtime_ns for file in out.glob("runs/*/record.json")}


@pytest.fixture
def in_this_process(monkeypatch):
    """Runs without a process of their own, which would take longer to start than to run."""

    def run_here(recipe, log, *, limit, lock):
        start = time.monotonic()
        try:
            run(config_of(read_toml(recipe)), resume=True)
        except AttarError as error:
            return {"status": "failed", "seconds": time.monotonic() - start, "error": str(error)}
        return {"status": "done", "seconds": time.monotonic() - start}

    monkeypatch.setattr("attar.compare.loop.run_apart", run_here)


@pytest.mark.slow
def test_a_killed_comparison_goes_on_where_it_was(encoder, data, cache, tmp_path):
    out = tmp_path / "grid"
    process = start(*arguments(encoder, data, out), cwd=tmp_path, cache=cache)
    deadline = time.monotonic() + 120
    while len(stamps(out)) < 2:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    before = stamps(out)
    assert 2 <= len(before) < 4, "the kill came too late to test anything"
    assert not (out / "comparison.json").exists()

    refused = call(*arguments(encoder, data, out))
    assert refused.code == 2
    assert "--resume" in refused.err
    resumed = call(*arguments(encoder, data, out), "--resume", "--json")
    assert resumed.code == 0, resumed.err
    assert {name: at for name, at in stamps(out).items() if name in before} == before
    record = resumed.json
    assert [run["status"] for run in record["runs"]] == ["done"] * 4
    assert {method["label"]: method["seeds"] for method in record["methods"]} == {"full": [0, 1], "bitfit": [0, 1]}
    assert record["splits"]["same"]
    (pair,) = record["differences"]
    means = {method["label"]: method["quality"]["mean"] for method in record["methods"]}
    assert pair["difference"] == pytest.approx(means[pair["a"]] - means[pair["b"]])
    assert all(labels for labels in record["fronts"].values())
    own = {name: json.loads((out / "runs" / name / "record.json").read_text()) for name in stamps(out)}
    assert {r["data"]["fingerprint"] for r in own.values()} == {record["data"]["fingerprint"]}

    again = call(*arguments(encoder, data, out), "--resume")
    assert again.code == 0, again.err
    assert "± " in again.out
    assert "run 1 of" not in again.err
    assert call("report", out).code == 0
    assert (out / "report.html").exists()


def test_a_failing_run_is_recorded_and_a_student_learns_from_the_full_run(encoder, data, tmp_path, in_this_process):
    out = tmp_path / "grid"
    # Too many layers are found when the model is there, inside the run.
    grid = tmp_path / "grid.toml"
    grid.write_text(
        f'out = "{out}"\nmodel = "{encoder}"\n[data]\npath = "{data}"\n'
        "[train]\nlr = 5e-3\nbatch_size = 16\nmax_length = 24\nepochs = 1\n"
        '[[method]]\nname = "full"\n[[method]]\nname = "freezing"\nlayers = 99\nas = "broken"\n'
        '[[method]]\nname = "logits"\nstudent = "layers:0"\n'
    )
    result = call("compare", grid, "--json")
    assert result.code == 0, result.err
    runs = {run["label"]: run for run in result.json["runs"]}
    assert {label: run["status"] for label, run in runs.items()} == {
        "full": "done",
        "broken": "failed",
        "logits": "done",
    }
    assert "99" in runs["broken"]["error"]
    student = json.loads((out / "runs" / "logits-0" / "record.json").read_text())
    assert student["config"]["teacher"]["bundles"] == [str(out / "runs" / "full-0")]
    assert [model["role"] for model in student["models"]] == ["student", "teacher"]


def test_a_budget_leaves_runs_out_and_a_larger_one_brings_them_back(encoder, data, tmp_path, in_this_process):
    out = tmp_path / "grid"
    one = call(*arguments(encoder, data, out, "--methods", "bitfit"), "--budget", "1h", "--json")
    assert one.code == 0, one.err
    assert [run["status"] for run in one.json["runs"]] == ["done", "done"]
    spent = one.json["runs"][0]["seconds"]
    left_out = call(
        *arguments(encoder, data, out, "--methods", "bitfit"),
        "--seeds", "0,1,2", "--budget", f"{one.json['seconds'] + spent / 10:.1f}s", "--resume", "--json",
    )  # fmt: skip
    assert [run["status"] for run in left_out.json["runs"]] == ["done", "done", "left out"]
    other = call(*arguments(encoder, data, out, "--methods", "bitfit"), "--set", "train.epochs=1", "--resume")
    assert other.code == 2
    assert "other settings" in other.err


def test_where_every_run_fails_the_command_does_and_says_why(encoder, tmp_path, in_this_process):
    empty = write_rows(tmp_path / "data.csv", {"text": ["a"], "label": [""]})
    result = call(*arguments(encoder, empty, tmp_path / "grid", "--methods", "bitfit"))
    assert result.code == 2
    assert "no run of the comparison" in result.err


def test_a_deleted_run_is_made_again_and_one_without_an_outcome_is_kept(encoder, data, tmp_path, in_this_process):
    out = tmp_path / "grid"
    first = call(*arguments(encoder, data, out, "--methods", "bitfit"), "--json")
    assert first.code == 0, first.err
    shutil.rmtree(out / "runs" / "bitfit-0")
    (out / "outcomes" / "bitfit-1.json").unlink()  # as if killed just after the run
    again = call(*arguments(encoder, data, out, "--methods", "bitfit"), "--resume", "--json")
    assert again.code == 0, again.err
    made, kept = again.json["runs"]
    assert [made["status"], kept["status"]] == ["done", "done"]
    assert kept["train_seconds"] == first.json["runs"][1]["train_seconds"]

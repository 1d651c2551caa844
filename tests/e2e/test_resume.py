"""Interrupted runs: what a kill costs, and that the end is the same."""

import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy import FAST, call, start

from attar.training.trainer import StageTrainer

pytestmark = pytest.mark.slow

EPOCHS = 40


def arguments(teacher: str, data: str, out: Path) -> tuple[object, ...]:
    """A run with dropout on, long enough to be killed in its middle."""
    return (
        "distill", "--teacher", teacher, "--data", data, "--out", out, "--method", "logits", *FAST,
        "--lr", "5e-4", "--epochs", EPOCHS, "--no-baseline",
    )  # fmt: skip


def stop_in_training(process, work: Path, number: int) -> str:
    """Send a signal once the run has left a whole checkpoint; return its stderr."""
    deadline = time.monotonic() + 120
    while not list(work.glob("checkpoints/*/checkpoint-*/trainer_state.json")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return err


def test_a_killed_run_resumes_to_the_weights_of_an_uninterrupted_one(teacher, data, cache, tmp_path):
    out = tmp_path / "student"
    process = start(*arguments(teacher, data, out), cwd=tmp_path, cache=cache)
    stop_in_training(process, tmp_path / "student.work", signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    work = tmp_path / "student.work"
    checked = work / "teacher-check.json"
    stamp = checked.stat().st_mtime_ns
    shards = set((cache / "signals").rglob("*.arrow"))
    reached = max(int(folder.name.split("-")[1]) for folder in work.glob("checkpoints/*/checkpoint-*"))
    assert reached < EPOCHS * 8, "the kill came too late to test anything"

    refused = call(*arguments(teacher, data, out))
    assert refused.code == 2
    assert "--resume" in refused.err
    other = call(*arguments(teacher, data, out), "--set", "train.seed=3", "--resume")
    assert other.code == 2
    assert "other settings" in other.err
    assert checked.stat().st_mtime_ns == stamp

    resumed = call(*arguments(teacher, data, out), "--resume", "--json")
    assert resumed.code == 0, resumed.err
    assert not work.exists()
    # Only the test split, which the killed run had not come to, was scored anew.
    grown = set((cache / "signals").rglob("*.arrow")) - shards
    assert len(grown) <= 1
    whole = call(*arguments(teacher, data, tmp_path / "whole"), "--json")
    assert whole.code == 0, whole.err

    a, b = load_file(out / "model.safetensors"), load_file(tmp_path / "whole" / "model.safetensors")
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-6, msg=name)
    for one, two in zip(resumed.json["models"], whole.json["models"], strict=True):
        assert one["metrics"]["test"]["accuracy"] == two["metrics"]["test"]["accuracy"]
    steps = [point["step"] for point in resumed.json["stages"][0]["curve"]]
    assert steps == [point["step"] for point in whole.json["stages"][0]["curve"]]


def test_a_finished_step_is_not_done_again(teacher, data, cache, tmp_path, monkeypatch):
    out = tmp_path / "student"
    run = ("distill", "--teacher", teacher, "--data", data, "--out", out, "--method", "logits", *FAST, "--epochs", 1)
    with monkeypatch.context() as patch:
        patch.setattr("attar.runner._compare", interrupt)
        assert call(*run).code == 130
    work = tmp_path / "student.work"
    done = {file.name: file.stat().st_mtime_ns for file in work.glob("*.json")}
    assert set(done) == {"teacher-check.json", "student.json", "labels-only.json"}
    weights = (work / "student" / "model.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("attar.stages.run_stage", interrupt)  # nothing is left to train
        result = call(*run, "--resume", "--json")
    assert result.code == 0, result.err
    assert (out / "model.safetensors").read_bytes() == weights
    assert [stage["role"] for stage in result.json["stages"]] == ["student", "labels-only"]
    assert result.json["timings"]["train"] >= result.json["stages"][0]["seconds"] > 0


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_a_run_of_two_stages_goes_on_in_the_second(teacher, data, tmp_path, monkeypatch):
    """TinyBERT stopped within its prediction stage: the intermediate stage is not trained again."""
    settings = ("layers=1", "width=8", "feed_forward=12", "intermediate_epochs=2")
    chosen = [word for setting in settings for word in ("--set", f"method.{setting}")]
    run = ("distill", "--teacher", teacher, "--data", data, "--method", "tinybert", *chosen, *FAST, "--no-baseline")
    trained: list[tuple[str, int]] = []
    inner = StageTrainer.training_step

    def counted(self, *arguments, stop_at=0, **named):
        trained.append((self._stage.name, self.state.global_step))
        if stop_at and len([name for name, _ in trained if name == "prediction"]) == stop_at:
            raise KeyboardInterrupt
        return inner(self, *arguments, **named)

    def step(stop_at):
        return lambda self, *arguments, **named: counted(self, *arguments, stop_at=stop_at, **named)

    with monkeypatch.context() as patch:
        patch.setattr(StageTrainer, "training_step", step(0))
        whole = call(*run, "--out", tmp_path / "whole", "--epochs", 3)
        assert whole.code == 0, whole.err
        steps = trained.copy()
        trained.clear()
        patch.setattr(StageTrainer, "training_step", step(len(steps) // 5 * 2))  # in the last of three epochs
        assert call(*run, "--out", tmp_path / "cut", "--epochs", 3).code == 130
        trained.clear()
        patch.setattr(StageTrainer, "training_step", step(0))
        resumed = call(*run, "--out", tmp_path / "cut", "--epochs", 3, "--resume", "--json")
    assert resumed.code == 0, resumed.err
    assert {name for name, _ in trained} == {"prediction"}
    assert 0 < len(trained) < len([name for name, _ in steps if name == "prediction"])
    assert [stage["name"] for stage in resumed.json["stages"]] == ["intermediate", "prediction"]
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("cut", "whole"))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-6, msg=name)


def test_ctrl_c_exits_130_with_the_hint_and_keeps_the_checkpoint(teacher, data, cache, tmp_path):
    out = tmp_path / "student"
    process = start(*arguments(teacher, data, out), cwd=tmp_path, cache=cache)
    err = stop_in_training(process, tmp_path / "student.work", signal.SIGINT)
    assert process.returncode == 130
    hints = [line for line in err.splitlines() if line.startswith("interrupted")]
    assert len(hints) == 1, err
    assert "--resume" in hints[0]
    assert "Traceback" not in err
    assert not out.exists()
    assert list((tmp_path / "student.work").glob("checkpoints/*/checkpoint-*"))

"""The frozen prefix in two processes: each stores the states for itself, and either all of them use it or none."""

import subprocess
import sys

import pytest
import torch
from datasets import Dataset
from toy import reviews, save_encoder

pytestmark = pytest.mark.slow

TRAINING = """
import os, sys
import torch
from datasets import Dataset
from pathlib import Path
from attar.config import TrainConfig
from attar.data.task import Task
from attar.nets.anatomy import anatomy
from attar.nets.loading import load_for_task, load_tokenizer
from attar.objectives.task import task_loss
from attar.training import prefix
from attar.training.loop import run_stage
from attar.training.stage import Stage, OnLogits

encoder, rows, out, limit, broken = sys.argv[1:]
torch.manual_seed(0)
model = load_for_task(encoder, "single-label", ("neg", "pos"))
parts = anatomy(model)
parts.base.requires_grad_(False)
for module in (parts.layers[1], *parts.top):
    module.requires_grad_(True)
if os.environ["RANK"] == broken:
    def no_space(*_):
        raise OSError(28, "No space left on device")
    prefix.store_states = no_space
split = Dataset.from_parquet(rows)
stage = Stage(
    name="tune",
    model=model,
    tokenizer=load_tokenizer(encoder),
    objective=OnLogits(lambda logits, batch: {"loss": task_loss(logits, batch["labels"], "single-label")}),
    train=TrainConfig(epochs=3, batch_size=16, lr=1e-3, max_length=24, precision="float32", cache_limit=limit),
    task=Task(kind="single-label", text="text", pair=None, label=("label",), labels=("neg", "pos")),
    learn=[(split, True)],
    dev=split.select(range(16)),
)
run_stage(stage, Path(out), title="tune")
torch.save({"weights": model.state_dict(), "notes": stage.notes}, f"{out}-{os.environ['RANK']}.pt")
"""


def test_two_processes_agree_on_the_cache_and_on_the_weights(tmp_path):
    encoder = save_encoder(tmp_path / "bert", dropout=0.0)
    table = reviews(64, 0)
    names = sorted(set(table["label"]))
    split = {"text": table["text"], "label": [names.index(label) for label in table["label"]]}
    Dataset.from_dict(split).to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "training.py").write_text(TRAINING)

    def run(name, limit, broken=""):
        launcher = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")
        arguments = (tmp_path / "training.py", encoder, tmp_path / "rows.parquet", tmp_path / name, limit, broken)
        done = subprocess.run([*launcher, *map(str, arguments)], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        found = [torch.load(tmp_path / f"{name}-{rank}.pt") for rank in (0, 1)]
        for weight in found[0]["weights"]:
            assert torch.equal(found[0]["weights"][weight], found[1]["weights"][weight])
        return found

    plain, cached, broken = run("plain", "0"), run("cached", "8GiB"), run("broken", "8GiB", broken="1")
    assert all("computed once" in found["notes"][0] and len(found["notes"]) == 1 for found in cached)
    assert all("could not be stored" in found["notes"][-1] for found in broken)
    for weight, value in plain[0]["weights"].items():
        torch.testing.assert_close(cached[0]["weights"][weight], value, rtol=0, atol=4e-3, msg=weight)
        assert torch.equal(broken[0]["weights"][weight], value)

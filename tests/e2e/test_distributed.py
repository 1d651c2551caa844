"""Several processes on one machine: the same student, and one signal cache that no text enters twice."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file
from toy import call, reviews, save_encoder, start, write_rows

pytestmark = pytest.mark.slow

#: ``accelerate launch`` is not needed: torchrun's environment is all that attar reads.
TORCHRUN = ("torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m")
TRAIN = ("--lr", "5e-3", "--batch-size", "16", "--max-length", "24", "--set", "train.precision=float32")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A teacher without dropout, and rows that divide by the batch; the same text occurs in several splits."""
    folder = tmp_path_factory.mktemp("distributed")
    encoder = save_encoder(folder / "bert", dropout=0.0)
    train, dev, test = reviews(64, 0), reviews(16, 1), reviews(16, 2)
    dev["text"][:2] = train["text"][:2]
    for split, table in (("train", train), ("dev", dev), ("test", test)):
        write_rows(folder / "data" / f"{split}.csv", table)
    teacher = folder / "teacher"
    result = call(
        "finetune", "--model", encoder, "--data", folder / "data", "--out", teacher, "--epochs", 4, *TRAIN,
        "--no-baseline",
    )  # fmt: skip
    assert result.code == 0, result.err
    texts = {*train["text"], *dev["text"], *test["text"]}
    return folder, teacher, len(texts)


def distil(
    folder: Path, teacher: Path, out: Path, cache: Path, *method: object, launcher: tuple[str, ...] = ()
) -> dict:
    arguments = (
        "distill", "--teacher", teacher, "--data", folder / "data", "--out", out, *TRAIN, "--epochs", 3,
        "--no-baseline", *method,
    )  # fmt: skip
    process = start(*arguments, cwd=folder, cache=cache, launcher=launcher)
    out_text, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return {"out": out_text, "weights": load_file(out / "model.safetensors")}


def cached_digests(cache: Path) -> dict[str, np.ndarray]:
    """Return the digests of every signal's cache, by the name of its folder."""
    found = {}
    for folder in (cache / "signals").iterdir():
        tables = [pa.ipc.open_file(str(file)).read_all() for file in folder.glob("*.arrow")]
        found[folder.name] = np.concatenate([table["digest"].to_pylist() for table in tables])
    return found


METHODS = {
    "logits": ("--method", "logits"),
    "bilstm-soft": (
        "--method", "bilstm-soft", "--set", "method.width=8", "--set", "method.hidden=8", "--set", "method.dropout=0.0",
    ),
}  # fmt: skip


def test_two_processes_learn_layers_through_a_wrapped_student(files, tmp_path):
    """Losses are means over a process's tokens, so two processes come near the student of one, not to its bits."""
    folder, teacher, _ = files
    sizes = ("layers=1", "width=8", "feed_forward=12", "intermediate_epochs=2", "intermediate_lr=1e-3")
    chosen = ["--method", "tinybert", *(word for size in sizes for word in ("--set", f"method.{size}"))]
    one = distil(folder, teacher, tmp_path / "one", tmp_path / "cache-1", *chosen)
    two = distil(folder, teacher, tmp_path / "two", tmp_path / "cache-2", *chosen, launcher=TORCHRUN)
    assert not [name for name in two["weights"] if "project" in name]
    for name in one["weights"]:
        torch.testing.assert_close(one["weights"][name], two["weights"][name], rtol=0, atol=5e-3, msg=name)


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_make_the_student_of_one_and_score_no_text_twice(files, method, tmp_path):
    folder, teacher, n_texts = files
    one = distil(folder, teacher, tmp_path / "one", tmp_path / "cache-1", *METHODS[method])
    two = distil(folder, teacher, tmp_path / "two", tmp_path / "cache-2", *METHODS[method], launcher=TORCHRUN)

    for name in one["weights"]:
        torch.testing.assert_close(one["weights"][name], two["weights"][name], rtol=1e-4, atol=1e-6, msg=name)
    assert not list(tmp_path.glob("*.work"))

    alone, shared = cached_digests(tmp_path / "cache-1"), cached_digests(tmp_path / "cache-2")
    assert alone.keys() == shared.keys()
    for key, digests in shared.items():
        assert len(np.unique(digests)) == len(digests)
        assert set(digests) == set(alone[key])
    assert n_texts in map(len, shared.values())
    assert two["out"].count("teacher") == one["out"].count("teacher"), "the table is shown by one process alone"


def test_a_batch_that_the_processes_cannot_share_is_refused(files, tmp_path):
    folder, teacher, _ = files
    process = start(
        "distill", "--teacher", teacher, "--data", folder / "data", "--out", tmp_path / "out", "--method", "logits",
        "--batch-size", 15, "--max-length", 24, "--no-baseline",
        cwd=folder, cache=tmp_path / "cache", launcher=TORCHRUN,
    )  # fmt: skip
    _, err = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "does not divide by 2 processes" in err, err
    assert not (tmp_path / "out").exists()

"""What a checkpoint keeps: everything that moves, under names that are found again."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from attar.config import TrainConfig
from attar.errors import ModelError
from attar.objectives.task import task_loss
from attar.training.loop import run_stage
from attar.training.stage import OnLogits, Stage


@pytest.fixture
def make_stage(tmp_path, make_folder, make_task, rows, sentences, tokenizer):
    """A stage on a checkpoint of the first years of BERT, whose norms have a gamma and a beta."""
    folder = make_folder("encoder", family="bert")
    file = tmp_path / "encoder" / "model.safetensors"
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def old_name(name):
        for now, before in old.items():
            name = name.replace(now, before)
        return name

    save_file({old_name(name): t for name, t in load_file(file).items()}, file, metadata={"format": "pt"})

    def split(n, seed):
        texts = sentences(n, seed)
        return rows(texts, label=[len(text) % 2 for text in texts])

    def make():
        return Stage(
            name="tune",
            model=AutoModelForSequenceClassification.from_pretrained(folder),
            tokenizer=tokenizer,
            objective=OnLogits(lambda logits, batch: {"loss": task_loss(logits, batch["labels"], "single-label")}),
            train=TrainConfig(epochs=1, batch_size=8, lr=1e-2, max_length=24, precision="float32"),
            task=make_task(),
            learn=[(split(24, 1), True)],
            dev=split(10, 2),
        )

    return make


def test_norms_of_old_names_are_found_in_a_checkpoint_again(make_stage, tmp_path):
    first, again = make_stage(), make_stage()
    run_stage(first, tmp_path / "run", title="")
    run_stage(again, tmp_path / "run", title="")  # nothing is left to train
    for (name, one), two in zip(first.model.named_parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, two), name


@pytest.mark.parametrize("change", ["drop", "rename"])
def test_a_checkpoint_of_other_weights_is_refused(make_stage, tmp_path, change):
    run_stage(make_stage(), tmp_path / "run", title="")
    (file,) = (tmp_path / "run").glob("checkpoint-*/model.safetensors")
    tensors = load_file(file)
    one = tensors.pop("bert.pooler.dense.bias")
    save_file(tensors if change == "drop" else {**tensors, "bert.pooler.bias": one}, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"other weights than its model, among them bert\.pooler\.dense\.bias"):
        run_stage(make_stage(), tmp_path / "run", title="")

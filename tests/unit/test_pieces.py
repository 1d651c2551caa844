"""Long batches run in pieces: the same training, in less memory."""

import pytest
import torch

from attar.config import TrainConfig
from attar.nets.bilstm import BilstmConfig, BilstmForSequenceClassification
from attar.objectives.distillation import distillation_loss
from attar.objectives.task import task_loss
from attar.training import examples
from attar.training.examples import stage_examples
from attar.training.loop import run_stage
from attar.training.stage import OnLogits, Stage

SMOOTH = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)


@pytest.fixture
def make_stage(make_model, make_task, rows, sentences, tokenizer):
    """A stage over 24 texts without dropout."""

    def make(kind="single-label", *, objective=None, model=None, **train):
        torch.manual_seed(0)
        task = make_task(kind)

        def split(n, seed):
            texts = sentences(n, seed)
            if kind == "token":
                words = [text.split() for text in texts]
                return rows(words, label=[[len(word) % 5 for word in text] for text in words])
            return rows(texts, label=[(len(text) % 2) / (2 if kind == "regression" else 1) for text in texts])

        def loss(logits, batch):
            value = task_loss(logits, batch["labels"], kind)
            return {"loss": 2 * value, "label_loss": value}

        settings = {"epochs": 2, "batch_size": 8, "lr": 1e-3, "max_length": 24, "precision": "float32", **train}
        return Stage(
            name="tune",
            model=model or make_model("bert", kind=kind, labels=task.labels, **SMOOTH),
            tokenizer=tokenizer,
            objective=objective or OnLogits(loss),
            train=TrainConfig(**settings),
            task=task,
            learn=[(split(24, 1), True)],
            dev=split(10, 2),
        )

    return make


def trained(stage, folder):
    sizes = []
    handle = stage.model.base_model.embeddings.register_forward_hook(
        lambda module, _, out: sizes.append(out.shape[0] * out.shape[1]) if module.training else None
    )
    curve = run_stage(stage, folder, title="")["curve"]
    handle.remove()
    for point in curve:
        del point["seconds"]
    return torch.cat([p.detach().flatten() for p in stage.model.parameters()]), sizes, curve


@pytest.mark.parametrize(
    ("kind", "train"),
    [("single-label", {}), ("regression", {}), ("token", {}), ("single-label", {"long": "chunks", "max_length": 8})],
)
def test_pieces_train_as_the_whole_batch_does(kind, train, make_stage, tmp_path, monkeypatch):
    start = torch.cat([p.detach().flatten() for p in make_stage(kind, **train).model.parameters()])
    whole, large, one = trained(make_stage(kind, **train), tmp_path / "whole")
    monkeypatch.setattr(examples, "PIECE", 60)
    cut, small, two = trained(make_stage(kind, **train), tmp_path / "cut")
    assert max(small) < 70 < max(large)  # the last chunk of a text is shorter, and padded
    assert len(small) > len(large) == 6
    # Adam turns a gradient near zero into a step of up to the rate, whatever its sign.
    assert (cut - whole).norm() < 0.02 * (whole - start).norm()
    for before, after in zip(one, two, strict=True):
        assert after == pytest.approx(before, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("kind", ["single-label", "regression", "token"])
def test_rows_without_a_label_leave_the_others_their_weight(kind, make_stage, tmp_path, monkeypatch):
    """A third of the rows has a label, and a piece may have many of these or none."""

    def stage():
        made = make_stage(
            kind, objective=OnLogits(distillation_loss(loss="mse", temperature=1.0, alpha=1.0, kind=kind))
        )
        ((split, _),) = made.learn
        made.learn = [(split.select(range(8)), True), (split.select(range(8, 24)), False)]
        return made

    start = torch.cat([p.detach().flatten() for p in stage().model.parameters()])
    whole, _, one = trained(stage(), tmp_path / "whole")
    monkeypatch.setattr(examples, "PIECE", 30)
    cut, small, two = trained(stage(), tmp_path / "cut")
    assert len(small) > 12
    assert (cut - whole).norm() < 0.02 * (whole - start).norm()
    for before, after in zip(one, two, strict=True):
        assert after == pytest.approx(before, rel=1e-3, abs=1e-3)


def test_only_what_adds_up_is_cut(make_stage, monkeypatch):
    monkeypatch.setattr(examples, "PIECE", 60)
    assert len(stage_examples(make_stage()).__getitems__(range(8))) > 1
    other = make_stage(objective=lambda model, batch: {})  # means over tokens, for all that is known
    assert len(stage_examples(other).__getitems__(range(8))) == 1
    recurrent = BilstmForSequenceClassification(BilstmConfig(vocab_size=60, width=4, hidden=4, projection=4))
    assert len(stage_examples(make_stage(model=recurrent)).__getitems__(range(8))) == 1

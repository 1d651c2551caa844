"""What is scored and kept is the running average of the weights, whether or not the run was cut off."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file
from settings import ADADELTA, distil_context, task_data
from torch import nn
from transformers import TrainerControl, TrainerState, TrainingArguments

from attar.config import TrainConfig
from attar.methods.bilstm_soft.config import BilstmSoft
from attar.methods.bilstm_soft.plan import plan
from attar.training import averaging
from attar.training.averaging import WeightAverage
from attar.training.loop import run_stage

SMALL = BilstmSoft(width=12, hidden=10, projection=14, vectors="random")


def average_of(average, model):
    with average.in_place():
        return model.weight.item()


def test_the_average_follows_its_formula_and_leaves_frozen_weights_out(tmp_path):
    model = nn.Linear(1, 1)
    model.bias.requires_grad_(False)
    model.weight.data.fill_(0.0)
    average = WeightAverage(model, 0.99)
    expected, decay, updates = 0.0, 0.99**averaging.EVERY, [*range(1, averaging.EVERY), 10, 20, 30, 40]
    for step in range(1, 41):
        model.weight.data.fill_(float(step))
        average.on_step_end(TrainingArguments(str(tmp_path)), TrainerState(global_step=step), TrainerControl())
        if step in updates:
            n = updates.index(step)
            kept = min(decay, n / (9 + n))
            expected = kept * expected + (1 - kept) * step
        if step == 1:
            assert average_of(average, model) == 1.0  # nothing is left of the weights before training
    model.bias.data.fill_(7.0)
    with average.in_place():
        assert (model.weight.item(), model.bias.item()) == (pytest.approx(expected), 7.0)
    assert model.weight.item() == 40.0
    assert 10 < expected < 40


def test_the_average_is_kept_and_a_resumed_run_ends_on_the_same(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(averaging, "EVERY", 1)
    train = dataclasses.replace(ADADELTA, epochs=4, batch_size=4, average=0.9)

    def stage():
        return plan(SMALL, distil_context(teacher, task_data(), train))[0]

    whole = stage()
    run_stage(whole, tmp_path / "whole", title="")
    folders = sorted((tmp_path / "whole").glob("checkpoint-*"))
    kept = {name: p.detach() for name, p in whole.model.named_parameters() if p.requires_grad}
    found = [load_file(folder / "average.safetensors") for folder in folders]
    assert any(all(torch.equal(one[name], kept[name]) for name in kept) for one in found)
    raw = [load_file(folder / "model.safetensors") for folder in folders]
    assert not any(torch.equal(one[name], kept[name]) for one in raw for name in kept if name in one)

    killed = stage()
    inner, calls = killed.objective.loss, []

    def dying(*args):
        calls.append(1)
        if len(calls) == 6:
            raise KeyError("killed")
        return inner(*args)

    killed.objective = dataclasses.replace(killed.objective, loss=dying)
    with pytest.raises(KeyError, match="killed"):
        run_stage(killed, tmp_path / "cut", title="")
    resumed = stage()
    run_stage(resumed, tmp_path / "cut", title="")
    for name, p in resumed.model.named_parameters():
        if name in kept:
            torch.testing.assert_close(p.detach(), kept[name], rtol=0, atol=1e-6, msg=name)


def test_a_decay_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="average expects a decay from 0 to below 1, found 1"):
        TrainConfig(average=1.0)

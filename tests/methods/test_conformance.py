"""What every method promises, tested the same way for all of them. A method without settings fails."""

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from settings import LABELS, SETTINGS, TASK, TEXTS, Settings, distil_context, task_data
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import attar
import attar.methods
from attar.bundle import merge_bundle, save_bundle
from attar.config import TrainConfig
from attar.errors import ConfigError, ModelError
from attar.methods.contract import Context
from attar.methods.registry import METHODS, plan_of
from attar.nets.scoring import model_inputs
from attar.recipe import config_of, recipe_table
from attar.training.evaluation import eval_split
from attar.training.examples import stage_examples
from attar.training.loop import run_stage
from attar.training.stage import Stage
from attar.training.trainer import StageTrainer


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


@pytest.fixture
def settings(method):
    assert method in SETTINGS, f"give {method} its settings in tests/methods/settings.py"
    return SETTINGS[method]


@pytest.fixture
def make_stage(method, settings, teacher, encoder):
    """Return a function that plans the method's last stage over the eight texts."""

    def make(train: TrainConfig = settings.train, config: object = settings.config) -> Stage:
        data = task_data()
        if METHODS[method].use == "finetune":
            context = Context(data=data, train=train, encoder=encoder)
        else:
            context = distil_context(teacher, data, train)
        *before, last = plan_of(config)(context)
        assert last.task == TASK
        assert not [stage for stage in before if stage.task is not None], "one stage learns the task"
        return last

    return make


def weights(stage: Stage) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in stage.model.state_dict().items()}


def without_dropout(stage: Stage) -> Stage:
    for module in stage.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return stage


def test_settings_name_no_method_that_is_gone():
    assert set(SETTINGS) == set(METHODS)


def test_exactly_the_promised_parameters_change(make_stage, settings: Settings, tmp_path):
    stage = make_stage()
    before = {name: p.detach().clone() for name, p in stage.model.named_parameters()}
    assert {name for name, p in stage.model.named_parameters() if not p.requires_grad} == settings.frozen
    run_stage(stage, tmp_path, title="")
    kept = {name for name, p in stage.model.named_parameters() if torch.equal(p, before[name])}
    assert kept == settings.frozen


def test_trainable_count_equals_its_formula(make_stage, settings: Settings):
    stage = make_stage()
    count = sum(p.numel() for p in stage.model.parameters() if p.requires_grad)
    assert count == settings.trainable(len(stage.tokenizer), TASK.n_outputs)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_eight_examples_can_be_overfit(make_stage, method, settings: Settings, tmp_path, precision):
    train = dataclasses.replace(settings.train, max_steps=settings.overfit_steps, batch_size=8, precision=precision)
    stage = without_dropout(make_stage(train))
    examples = stage_examples(stage)
    batch = examples.batch(list(range(len(TEXTS))))
    with torch.no_grad():
        first = stage.objective(stage.model.eval(), batch)["loss"].item()
        # A cross-entropy against the teacher is not zero where the student says what the teacher says.
        answers = SimpleNamespace(logits=batch.get("teacher_logits"))
        least = stage.objective(lambda **_: answers, batch)["loss"].item() if stage.teacher else 0.0
    result = run_stage(stage, tmp_path, title="")

    losses = [point["loss"] for point in result["curve"] if "loss" in point]
    assert losses[-1] - least < 0.1 * (first - least)
    if METHODS[method].use == "finetune":
        with torch.no_grad():
            answers = stage.model.eval()(**model_inputs(batch)).logits.argmax(-1)
        assert answers.tolist() == list(LABELS)


def test_the_same_seed_gives_the_same_weights_bit_for_bit_and_another_seed_others(make_stage, settings, tmp_path):
    runs = []
    for i, seed in enumerate((5, 5, 6)):
        stage = make_stage(dataclasses.replace(settings.train, epochs=2, seed=seed))
        run_stage(stage, tmp_path / str(i), title="")
        runs.append(weights(stage))
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    moving = [name for name, p in stage.model.named_parameters() if p.requires_grad]
    assert not any(torch.equal(runs[0][name], runs[2][name]) for name in moving if "LayerNorm" not in name)


def test_every_epoch_shows_every_row_once_in_another_order(make_stage, settings, tmp_path):
    stage = make_stage(dataclasses.replace(settings.train, cache_limit="0"))  # stored states would hide the ids
    inner, shown = stage.objective, []

    def watching(model, batch):
        real = [ids[mask.bool()] for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
        shown.extend(tuple(row.tolist()) for row in real)
        return inner(model, batch)

    stage.objective = watching
    run_stage(stage, tmp_path, title="")
    epochs = [shown[i : i + 8] for i in range(0, len(shown), 8)]
    assert len(epochs) == 4
    assert all(set(epoch) == set(epochs[0]) and len(set(epoch)) == 8 for epoch in epochs)
    assert len(set(map(tuple, epochs))) > 1


def test_dev_is_scored_without_dropout_while_training_keeps_it(make_stage):
    stage = make_stage()
    split = eval_split(stage.dev, stage.tokenizer, stage.train.max_length, TASK)
    expected = split.outputs(stage.model.eval(), "float32").logits
    found = split.outputs(stage.model.train(), "float32").logits
    assert np.array_equal(found, expected)
    assert stage.model.training


class Killed(Exception):
    """Stands for kill -9 in the middle of a step."""


def count_steps(monkeypatch, *, die_at=None):
    """Return a list that grows with every step of training; at one of them, raise."""
    inner, calls = StageTrainer.compute_loss, []

    def compute_loss(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == die_at:
            raise Killed
        return inner(self, *args, **kwargs)

    monkeypatch.setattr(StageTrainer, "compute_loss", compute_loss)
    return calls


# Two steps an epoch, four epochs: step 6 ends the third epoch, step 5 is in its middle.
@pytest.mark.parametrize(("save_every", "dying_step"), [(300.0, 6), (-1.0, 6)], ids=["epoch ends", "every step"])
def test_resume_equals_uninterrupted(make_stage, settings, tmp_path, monkeypatch, save_every, dying_step):
    has_dropout = [m.p for m in make_stage().model.modules() if isinstance(m, torch.nn.Dropout) and m.p > 0]
    assert has_dropout, "the state of the random numbers matters only with dropout"
    whole = make_stage()
    expected = run_stage(whole, tmp_path / "whole", title="")

    monkeypatch.setattr("attar.training.callbacks._SAVE_EVERY", save_every)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        count_steps(patch, die_at=dying_step)
        run_stage(make_stage(), tmp_path / "cut", title="")
    saved = {int(folder.name.split("-")[1]) for folder in (tmp_path / "cut").glob("checkpoint-*")}
    assert max(saved) == (4 if save_every > 0 else 5)

    monkeypatch.setattr("attar.training.callbacks._SAVE_EVERY", 300.0)
    resumed = make_stage()
    calls = count_steps(monkeypatch)
    found = run_stage(resumed, tmp_path / "cut", title="")

    assert len(calls) == 8 - max(saved)
    assert found["best"] == expected["best"]
    clock = [point["seconds"] for point in found["curve"]] + [found["seconds"]]
    assert clock == sorted(clock)  # the time before the kill counts
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(resumed)[name], value, rtol=0, atol=1e-6, msg=name)


def test_a_bundle_gives_equal_logits_however_it_is_loaded_padded_and_not(make_stage, method, settings, tmp_path):
    stage = make_stage(dataclasses.replace(settings.train, epochs=1))
    run_stage(stage, tmp_path / "work", title="")
    folder = tmp_path / "bundle"
    limit = stage.train.max_length
    save_bundle(folder, stage.model, stage.tokenizer, TASK, max_length=limit, precision="float32", delta=stage.delta)
    texts = list(TEXTS)
    before = [stage.model.eval()(**stage.tokenizer(text, return_tensors="pt")).logits for text in texts]
    before = torch.cat(before).detach()
    assert before.std(0).min() > 1e-4, "the texts must be told apart for the test to mean anything"

    through_attar = attar.load(str(folder))
    assert through_attar.task == TASK
    np.testing.assert_allclose(through_attar.logits(texts), before, atol=1e-5)
    alone = np.concatenate([through_attar.logits([text]) for text in texts])
    np.testing.assert_allclose(alone, before, atol=1e-5)

    plain = folder
    if stage.delta is not None:
        plain = tmp_path / "merged"
        if method == "adapters":
            with pytest.raises(ModelError, match="adapters cannot be merged"):
                merge_bundle(str(folder), str(plain))
            return
        merge_bundle(str(folder), str(plain))
    net = AutoModelForSequenceClassification.from_pretrained(plain).eval()
    tokenizer = AutoTokenizer.from_pretrained(plain)
    encoded = tokenizer(texts, padding="max_length", max_length=limit, return_tensors="pt")
    assert encoded["attention_mask"].shape == (8, limit)
    with torch.inference_mode():
        torch.testing.assert_close(net(**encoded).logits, before, rtol=0, atol=1e-5)
    assert net.config.id2label == TASK.id2label


def test_an_unknown_setting_is_refused_by_its_path_with_the_nearest_name(method, settings):
    table = {
        "command": METHODS[method].use,
        "out": "nowhere",
        "data": {"path": "nowhere.csv"},
        "method": {"name": method},
    }
    config = config_of(table)
    assert type(config.method) is type(settings.config)
    assert config_of(recipe_table(config)) == config
    with pytest.raises(ConfigError, match=r"unknown setting 'method\.nonsense'"):
        config_of({**table, "method": {"name": method, "nonsense": 1}})
    with pytest.raises(ConfigError, match=r"unknown setting 'train.epoch'.*'epochs'"):
        config_of({**table, "train": {"epoch": 1}})


def test_the_room_has_a_readme_that_puts_the_paper_beside_ours(method):
    readme = Path(attar.methods.__file__).parent / METHODS[method].room / "README.md"
    assert readme.exists(), f"the room of {method} has no README.md"
    sections = re.split(r"^#+ ", readme.read_text(), flags=re.MULTILINE)
    ours = [section for section in sections if re.match(r".*\bpaper\b.*\n", section, re.IGNORECASE)]
    assert ours, "expected a heading with the word Paper"
    rows = [line for line in ours[0].splitlines() if line.startswith("|")]
    assert len(rows) >= 3, "expected a table under it: head, rule, rows"
    assert re.search(r"ours", rows[0] + ours[0].splitlines()[0], re.IGNORECASE)

"""What all methods promise that tune a part of an encoder: what moves, what provably does not, and what that saves."""

import dataclasses
import logging
from contextlib import nullcontext

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from settings import TASK, TEXTS, TRAIN, task_data
from transformers import AutoModel

from attar.data.task import Task, TaskData
from attar.errors import ConfigError, ModelError
from attar.methods.adapters.config import Adapters
from attar.methods.bilstm_soft.config import BilstmSoft
from attar.methods.bitfit.config import BitFit
from attar.methods.contract import Context
from attar.methods.freezing.config import Freezing
from attar.methods.lora.config import Lora
from attar.methods.registry import METHODS, method_of, plan_of
from attar.nets.anatomy import anatomy
from attar.nets.deltas.extract import extract_delta
from attar.nets.parameters import check_frozen, count_moving, frozen_digests
from attar.nets.selection import head_names
from attar.training.examples import stage_examples
from attar.training.loop import run_stage
from attar.training.trainer import StageTrainer

CONFIGS = {
    "freezing": Freezing(layers=1),
    "head": Freezing(layers=0),
    "bitfit": BitFit(),
    "adapters": Adapters(bottleneck=4),
    "lora": Lora(rank=2),
}
ONE_STEP = dataclasses.replace(TRAIN, max_steps=1, batch_size=8)


@pytest.fixture(params=CONFIGS.values(), ids=list(CONFIGS))
def config(request):
    return request.param


def make_stage(config, encoder, train=ONE_STEP, data=None):
    return plan_of(config)(Context(data=data or task_data(), train=train, encoder=encoder))[0]


def loss_of(stage):
    examples = stage_examples(stage)
    return stage.objective(stage.model, examples.batch([0, 1, 2]))["loss"]


def data_of(kind) -> TaskData:
    """The eight texts as a task of a kind."""
    names = {"regression": ("score",), "token": ("O", "B-PER")}.get(kind, ("neg", "pos"))
    task = Task(kind=kind, text="text", label=("label",), labels=names)
    texts = [text.split() for text in TEXTS] if kind == "token" else list(TEXTS)
    labels = {
        "single-label": [i % 2 for i in range(8)],
        "multi-label": [[float(i % 2), float(i % 3 == 0)] for i in range(8)],
        "regression": [i / 8 for i in range(8)],
        "token": [[i % 2] * len(text.split()) for i, text in enumerate(TEXTS)],
    }[kind]
    rows = Dataset.from_dict({"text": texts, "label": labels})
    return TaskData(task=task, source="", fingerprint="0", train=rows, dev=rows, test=None, unlabelled=None)


def test_every_tuning_method_is_tried_here():
    rooms = {method_of(config).name for config in CONFIGS.values()}
    assert rooms == {m for m, entry in METHODS.items() if entry.use == "finetune"} - {"full"}


def test_every_family_trains_exactly_what_may_move(family, config, make_folder):
    encoder = make_folder("encoder", family=family, layers=2)
    if family == "modernbert" and isinstance(config, BitFit):
        with pytest.raises(ModelError, match=r"no biases.*use --method lora, adapters or freezing"):
            make_stage(config, encoder)
        return
    stage = make_stage(config, encoder)
    moving = {name for name, p in stage.model.named_parameters() if p.requires_grad}
    assert head_names(stage.model) <= moving < {name for name, _ in stage.model.named_parameters()}
    loss_of(stage).backward()
    assert {name for name, p in stage.model.named_parameters() if p.grad is not None} == moving


@pytest.mark.parametrize("kind", ["single-label", "multi-label", "regression", "token"])
def test_every_kind_of_task_trains_and_leaves_the_rest_alone(kind, config, encoder, tmp_path):
    stage = make_stage(config, encoder, data=data_of(kind))
    before = {name: p.detach().clone() for name, p in stage.model.named_parameters()}
    found = run_stage(stage, tmp_path, title="")
    changed = {name for name, p in stage.model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name, p in stage.model.named_parameters() if p.requires_grad}
    assert (found["moving"], found["parameters"]) == count_moving(stage.model)


@pytest.mark.parametrize(
    ("config", "first"),
    [
        (Freezing(layers=0), 3),
        (Freezing(layers=1), 2),
        (Freezing(layers=3), 0),
        (Freezing(layers=3, embeddings=True), None),
        (BitFit(), None),
        (BitFit(biases=("query",)), 0),
        (Adapters(bottleneck=4), None),
        (Adapters(bottleneck=4, norms=False), 0),
        (Adapters(bottleneck=4, drop_first=2), 2),
        (Lora(rank=2), 0),
    ],
    ids=str,
)
def test_the_graph_ends_below_the_lowest_moving_parameter(config, first, make_folder):
    """``first``: the lowest layer whose output needs a gradient; None where the embeddings' does."""
    stage = make_stage(config, make_folder("encoder", family="bert", layers=3))
    parts, needs = anatomy(stage.model), []
    for module in [parts.embeddings, *parts.layers]:
        module.register_forward_hook(
            lambda m, args, out: needs.append((out[0] if isinstance(out, tuple) else out).requires_grad)
        )
    loss_of(stage)
    lowest = 0 if first is None else first + 1
    assert needs == [False] * lowest + [True] * (4 - lowest)


def test_the_optimizer_holds_nothing_for_frozen_tensors(config, encoder, tmp_path, monkeypatch):
    trainers, train = [], StageTrainer.train
    monkeypatch.setattr(StageTrainer, "train", lambda self, **k: (trainers.append(self), train(self, **k))[1])
    stage = make_stage(config, encoder)
    run_stage(stage, tmp_path, title="")
    (trainer,) = trainers
    held = [p for group in trainer.optimizer.param_groups for p in group["params"]]
    assert sum(p.numel() for p in held) == count_moving(stage.model)[0]
    states = [v for state in trainer.optimizer.state.values() for v in state.values() if v.dim()]
    assert sum(v.numel() for v in states) == 2 * count_moving(stage.model)[0]


def test_a_checkpoint_holds_what_moves_and_nothing_else(config, encoder, tmp_path):
    stage = make_stage(config, encoder)
    run_stage(stage, tmp_path, title="")
    (file,) = tmp_path.glob("checkpoint-*/model.safetensors")
    assert load_file(file).keys() == {name for name, p in stage.model.named_parameters() if p.requires_grad}


def test_the_last_map_of_the_head_has_a_rate_of_its_own(family, make_folder, tmp_path, monkeypatch):
    trainers, train = [], StageTrainer.train
    monkeypatch.setattr(StageTrainer, "train", lambda self, **k: (trainers.append(self), train(self, **k))[1])
    folder = make_folder("encoder", family=family, layers=2)
    train_config = dataclasses.replace(ONE_STEP, lr=1e-4, head_lr_factor=30, weight_decay=0.1)
    stage = make_stage(Freezing(layers=1), folder, train_config)
    run_stage(stage, tmp_path / "run", title="")
    names = {id(p): name for name, p in stage.model.named_parameters()}
    groups = trainers[0].optimizer.param_groups
    # A constant schedule: the rates are those that were set.
    fast = {names[id(p)]: group for group in groups if group["lr"] == 3e-3 for p in group["params"]}
    slow = {names[id(p)]: group for group in groups if group["lr"] == 1e-4 for p in group["params"]}
    shapes = {name: p.shape[0] for name, p in stage.model.named_parameters() if name in fast}
    assert set(shapes.values()) == {2}, "the map to the two labels, and nothing else"
    assert {name.rpartition(".")[2]: group["weight_decay"] for name, group in fast.items()} == {
        "weight": 0.1,
        "bias": 0,
    }
    assert fast.keys() | slow.keys() == {name for name, p in stage.model.named_parameters() if p.requires_grad}


def test_a_rate_for_the_head_needs_a_head(tmp_path):
    config, train = BilstmSoft(vectors="random"), dataclasses.replace(ONE_STEP, head_lr_factor=10)
    (stage,) = plan_of(config)(Context(data=task_data(), train=train))
    with pytest.raises(ConfigError, match=r"train\.head_lr_factor: BilstmForSequenceClassification has no head beside"):
        run_stage(stage, tmp_path, title="")


def test_no_bias_or_norm_is_decayed(encoder, tmp_path, monkeypatch):
    trainers, train = [], StageTrainer.train
    monkeypatch.setattr(StageTrainer, "train", lambda self, **k: (trainers.append(self), train(self, **k))[1])
    stage = make_stage(BitFit(), encoder)
    run_stage(stage, tmp_path, title="")
    names = {id(p): name for name, p in stage.model.named_parameters()}
    groups = trainers[0].optimizer.param_groups
    assert {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]} == {"classifier.weight"}


def test_what_the_checkpoint_lacked_moves_whatever_the_method_says(config, tmp_path, make_folder):
    folder = make_folder("encoder", family="bert", layers=2)
    AutoModel.from_pretrained(folder, add_pooling_layer=False).save_pretrained(tmp_path / "bare")
    bare = str(tmp_path / "bare")
    make_stage(Freezing(layers=0), folder).tokenizer.save_pretrained(bare)
    moving = {name for name, p in make_stage(config, bare).model.named_parameters() if p.requires_grad}
    assert {"bert.pooler.dense.weight", "bert.pooler.dense.bias"} <= moving


def test_a_delta_holds_what_moved_and_nothing_else(config, encoder, tmp_path):
    stage = make_stage(config, encoder)
    run_stage(stage, tmp_path, title="")
    delta = extract_delta(stage.model, stage.delta, TASK.kind, TASK.labels)
    moving = {name: p for name, p in stage.model.named_parameters() if p.requires_grad}
    assert sum(tensor.numel() for tensor in delta.tensors.values()) == sum(p.numel() for p in moving.values())
    if stage.delta.method != "lora":  # whose tensors have peft's names
        assert delta.tensors.keys() == moving.keys()
        assert all(torch.equal(tensor, moving[name]) for name, tensor in delta.tensors.items())


def test_a_frozen_tensor_that_moves_is_an_error_that_names_it(encoder, tmp_path):
    stage = make_stage(Freezing(layers=1), encoder)
    inner, place = stage.objective, anatomy(stage.model).embeddings.word_embeddings.weight

    def meddling(model, batch):
        with torch.no_grad():
            place[3, 0] += 1e-6
        return inner(model, batch)

    stage.objective = meddling
    with pytest.raises(ModelError, match=r"bert.embeddings.word_embeddings.weight was frozen"):
        run_stage(stage, tmp_path, title="")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_digests_see_a_single_bit_and_only_frozen_tensors(dtype):
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2)).to(dtype)
    net[0].requires_grad_(False)
    before = frozen_digests(net)
    assert set(before) == {"0.weight", "0.bias"}
    with torch.no_grad():
        net[1].weight.add_(1)
    check_frozen(net, before)
    with torch.no_grad():
        net[0].bias[1] = -net[0].bias[1]
    with pytest.raises(ModelError, match=r"0\.bias was frozen"):
        check_frozen(net, before)


@pytest.mark.parametrize(
    "settings",
    [*CONFIGS.values(), Lora(rank=2, kind="dora"), Lora(rank=2, kind="shira")],
    ids=[*CONFIGS, "dora", "shira"],
)
def test_bfloat16_trains_as_autocast_does_with_frozen_matrices_held_in_it(settings, encoder, tmp_path, monkeypatch):
    found, kinds = [], []
    for held in (True, False):
        if not held:
            monkeypatch.setattr("attar.training.loop.frozen_in_bfloat16", lambda stage: nullcontext())
        train = dataclasses.replace(TRAIN, epochs=2, batch_size=4, lr=1e-2, precision="bfloat16", cache_limit="0")
        stage = make_stage(settings, encoder, train)
        inner, seen = stage.objective, set()

        def watching(model, batch, inner=inner, seen=seen):
            seen |= {
                p.dtype
                for n, p in model.named_parameters()
                if "attention.output.dense.weight" in n and not p.requires_grad
            }
            return inner(model, batch)

        stage.objective = watching
        run_stage(stage, tmp_path / str(held), title="")
        found.append(stage.model.state_dict())
        kinds.append(seen)
    assert kinds == [{torch.bfloat16}, {torch.float32}]
    assert {t.dtype for t in found[0].values()} == {t.dtype for t in found[1].values()}
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[1])


def test_a_matrix_that_moves_while_held_in_bfloat16_is_found(encoder, tmp_path):
    stage = make_stage(BitFit(), encoder, dataclasses.replace(ONE_STEP, precision="bfloat16"))
    inner, place = stage.objective, anatomy(stage.model).layers[0].attention.self.key.weight

    def meddling(model, batch):
        with torch.no_grad():
            place[3, 0] += 1
        return inner(model, batch)

    stage.objective = meddling
    with pytest.raises(ModelError, match=r"key.weight was frozen"):
        run_stage(stage, tmp_path, title="")


def test_a_line_before_training_says_what_moves(encoder, tmp_path, caplog):
    stage = make_stage(BitFit(biases=("query",)), encoder)
    moving, total = count_moving(stage.model)
    with caplog.at_level(logging.INFO, logger="attar"):
        run_stage(stage, tmp_path, title="")
    assert f"bitfit: {moving:,} of {total:,} parameters, {100 * moving / total:.2f} %" in caplog.messages


def test_the_task_is_the_datas(config, encoder):
    assert make_stage(config, encoder).task == TASK

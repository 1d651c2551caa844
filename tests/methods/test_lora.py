"""LoRA, DoRA, IA3 and SHiRA: peft's layers at the right places, and nothing else."""

import sys

import pytest
import torch
from settings import TRAIN, task_data
from transformers import AutoModel, AutoModelForSequenceClassification, BertConfig

from attar.config import to_table
from attar.errors import ConfigError, MissingExtra
from attar.methods.contract import Context
from attar.methods.lora.config import Lora, train_of
from attar.methods.lora.plan import plan
from attar.nets.anatomy import anatomy
from attar.nets.deltas.lora import insert_peft, module_names, peft_settings

TOKENS = {"input_ids": torch.tensor([[2, 7, 9, 11, 3]]), "attention_mask": torch.ones(1, 5, dtype=torch.long)}
KINDS = ("lora", "dora", "ia3", "shira")


def insert(model, **settings):
    insert_peft(model, **peft_settings(model, **settings))
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def hidden(model):
    with torch.no_grad():
        return model(**TOKENS).last_hidden_state


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"kind": "lora", "rank": 8}, 12 * 2 * 8 * (768 + 768)),
        ({"kind": "lora", "rank": 2, "targets": ("feed_forward_in",)}, 12 * 2 * (768 + 3072)),
        ({"kind": "dora", "rank": 8}, 12 * 2 * (8 * (768 + 768) + 768)),
        ({"kind": "ia3"}, 12 * (768 + 768 + 3072)),
    ],
)
def test_counts_on_bert_base_are_the_formulas(settings, count):
    with torch.device("meta"):
        moving = insert(AutoModel.from_config(BertConfig()), **settings)
    assert sum(p.numel() for p in moving.values()) == count


@pytest.mark.parametrize("kind", KINDS)
def test_every_family_gets_a_layer_at_each_target_and_starts_as_the_base_model(family, make_model, kind):
    model = make_model(family)
    base, parts = hidden(model), anatomy(model)
    fused = parts.paths.fused
    moving = insert(model, kind=kind, rank=2)
    torch.testing.assert_close(hidden(model), base, rtol=0, atol=1e-5)
    assert all(any(mark in name for mark in ("lora_", "ia3_", "shira_")) for name in moving)
    tensors = {"lora": 2, "dora": 3, "ia3": 1, "shira": 1}[kind]
    places = {
        "lora": 1 if fused else 2,
        "dora": 1 if fused else 2,
        "ia3": 2 if fused else 3,
        "shira": 2 if fused else 4,
    }[kind]
    assert len(moving) == 2 * places * tensors
    with torch.no_grad():
        for parameter in moving.values():
            parameter.add_(0.3)
    assert not torch.allclose(hidden(model), base, atol=1e-3)


def test_shira_adds_numbers_to_few_weights_at_the_same_places_every_time(make_model):
    found = []
    for _ in range(2):
        model = make_model("bert")
        before = model.state_dict()["encoder.layer.1.attention.self.key.weight"].clone()
        moving = insert(model, kind="shira", rank=2)
        for parameter in moving.values():
            torch.nn.init.ones_(parameter)
        place = anatomy(model).part(1, "key")
        place.merge(safe_merge=True)
        found.append(place.get_base_layer().weight - before)
    assert sum(p.numel() for p in moving.values()) == 2 * 2 * (3 * (32 + 32) + 32 + 48)
    assert found[0].count_nonzero() == 2 * (32 + 32)
    assert torch.equal(found[0], found[1])


def test_lora_is_its_formula(make_model):
    model = make_model("bert", layers=1)
    weight, bias = (p.detach().clone() for p in anatomy(model).part(0, "query").parameters())
    moving = list(insert(model, rank=3, alpha=6.0, targets=("query",)).values())
    down, up = (torch.nn.init.normal_(p) for p in moving)
    x = torch.randn(4, 32)
    torch.testing.assert_close(anatomy(model).part(0, "query")(x), x @ (weight + 6 / 3 * up @ down).T + bias)


def test_a_target_is_found_once_a_layer_and_no_namesake_with_it(make_model):
    names = module_names(make_model("bert"), ("feed_forward_out",))
    assert names == ["encoder.layer.0.output.dense", "encoder.layer.1.output.dense"]
    model = make_model("bert")
    inside = {name for name in insert(model, targets=("feed_forward_out",)) if "lora_A" in name}
    assert inside == {f"{name}.lora_A.default.weight" for name in names}
    fused = module_names(make_model("modernbert"), ("query", "key", "value"))
    assert fused == ["layers.0.attn.Wqkv", "layers.1.attn.Wqkv"]


def test_unknown_targets_and_settings_out_of_range_are_refused(make_model):
    with pytest.raises(ConfigError, match="unknown target 'querry'; did you mean 'query'"):
        peft_settings(make_model("bert"), targets=("querry",))
    with pytest.raises(ConfigError, match="lora, dora, ia3 or shira; found 'loha'"):
        peft_settings(make_model("bert"), kind="loha")
    with pytest.raises(ValueError, match="rank of 1 or more"):
        Lora(rank=0)


def test_without_peft_the_extra_is_named(make_model, monkeypatch):
    model = make_model("bert")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtra, match=r"pip install 'attar\[peft\]'"):
        insert(model)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stage_says_how_its_layers_are_made_again(encoder, kind):
    config = Lora(kind=kind, rank=2)
    stage = plan(config, Context(data=task_data(), train=TRAIN, encoder=encoder))[0]
    assert stage.name == kind
    assert stage.delta.method == "lora"
    assert stage.delta.settings == to_table(config)
    settings = {name: value for name, value in stage.delta.insertion.items() if name != "kind"}
    again = AutoModelForSequenceClassification.from_pretrained(encoder)
    insert_peft(again, **settings)
    inserted = {name for name, p in again.named_parameters() if p.requires_grad}
    moving = {name for name, p in stage.model.named_parameters() if p.requires_grad}
    assert moving == inserted | {"classifier.weight", "classifier.bias"}


def test_scales_want_a_larger_rate_than_low_rank_updates():
    assert train_of(Lora(kind="ia3")).lr > train_of(Lora()).lr == train_of(Lora(kind="dora")).lr

"""Training the top of an encoder as Lee et al. 2019 describe it."""

import pytest
import torch
from settings import TRAIN, task_data
from transformers import AutoModelForSequenceClassification, BertConfig

from attar.errors import ConfigError
from attar.methods.contract import Context
from attar.methods.freezing.config import Freezing, Full
from attar.methods.freezing.plan import plan
from attar.nets.anatomy import anatomy
from attar.nets.selection import head_names, top_names
from attar.recipe import config_of, recipe_table


def bert(**shape):
    with torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(BertConfig(**shape))


def moving(stage):
    return {name for name, p in stage.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("shape", "layers", "share"),
    [
        ({}, 3, 19.4),
        ({"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}, 6, 22.6),
    ],
)
def test_a_fourth_of_the_layers_is_the_published_share_of_the_body(shape, layers, share):
    model = bert(**shape)
    top = top_names(model, layers) - top_names(model, 0)
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    body = sum(n for name, n in sizes.items() if name not in head_names(model))
    assert round(100 * sum(sizes[name] for name in top) / body, 1) == share
    assert {name.partition(".layer.")[2].partition(".")[0] for name in top} == {
        str(i) for i in range(model.config.num_hidden_layers - layers, model.config.num_hidden_layers)
    }


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_the_bottom_is_everything_that_the_top_layers_do_not_own(family, make_model, layers):
    model = make_model(family, kind="single-label", layers=3)
    names, parts = top_names(model, layers), anatomy(model)
    chosen = {id(p) for name, p in model.named_parameters() if name in names}
    own = {id(p) for module in [*parts.layers[3 - layers :], *parts.top] for p in module.parameters()}
    assert chosen == own
    assert not {id(p) for p in parts.embeddings.parameters()} & chosen
    shared = ("relative_attention_bias", "rel_embeddings", "encoder.LayerNorm", "conv.conv", "embeddings_project")
    assert not [name for name in names if any(part in name for part in shared)]
    assert not names & head_names(model)


def test_all_layers_keep_the_embeddings_frozen_unless_told_otherwise(family, make_model):
    model = make_model(family, kind="single-label", layers=2)
    base = {name for name, _ in model.named_parameters()} - head_names(model)
    assert top_names(model, 2) < base
    assert top_names(model, 2, embeddings=True) == base
    with pytest.raises(ConfigError, match=r"embeddings can move only with all 2 layers.*found layers = 1"):
        top_names(model, 1, embeddings=True)


@pytest.mark.parametrize("layers", [3, 99])
def test_more_layers_than_there_are_is_refused(make_model, layers):
    with pytest.raises(ConfigError, match=f"0 to 2, the layers of BertModel; found {layers}"):
        top_names(make_model("bert", layers=2), layers)


def test_no_layers_train_the_head_and_the_pooler_alone(encoder):
    stage = plan(Freezing(layers=0), Context(data=task_data(), train=TRAIN, encoder=encoder))[0]
    assert {name.rpartition(".")[0] for name in moving(stage)} == {"classifier", "bert.pooler.dense"}
    assert stage.delta.settings == {"layers": 0, "embeddings": False}


def test_full_moves_everything_and_leaves_a_whole_model(encoder):
    stage = plan(Full(), Context(data=task_data(), train=TRAIN, encoder=encoder))[0]
    assert moving(stage) == {name for name, _ in stage.model.named_parameters()}
    assert stage.delta is None


def test_the_fewer_weights_move_the_larger_the_rate_and_a_given_one_wins():
    def table(train=None, **method):
        return {"command": "finetune", "out": "o", "data": {"path": "p"}, "method": method, "train": train or {}}

    full, top, head = (
        config_of(table(**m))
        for m in ({"name": "full"}, {"name": "freezing", "layers": 2}, {"name": "freezing", "layers": 0})
    )
    assert full.train.lr < top.train.lr < head.train.lr
    assert head.train.lr >= 10 * top.train.lr
    assert config_of(table(name="freezing", layers=0, train={"lr": 5e-4})).train.lr == 5e-4
    assert config_of(recipe_table(head)) == head


def test_a_negative_number_of_layers_is_refused():
    with pytest.raises(ValueError, match=r"layers expects 0 .head only. or more, found -1"):
        Freezing(layers=-1)

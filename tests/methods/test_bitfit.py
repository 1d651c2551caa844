"""BitFit as Ben-Zaken et al. 2022 and their released code have it."""

import pytest
import torch
from settings import TRAIN, task_data
from transformers import AutoModelForSequenceClassification, BertConfig

from attar.errors import ConfigError, ModelError
from attar.methods.bitfit.config import TRAIN as RATES
from attar.methods.bitfit.config import BitFit
from attar.methods.bitfit.plan import plan
from attar.methods.contract import Context
from attar.methods.freezing.config import TRAIN as FULL_RATES
from attar.nets.parameters import count_moving, moving_line
from attar.nets.selection import BIASES, bias_names, head_names, train_only

SHAPES = {
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
}


@pytest.fixture(scope="module")
def bert():
    """BERT for sequence classification in its published sizes, without memory."""

    def make(shape="base"):
        with torch.device("meta"):
            return AutoModelForSequenceClassification.from_config(BertConfig(**SHAPES[shape]))

    return make


def size(model, names):
    return sum(p.numel() for name, p in model.named_parameters() if name in names)


@pytest.mark.parametrize(
    ("shape", "kinds", "count", "share"),
    [
        ("base", (), 102_912, 0.09),
        ("large", (), 272_384, 0.08),
        ("base", ("query", "intermediate"), 46_080 + 768, 0.04),
        ("base", ("intermediate",), 36_864 + 768, 0.03),
        ("base", ("query",), 9_216 + 768, 0.01),
        ("base", ("output",), 2 * 9_216 + 768, 0.02),
        ("base", tuple(BIASES), 102_912 - 768, 0.09),  # all of them but the embeddings' LayerNorm
    ],
)
def test_counts_are_the_papers(bert, shape, kinds, count, share):
    model = bert(shape)
    assert size(model, bias_names(model, kinds)) == count
    body = size(model, {name for name, _ in model.named_parameters()} - head_names(model))
    assert round(100 * count / body, 2) == share


def test_the_line_says_what_moves(bert):
    model = bert()
    train_only(model, head_names(model) | bias_names(model))
    line = moving_line("bitfit", *count_moving(model))
    assert line == "bitfit: 104,450 of 109,483,778 parameters, 0.10 %"


def test_only_bias_vectors_and_the_head_move_in_every_family(family, make_model):
    model = make_model(family, kind="single-label")
    if family == "modernbert":
        with pytest.raises(ModelError, match=r"ModernBertForSequenceClassification have no biases.*lora, adapters or"):
            bias_names(model)
        return
    names = bias_names(model)
    base = {name for name, _ in model.named_parameters()} - head_names(model)
    assert names == {name for name in base if name.endswith(".bias")}
    assert all(p.dim() == 1 for name, p in model.named_parameters() if name in names)
    subset = bias_names(model, ("query", "intermediate"))
    assert len(subset) == 2 * 2 + len([name for name in base if name.endswith("pooler.dense.bias")])
    assert subset <= names


def test_biases_that_are_one_vector_for_three_are_refused(make_model):
    model = make_model("modernbert", kind="single-label", attention_bias=True)
    assert bias_names(model, ("output",))
    assert len(bias_names(model)) == 2 * 2
    with pytest.raises(ModelError, match="one bias for queries, keys and values"):
        bias_names(model, ("query",))
    with pytest.raises(ModelError, match="have no intermediate bias; leave 'intermediate' out"):
        bias_names(model, ("intermediate",))


def test_an_unknown_bias_is_refused_with_the_nearest_name(make_model):
    with pytest.raises(ConfigError, match="unknown bias 'querry'; did you mean 'query'"):
        bias_names(make_model("bert", kind="single-label"), ("querry",))


def test_the_rate_is_an_order_of_magnitude_above_full_fine_tuning_or_more():
    assert RATES.lr >= 10 * FULL_RATES.lr


def test_a_stage_names_what_it_trains(encoder):
    config = BitFit(biases=("query", "intermediate"))
    stage = plan(config, Context(data=task_data(), train=TRAIN, encoder=encoder))[0]
    moving = {name.rsplit(".", 2)[-2] for name, p in stage.model.named_parameters() if p.requires_grad}
    assert moving == {"query", "dense", "classifier"}
    assert stage.delta.method == "bitfit"
    assert stage.delta.settings == {"biases": ["query", "intermediate"]}
    assert stage.delta.insertion is None

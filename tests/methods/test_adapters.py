"""Adapters as Houlsby et al. 2019 describe them: the lines of a faithful implementation, one by one."""

import copy

import pytest
import torch
from reference.adapters import adapted_layer
from settings import TRAIN, task_data
from transformers import AutoModel, BertConfig

from attar.errors import ConfigError, ModelError
from attar.methods.adapters.config import Adapters
from attar.methods.adapters.plan import plan
from attar.methods.contract import Context
from attar.nets.anatomy import anatomy
from attar.nets.deltas.adapters import Adapter, adapter_names, insert_adapters, remove_adapters
from attar.nets.selection import norm_names

BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
TOKENS = {"input_ids": torch.tensor([[2, 7, 9, 11, 3]]), "attention_mask": torch.ones(1, 5, dtype=torch.long)}


def hidden(model):
    with torch.no_grad():
        return model.base_model(**TOKENS).last_hidden_state


def adapters_of(model):
    return [module for module in model.modules() if isinstance(module, Adapter)]


def size(model, names):
    return sum(p.numel() for name, p in model.named_parameters() if name in names)


@pytest.mark.parametrize(
    ("shape", "bottleneck", "count", "norms"),
    [
        (BASE, 64, 2_379_264, 38_400),
        (BASE, 8, 313_536, 38_400),
        (BASE, 256, 9_461_760, 38_400),
        (LARGE, 64, 6_343_680, 100_352),
    ],
)
def test_counts_are_the_papers(shape, bottleneck, count, norms):
    with torch.device("meta"):
        model = AutoModel.from_config(BertConfig(**shape))
        body = model.num_parameters()
        insert_adapters(model, bottleneck=bottleneck)
    assert size(model, adapter_names(model)) == count
    assert size(model, norm_names(model)) == norms
    assert len(adapters_of(model)) == 2 * shape["num_hidden_layers"]
    shares = {(768, 64): 2.21, (1024, 64): 1.92}
    if (shape["hidden_size"], bottleneck) in shares:
        assert round(100 * (count + norms) / body, 2) == shares[shape["hidden_size"], bottleneck]


def test_a_layer_equals_an_independent_slow_reference_of_the_formulas(make_model):
    model = make_model("bert", layers=1, hidden_act="gelu")
    insert_adapters(model, bottleneck=6, init_std=0.3)
    with torch.no_grad():
        for adapter in adapters_of(model):
            adapter.down.bias.normal_()
            adapter.up.bias.normal_()
        rows = model.embeddings(input_ids=TOKENS["input_ids"])[0]
    parts = anatomy(model)

    def weights(linear):
        return linear.weight.double().tolist(), linear.bias.double().tolist()

    names = ("query", "key", "value", "attention_out", "attention_norm", "feed_forward_in")
    layer = {name: weights(parts.part(0, name)) for name in (*names, "feed_forward_out", "output_norm")}
    for i, place in enumerate(("attention_end", "feed_forward_end")):
        adapter = parts.part(0, place).adapter
        layer[f"adapter_{i + 1}"] = weights(adapter.down), weights(adapter.up)
    expected = torch.tensor(adapted_layer(rows.double().tolist(), layer, parts.heads)).float()
    torch.testing.assert_close(hidden(model)[0], expected, rtol=0, atol=1e-5)


def test_zeroed_up_weights_give_the_base_model_exactly_and_fresh_ones_nearly(family, make_model):
    model = make_model(family)
    base = hidden(model)
    insert_adapters(model, bottleneck=8, init_std=1e-2)
    fresh = hidden(model)
    assert not torch.equal(fresh, base)
    torch.testing.assert_close(fresh, base, rtol=0, atol=1e-2)
    with torch.no_grad():
        for adapter in adapters_of(model):
            adapter.up.weight.zero_()
    assert torch.equal(hidden(model), base)


def test_the_skip_path_passes_beside_both_adapters(make_model):
    model = make_model("bert", layers=1)
    insert_adapters(model, bottleneck=4, init_std=0.5)
    parts, seen = anatomy(model), {}
    for name in ("attention_out", "feed_forward_out"):  # both sub-layers give zero, so all that is left is the skip
        torch.nn.init.zeros_(parts.part(0, name).weight)
        torch.nn.init.zeros_(parts.part(0, name).bias)
    for end in ("attention_end", "feed_forward_end"):
        torch.nn.init.normal_(parts.part(0, end).adapter.up.bias)
    for norm in ("attention_norm", "output_norm"):
        parts.part(0, norm).register_forward_pre_hook(lambda _, args, norm=norm: seen.update({norm: args[0]}))
    parts.part(0, "attention_norm").register_forward_hook(lambda _, args, out: seen.update(h1=out))
    parts.embeddings.register_forward_hook(lambda _, args, out: seen.update(x=out))
    hidden(model)
    zero = torch.zeros(parts.width)
    first, second = (parts.part(0, end).adapter(zero) for end in ("attention_end", "feed_forward_end"))
    torch.testing.assert_close(seen["attention_norm"], seen["x"] + first, rtol=0, atol=1e-6)
    torch.testing.assert_close(seen["output_norm"], seen["h1"] + second, rtol=0, atol=1e-6)


def test_initial_weights_are_a_gaussian_cut_off_at_two_standard_deviations_and_biases_zero():
    torch.manual_seed(0)
    adapter = Adapter(256, bottleneck=64, init_std=1e-2)
    for linear in (adapter.down, adapter.up):
        assert linear.weight.abs().max() <= 2e-2
        assert linear.weight.abs().max() > 1.9e-2
        assert abs(linear.weight.mean()) < 5e-4
        # A Gaussian cut off at two of its standard deviations has 0.8796 of its spread.
        assert linear.weight.std().item() == pytest.approx(0.8796e-2, rel=0.02)
        assert not linear.bias.any()
    assert sum(p.numel() for p in adapter.parameters()) == 2 * 256 * 64 + 256 + 64


def test_pfeiffer_adapts_the_feed_forward_alone_and_dropped_layers_not_at_all(family, make_model):
    model = make_model(family, layers=3)
    base = dict(model.named_parameters())
    insert_adapters(model, bottleneck=4, placement="pfeiffer", drop_first=2)
    assert base.keys() == {name for name, _ in model.named_parameters()} - adapter_names(model)
    parts = anatomy(model)
    inside = [hasattr(parts.part(i, "feed_forward_end"), "adapter") for i in range(3)]
    assert inside == [False, False, True]
    assert len(adapters_of(model)) == 1
    assert len(adapter_names(model)) == 4


def test_removal_leaves_the_encoder_as_it_was(family, make_model):
    model = make_model(family)
    base, state = hidden(model), copy.deepcopy(model.state_dict())
    insert_adapters(model, bottleneck=4, init_std=0.5)
    adapted = hidden(model)
    twin = copy.deepcopy(model)
    remove_adapters(model)
    assert torch.equal(hidden(model), base)
    assert torch.equal(hidden(twin), adapted), "a copy keeps its own adapters"
    assert model.state_dict().keys() == state.keys()
    assert not [m for m in model.modules() if m._forward_hooks and not isinstance(m, type(model))]


def test_a_second_set_and_settings_out_of_range_are_refused(make_model):
    model = make_model("bert")
    with pytest.raises(ConfigError, match="drop_first expects 0 to 1"):
        insert_adapters(model, drop_first=2)
    with pytest.raises(ConfigError, match=r"found 'houlsbi'; did you mean 'houlsby'"):
        insert_adapters(model, placement="houlsbi")
    with pytest.raises(ConfigError, match=r"gelu.*found 'swiglu'"):
        insert_adapters(model, activation="swiglu")
    assert not adapter_names(model)
    insert_adapters(model, bottleneck=2)
    with pytest.raises(ModelError, match="already has adapters"):
        insert_adapters(model, bottleneck=2)
    with pytest.raises(ValueError, match="bottleneck expects a width of 1 or more, found 0"):
        Adapters(bottleneck=0)
    with pytest.raises(ValueError, match="drop_first"):
        Adapters(drop_first=-1)


@pytest.mark.parametrize(
    ("config", "norms"),
    [(Adapters(bottleneck=3), 9), (Adapters(bottleneck=3, norms=False), 0), (Adapters(bottleneck=3, drop_first=3), 2)],
    ids=["all", "without", "dropped"],
)
def test_norms_move_where_adapters_are_and_the_pooler_never(encoder, config, norms):
    stage = plan(config, Context(data=task_data(), train=TRAIN, encoder=encoder))[0]
    moving = {name for name, p in stage.model.named_parameters() if p.requires_grad}
    assert len([name for name in moving if name.endswith("LayerNorm.weight")]) == norms
    assert len([name for name in moving if name.endswith("LayerNorm.bias")]) == norms
    assert not [name for name in moving if "pooler" in name]
    assert stage.delta.insertion["kind"] == "adapters"

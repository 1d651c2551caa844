"""Taps against what eager attention gives, for every family."""

import gc
import weakref

import pytest
import torch
import transformers
from torch import nn
from transformers import AutoModelForMaskedLM, CamembertConfig

from attar.errors import ModelError
from attar.nets.anatomy import LayerPaths, anatomy
from attar.nets.taps import taps

LAYERS = 3
ALL = {"hidden": range(LAYERS), "scores": range(LAYERS), "relations": range(LAYERS)}


def inputs(padded=True):
    """Three texts of 9, 6 and 3 tokens, or all of 9."""
    ids = torch.randint(5, 60, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(3, 9, dtype=torch.long)
    if padded:
        mask[1, 6:] = mask[2, 3:] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


def tapped(model, batch, **wanted):
    with taps(model, **(wanted or ALL)) as seen:
        output = model(**batch)
        return seen.read(), output


def eager(model):
    model.set_attn_implementation("eager")
    return model


def probabilities(scores, batch, window=None):
    """Softmax over what may be attended to; ModernBERT's local layers see ``window`` places to each side."""
    place = torch.arange(scores.shape[-1])
    allowed = batch["attention_mask"].bool()[:, None, None, :].expand_as(scores)
    if window is not None:
        allowed = allowed & ((place[:, None] - place[None]).abs() <= window)
    return scores.masked_fill(~allowed, float("-inf")).softmax(-1)


def at_real(states, batch):
    """Rows of real tokens of (B, T, ...) or, for heads, of (B, H, T, ...)."""
    return states[batch["attention_mask"].bool()]


@pytest.mark.parametrize("padded", [True, False])
def test_states_and_scores_are_those_of_eager_attention(make_model, family, padded):
    batch = inputs(padded)
    model, reference = make_model(family, layers=LAYERS), eager(make_model(family, layers=LAYERS))
    kernel = model.config._attn_implementation
    with torch.no_grad():
        found, _ = tapped(model, batch)
        expected = reference(**batch, output_hidden_states=True, output_attentions=True)
    assert model.config._attn_implementation == kernel, "the attention kernel must stay as it was"

    torch.testing.assert_close(at_real(found.embeddings, batch), at_real(expected.hidden_states[0], batch))
    for i in range(LAYERS):
        own = found.hidden[i]
        if family == "modernbert" and i == LAYERS - 1:
            own = model.final_norm(own)
        torch.testing.assert_close(
            at_real(own, batch), at_real(expected.hidden_states[i + 1], batch), rtol=0, atol=1e-5
        )
        local = family == "modernbert" and model.config.layer_types[i] == "sliding_attention"
        mine = probabilities(found.scores[i], batch, model.config.sliding_window if local else None)
        rows, theirs = (at_real(p.transpose(1, 2), batch) for p in (mine, expected.attentions[i]))
        torch.testing.assert_close(rows, theirs, rtol=0, atol=1e-5)


VARIANTS = {
    "unshared, both": {"share_att_key": False},
    "unshared, c2p": {"share_att_key": False, "pos_att_type": ["c2p"]},
    "shared, p2c": {"pos_att_type": ["p2c"]},
    "no buckets, no norm, no convolution": {"position_buckets": -1, "norm_rel_ebd": "none", "conv_kernel_size": 0},
    "absolute positions": {"relative_attention": False, "pos_att_type": []},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_form_of_debertas_disentangled_attention(make_model, variant):
    model, batch = make_model("deberta-v2", layers=LAYERS, **VARIANTS[variant]), inputs()
    with torch.no_grad():
        found, _ = tapped(model, batch)
        expected = model(**batch, output_hidden_states=True, output_attentions=True)
    for i in range(LAYERS):
        assert torch.equal(at_real(found.hidden[i], batch), at_real(expected.hidden_states[i + 1], batch))
        rows = at_real(probabilities(found.scores[i], batch).transpose(1, 2), batch)
        torch.testing.assert_close(rows, at_real(expected.attentions[i].transpose(1, 2), batch), rtol=0, atol=1e-5)


def test_distances_beyond_the_tables_are_those_of_the_models(make_model):
    """MPNet's and DeBERTa's buckets grow with the distance, and end."""
    ids = torch.randint(5, 60, (1, 60), generator=torch.Generator().manual_seed(1))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    for family in ("mpnet", "deberta-v2"):
        model = make_model(family, layers=1)
        with torch.no_grad():
            found, _ = tapped(model, batch, scores=[0])
            expected = model(**batch, output_attentions=True).attentions[0]
        torch.testing.assert_close(found.scores[0].softmax(-1), expected, rtol=0, atol=1e-5)
        assert found.scores[0].std() > 0.1


def test_camembert_is_read_as_roberta_is():
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(
        CamembertConfig(
            vocab_size=64,
            hidden_size=32,
            num_hidden_layers=LAYERS,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=66,
            pad_token_id=0,
            attn_implementation="eager",
        )
    ).eval()
    batch = inputs()
    found, _ = tapped(model, batch)
    expected = model(**batch, output_attentions=True).attentions
    rows = at_real(probabilities(found.scores[2], batch).transpose(1, 2), batch)
    torch.testing.assert_close(rows, at_real(expected[2].transpose(1, 2), batch), rtol=0, atol=1e-5)


def test_queries_keys_and_values_are_what_the_attention_was_made_of(make_model, family):
    """The heads' outputs, rebuilt from probabilities and values, are what the map that joins them was given."""
    model, batch, given = make_model(family, layers=LAYERS), inputs(), {}
    eager(model)
    handles = [
        anatomy(model)
        .part(i, "attention_out")
        .register_forward_pre_hook(lambda _, args, i=i: given.setdefault(i, args[0]))
        for i in range(LAYERS)
    ]
    with torch.no_grad():
        found, _ = tapped(model, batch)
        attentions = model(**batch, output_attentions=True).attentions
    for handle in handles:
        handle.remove()
    for i in range(LAYERS):
        assert found.query[i].shape == found.key[i].shape == found.value[i].shape == (3, 2, 9, 16)
        joined = (attentions[i] @ found.value[i]).transpose(1, 2).flatten(-2)
        torch.testing.assert_close(at_real(joined, batch), at_real(given[i], batch), rtol=0, atol=1e-5)
        if family not in ("mpnet", "deberta-v2"):  # those add relative positions
            products = found.query[i] @ found.key[i].transpose(-1, -2) / 16**0.5
            torch.testing.assert_close(products, found.scores[i], rtol=0, atol=1e-5)


def test_a_head_and_a_wrapper_change_nothing(make_model, family):
    class Wrapped(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.module = inner

        def forward(self, **batch):
            return self.module(**batch)

    model, batch = make_model(family, kind="single-label", layers=LAYERS), inputs()
    with torch.no_grad():
        plain, _ = tapped(model.base_model, batch)
        with taps(model, **ALL) as seen:
            Wrapped(model)(**batch)
            wrapped = seen.read()
    for i in range(LAYERS):
        assert torch.equal(plain.hidden[i], wrapped.hidden[i])
        assert torch.equal(plain.scores[i], wrapped.scores[i])


def test_gradients_reach_the_students_weights_and_no_further_layer(make_model, family):
    model, batch = make_model(family, layers=LAYERS), inputs()
    found, _ = tapped(model, batch, scores=[1])
    found.scores[1].square().mean().backward()
    parts = anatomy(model)
    assert parts.part(1, "query").weight.grad.abs().sum() > 0
    assert parts.part(0, "value").weight.grad.abs().sum() > 0
    assert parts.part(2, "query").weight.grad is None
    assert list(found.scores) == [1]
    assert not found.hidden and not found.query


def test_the_gradient_of_the_scores_is_eager_attentions(make_model, family):
    """Through the probabilities, since eager attention shows no scores."""
    batch = inputs(padded=False)
    gradients = []
    for reference in (False, True):
        model = eager(make_model(family, layers=1))
        if reference:
            chosen = model(**batch, output_attentions=True).attentions[0]
        else:
            chosen = tapped(model, batch, scores=[0])[0].scores[0]
            if family == "modernbert" and model.config.layer_types[0] == "sliding_attention":
                chosen = probabilities(chosen, batch, model.config.sliding_window)
            else:
                chosen = chosen.softmax(-1)
        chosen.square().sum().backward()
        gradients.append(anatomy(model).part(0, "query").weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


def test_under_autocast_scores_come_in_its_type(make_model, family):
    model, batch = make_model(family, layers=LAYERS), inputs()
    with torch.no_grad():
        exact, _ = tapped(model, batch)
        with torch.autocast("cpu", torch.bfloat16):
            rough, _ = tapped(model, batch)
    for i in range(LAYERS):
        assert torch.isfinite(rough.scores[i]).all()
    scale = exact.scores[0].abs().max()
    assert (rough.scores[0].float() - exact.scores[0]).abs().max() < 0.05 * scale


def test_nothing_is_kept_after_the_context_closes_not_even_after_an_error(make_model, family):
    model, batch = make_model(family, layers=LAYERS), inputs()
    hooks = lambda: sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())  # noqa: E731
    before = hooks()
    with taps(model, **ALL) as seen:
        model(**batch)
        gone = weakref.ref(seen.read().hidden[0])
        assert hooks() > before
    gc.collect()
    assert hooks() == before
    assert gone() is None
    with pytest.raises(ModelError, match="call the model inside the context"):
        seen.read()
    with pytest.raises(ZeroDivisionError), taps(model, **ALL):
        model(**batch)
        _ = 1 / 0
    assert hooks() == before


def test_the_last_forward_counts(make_model):
    model, batch = make_model(layers=LAYERS), inputs()
    with taps(model, hidden=[0]) as seen, torch.no_grad():
        with pytest.raises(ModelError):
            seen.read()
        model(**inputs(padded=False))
        model(**{name: rows[:2] for name, rows in batch.items()})
        assert seen.read().hidden[0].shape == (2, 9, 32)


def test_a_layer_that_is_not_there_is_refused(make_model):
    with (
        pytest.raises(ModelError, match=r"BertModel has layers 0 to 2, asked for layer 3"),
        taps(make_model(layers=LAYERS), scores=[0, 3]),
    ):
        pass


# The anatomy itself -------------------------------------------------------------------------------------------------


def test_every_part_of_every_layer_exists_with_its_shape(make_model, family):
    parts = anatomy(make_model(family, layers=LAYERS))
    assert (parts.heads, parts.width, len(parts.layers)) == (2, 32, LAYERS)
    up = 96 if family == "modernbert" else 48  # gated: two halves of 48
    qkv = (96, 32) if parts.paths.fused else (32, 32)
    shapes = {
        **dict.fromkeys(("query", "key", "value"), qkv),
        "attention_out": (32, 32),
        "feed_forward_in": (up, 32),
        "feed_forward_out": (32, 48),
        "output_norm": (32,),
    }
    for layer in range(LAYERS):
        for name in LayerPaths.__dataclass_fields__:
            assert isinstance(parts.part(layer, name), nn.Module)
        for name, shape in shapes.items():
            assert tuple(parts.part(layer, name).weight.shape) == shape, name
        if not (family == "modernbert" and layer == 0):  # whose first layer reads normed embeddings
            assert parts.part(layer, "attention_norm").weight.shape == (32,)


@pytest.mark.parametrize("architecture", ["T5Config", "GPT2Config"])
def test_an_unknown_architecture_is_refused_with_what_was_looked_for(architecture):
    config = getattr(transformers, architecture)(
        vocab_size=20, d_model=16, n_embd=16, num_layers=1, n_layer=1, n_head=2
    )
    model = transformers.AutoModel.from_config(config)
    with pytest.raises(ModelError, match=r"architecture \w+ is not known: looked for 'embeddings'.*encoder\.layer"):
        anatomy(model)


def test_layers_of_an_unknown_kind_are_refused_with_what_was_looked_for(make_model):
    model = make_model()
    del model.encoder.layer[0].attention.self.query
    with pytest.raises(ModelError, match=r"layers of BertModel are not known: looked for.*attention\.self\.query"):
        anatomy(model)


def test_masked_language_models_are_read_too(make_model):
    config = make_model().config
    model = AutoModelForMaskedLM.from_config(config).eval()
    found, output = tapped(model, inputs(), hidden=[1])
    assert found.hidden[1].shape == (3, 9, 32)
    assert output.logits.shape == (3, 9, 64)

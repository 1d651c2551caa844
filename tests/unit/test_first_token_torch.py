"""The last layer computes the first token only where the head reads no other: the same logits and gradients."""

import pytest
import torch

from attar.data.encoding import encode_texts
from attar.nets.anatomy import anatomy
from attar.nets.first_token import first_token_only, first_token_twin, reads_first_token
from attar.nets.prefix import without_prefix
from attar.nets.scoring import score_encoded


def a_batch():
    ids = torch.randint(5, 20, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def seen_tokens(model):
    """Record how many tokens the feed-forward block of every layer sees; return the record."""
    parts, found = anatomy(model), {}
    for i in range(len(parts.layers)):
        parts.part(i, "feed_forward_in").register_forward_hook(
            lambda module, inputs, output, i=i: found.__setitem__(i, inputs[0].shape[1])
        )
    return found


def gradients(model, batch):
    model.zero_grad()
    model(**batch).logits.square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_logits_and_gradients_are_the_same_and_the_last_block_sees_one_token(family, make_model):
    model = make_model(family, kind="single-label", layers=2).eval()
    batch, tokens = a_batch(), seen_tokens(model)
    plain, slopes = model(**batch).logits, gradients(model, batch)
    assert tokens == {0: 9, 1: 9}
    with first_token_only(model):
        torch.testing.assert_close(model(**batch).logits, plain, atol=1e-5, rtol=1e-4)
        found = gradients(model, batch)
        assert tokens == ({0: 9, 1: 9} if family == "modernbert" else {0: 9, 1: 1})
    assert found.keys() == slopes.keys()
    for name in slopes:
        torch.testing.assert_close(found[name], slopes[name], atol=1e-4, rtol=1e-3, msg=name)
    model(**batch)
    assert tokens == {0: 9, 1: 9}, "the model is as it was"


def test_a_twin_leaves_its_model_alone_and_follows_its_weights(family, make_model):
    model = make_model(family, kind="regression", labels=("score",), layers=2).eval()
    batch, tokens = a_batch(), seen_tokens(model)
    twin = first_token_twin(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.01)
        plain = model(**batch)
        assert tokens[1] == 9
        torch.testing.assert_close(twin(**batch).logits, plain.logits, atol=1e-5, rtol=1e-4)
        assert (tokens[1] == 1) == reads_first_token(type(model))
        model(**batch)
    assert tokens[1] == 9
    assert twin.state_dict().keys() == model.state_dict().keys()


def test_a_model_that_shows_its_hidden_states_is_hung_with_no_hook_a_call(make_model):
    model = make_model("bert", kind="single-label", layers=2, output_hidden_states=True).eval()
    found = [first_token_twin(model)(**a_batch()).logits for _ in range(3)]
    assert not any(module._forward_hooks for module in model.modules())
    whole = model(**a_batch())
    assert len(whole.hidden_states) == 3
    torch.testing.assert_close(found, [whole.logits] * 3)


@pytest.mark.parametrize("kind", ["token", None])
def test_heads_on_other_tokens_stay_as_they_are(make_model, kind):
    model = make_model(kind=kind, labels=("O", "B-PER")).eval()
    assert first_token_twin(model) is model
    tokens = seen_tokens(model)
    with first_token_only(model):
        model(**a_batch())
    assert set(tokens.values()) == {9}


def test_scoring_spares_the_last_layer(make_model, tokenizer):
    model = make_model(kind="single-label").eval()
    tokens, encoded = seen_tokens(model), encode_texts(["the film was good", "bad"], None, tokenizer, 16)
    found = score_encoded(model, encoded)
    assert tokens[0] > tokens[1] == 1
    score_encoded(model, encoded, read=lambda output, batch: output.logits)
    assert tokens[0] == tokens[1]
    with without_prefix(model, 1):  # as a frozen bottom is left out in training
        assert first_token_twin(model) is not model
    with without_prefix(model, 2):
        assert first_token_twin(model) is model
    assert found.shape == (2, 2)


def test_one_layer_beside_a_convolution_stays_as_it_is(make_model):
    """DeBERTa adds its convolution, over all tokens, to what the first layer makes."""
    model = make_model("deberta-v2", kind="single-label", layers=1).eval()
    assert first_token_twin(model) is model
    with torch.no_grad(), first_token_only(model):
        assert model(**a_batch()).logits.shape == (3, 2)

"""Attention with dropout that keeps no probabilities: the same numbers and gradients, far less kept."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import BertConfig, BertForSequenceClassification, MPNetConfig, MPNetForSequenceClassification

from attar.nets import lean_attention as lean


def inputs(queries: int = 20, keys: int = 20) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(3, 2, n, 8, requires_grad=True) for n in (queries, keys, keys)]


def mask_of(queries: int, keys: int) -> torch.Tensor:
    """Texts of 20, 15 and 6 tokens."""
    real = torch.arange(keys) < torch.tensor([[keys], [15], [6]])
    return real[:, None, None].expand(3, 1, queries, keys)


def reference(q, k, v, mask, kept, share):
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    return (scores.softmax(-1) * kept / share @ v).transpose(1, 2)


@pytest.fixture
def few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of three texts in two parts: of two texts, and of one."""
    monkeypatch.setattr(lean, "_SCORES", 2 * 2 * 20 * 20)


@pytest.mark.usefixtures("few_at_a_time")
@pytest.mark.parametrize("kind", ["none", "bool", "added", "one for all"])
@pytest.mark.parametrize("queries", [20, 19])
def test_it_is_attention_with_the_entries_dropped_that_were_drawn(kind: str, queries: int) -> None:
    q, k, v = inputs(queries)
    mask = {
        "none": None,
        "bool": mask_of(queries, 20),
        "added": torch.zeros(3, 1, queries, 20).masked_fill(~mask_of(queries, 20), -1e9),
        "one for all": mask_of(queries, 20)[1:2],
    }[kind]
    torch.manual_seed(7)
    found, _ = lean.attend(nn.Module(), q, k, v, mask, dropout=0.3)
    torch.manual_seed(7)
    wanted = reference(q, k, v, mask, *lean.draw_kept((3, 2, queries, 20), 0.3))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    outer = torch.randn_like(found)
    of_found = torch.autograd.grad(found, (q, k, v), outer)
    of_wanted = torch.autograd.grad(wanted, (q, k, v), outer)
    for one, other in zip(of_found, of_wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_entries_are_dropped_as_often_as_asked_for_and_independently() -> None:
    torch.manual_seed(0)
    kept, share = lean.draw_kept((100, 10, 40, 41), 0.1)
    assert share == pytest.approx(0.9, abs=1e-5)
    assert kept.float().mean().item() == pytest.approx(0.9, abs=2e-3)
    lanes = kept.flatten()[: kept.numel() // 4 * 4].view(-1, 4).float()  # the four draws of a number
    assert lanes.mean(0).numpy() == pytest.approx(0.9, abs=3e-3)
    assert torch.corrcoef(lanes.T).fill_diagonal_(0).abs().max() < 5e-3


def kept_bytes(call, *sources: torch.Tensor) -> int:
    """Return the bytes that a call keeps for backward, beside tensors that exist anyway."""
    known = {source.untyped_storage().data_ptr() for source in sources}
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = call()
    assert kept is not None
    return sum(sizes.values())


@pytest.mark.usefixtures("few_at_a_time")
def test_it_keeps_one_byte_an_entry() -> None:
    q, k, v = (torch.randn(3, 2, 200, 8, requires_grad=True) for _ in range(3))
    ours = kept_bytes(lambda: lean.attend(nn.Module(), q, k, v, None, dropout=0.1)[0], q, k, v)
    theirs = kept_bytes(lambda: scaled_dot_product_attention(q, k, v, dropout_p=0.1), q, k, v)
    entries = 3 * 2 * 200 * 200
    assert entries <= ours < 1.3 * entries  # the rest: normalizers and what was found
    assert theirs > 4 * ours


def tiny_bert() -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    return BertForSequenceClassification(config)


def test_an_encoder_trains_with_it_meanwhile_and_is_read_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "_SCORES", 0)
    calls: list[int] = []
    monkeypatch.setattr(lean, "draw_kept", lambda shape, p, draw=lean.draw_kept: calls.append(1) or draw(shape, p))
    model = tiny_bert()
    batch = {"input_ids": torch.randint(0, 50, (3, 12)), "attention_mask": mask_of(1, 20)[:, 0, 0, :12].long()}
    before = model.eval()(**batch).logits
    with lean.lean_attention(model):
        assert torch.equal(model(**batch).logits, before)  # nothing is dropped in eval mode
        assert not calls
        model.train()(**batch).logits.sum().backward()
        assert len(calls) == 2  # once a layer
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(model.eval()(**batch).logits, before)


def tiny_mpnet() -> MPNetForSequenceClassification:
    torch.manual_seed(0)
    config = MPNetConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=1e-9,
    )  # fmt: skip
    return MPNetForSequenceClassification(config).train()


@pytest.mark.usefixtures("few_at_a_time")
def test_mpnet_trains_with_it_and_so_do_its_relative_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_mpnet()  # drops next to nothing: both ways are to give the same
    batch = {"input_ids": torch.randint(3, 50, (3, 24)), "attention_mask": mask_of(1, 24)[:, 0, 0].long()}
    wanted = model(**batch).logits
    of_wanted = torch.autograd.grad(wanted.sum(), list(model.parameters()))
    types = [type(module) for module in model.modules()]
    used: list[int] = []
    monkeypatch.setattr(lean, "draw_kept", lambda shape, p, draw=lean.draw_kept: used.append(1) or draw(shape, p))
    with lean.lean_attention(model):
        found = model(**batch).logits
        of_found = torch.autograd.grad(found.sum(), list(model.parameters()))
    assert len(used) == 2
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    for (name, _), one, other in zip(model.named_parameters(), of_found, of_wanted, strict=True):
        assert other.any() or "relative_attention_bias" not in name
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert [type(module) for module in model.modules()] == types


def test_who_computes_attention_otherwise_keeps_it() -> None:
    model = tiny_bert()
    model.config._attn_implementation_internal = "eager"
    with lean.lean_attention(model):
        assert model.config._attn_implementation == "eager"

"""Which tokens are masked: how many, which ones, what becomes of them, and that every look draws anew."""

import math

import numpy as np
import pytest
import torch

from attar.data.masking import Masking, mask_tokens, masking_of
from attar.errors import ModelError

MASK = 4


@pytest.fixture
def masking(tokenizer):
    return masking_of(tokenizer, np.ones(len(tokenizer), np.int64))


def batch_of(lengths, low=5, high=40, seed=0):
    """Rows of [CLS] words [SEP], padded."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        words = torch.randint(low, high, (length - 2,), generator=generator)
        ids[row, :length] = torch.cat([torch.tensor([2]), words, torch.tensor([3])])
        mask[row, :length] = 1
    return ids, mask


@pytest.mark.parametrize("lengths", [[7, 12, 30], [40], [13, 13]])
def test_15_percent_of_the_real_tokens_are_drawn_rounded_up(masking, lengths):
    ids, mask = batch_of(lengths)
    for _ in range(20):
        _, drawn = mask_tokens(ids, mask, masking)
        assert int(drawn.sum()) == math.ceil(0.15 * sum(lengths))
        assert not drawn[mask == 0].any()
        assert not drawn[(ids == 2) | (ids == 3)].any()


def test_only_the_drawn_tokens_change(masking):
    ids, mask = batch_of([30, 20])
    shown, drawn = mask_tokens(ids, mask, masking, share=0.5)
    assert torch.equal(shown[~drawn], ids[~drawn])
    assert not torch.equal(shown, ids)


def test_every_look_draws_anew_and_the_seed_decides(masking):
    ids, mask = batch_of([60, 60])
    torch.manual_seed(1)
    first, second = mask_tokens(ids, mask, masking), mask_tokens(ids, mask, masking)
    torch.manual_seed(1)
    again = mask_tokens(ids, mask, masking)
    assert not torch.equal(first[1], second[1])
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_rare_words_are_drawn_more_often_with_exponent_0_7(tokenizer):
    counts = np.zeros(len(tokenizer), np.int64)
    buckets = {10: 1, 11: 10, 12: 100, 13: 1000}
    for token, count in buckets.items():
        counts[token] = count
    masking = masking_of(tokenizer, counts, smoothing=0.7)
    # Every bucket fills a quarter of the batch and few places are drawn, so that rates are as the weights.
    ids = torch.tensor(list(buckets)).repeat(1, 1000)
    mask = torch.ones_like(ids)
    torch.manual_seed(0)
    drawn = torch.zeros(ids.shape)
    for _ in range(400):
        drawn += mask_tokens(ids, mask, masking, share=0.02)[1]
    rates = {token: float(drawn[ids == token].sum()) for token in buckets}
    for token, count in buckets.items():
        assert rates[token] / rates[10] == pytest.approx(count**-0.7, rel=0.25), count


def test_words_that_the_texts_lack_weigh_as_much_as_those_seen_once(tokenizer):
    counts = np.zeros(len(tokenizer), np.int64)
    counts[11] = 1
    weights = masking_of(tokenizer, counts).weights
    assert weights[10] == weights[11] == 1


def test_exponent_0_draws_all_words_alike_and_special_tokens_never(tokenizer):
    weights = masking_of(tokenizer, np.arange(len(tokenizer)), smoothing=0.0).weights
    assert weights[tokenizer.all_special_ids].eq(0).all()
    assert weights.sum() == len(tokenizer) - len(tokenizer.all_special_ids)


def test_80_10_10_mask_random_and_kept(masking):
    ids = torch.full((40, 500), 10)
    torch.manual_seed(0)
    shown, drawn = mask_tokens(ids, torch.ones_like(ids), masking, share=0.5)
    n = int(drawn.sum())
    found = shown[drawn]
    vocabulary = len(masking.weights)
    assert int((found == MASK).sum()) / n == pytest.approx(0.8 + 0.1 / vocabulary, abs=0.015)
    assert int((found == 10).sum()) / n == pytest.approx(0.1 + 0.1 / vocabulary, abs=0.015)
    others = found[(found != MASK) & (found != 10)]
    assert set(others.tolist()) == set(range(vocabulary)) - {MASK, 10}


def test_a_batch_with_little_to_draw_is_drawn_whole_and_one_with_nothing_stays(masking):
    ids, mask = batch_of([3])
    _, drawn = mask_tokens(ids, mask, masking, share=0.9)
    assert drawn.tolist() == [[False, True, False]]
    bare, none = mask_tokens(ids[:, [0, 2]], mask[:, [0, 2]], masking)
    assert torch.equal(bare, ids[:, [0, 2]])
    assert not none.any()


def test_the_tokenizers_own_mask_token_is_used(make_tokenizer):
    own = make_tokenizer(mask="<mask>")
    masking = masking_of(own, np.ones(len(own), np.int64))
    assert masking.mask_id == own.convert_tokens_to_ids("<mask>")
    assert isinstance(masking.to(torch.device("cpu")), Masking)


def test_a_tokenizer_without_a_mask_token_is_refused(make_tokenizer):
    bare = make_tokenizer()
    bare.mask_token = None
    with pytest.raises(ModelError, match="mask token, found none"):
        masking_of(bare, np.ones(len(bare), np.int64))

import numpy as np
import pytest

from attar.data.batching import LengthBucketSampler, split_batch


def lengths(n, seed=0):
    return np.random.default_rng(seed).geometric(0.05, n).clip(2, 128)


def batches(order, size):
    return [order[i : i + size] for i in range(0, len(order), size)]


def padded(found, of):
    return sum(len(batch) * of[batch].max() for batch in found)


@pytest.mark.parametrize(("n", "size"), [(0, 4), (3, 4), (1000, 8), (1003, 8), (401, 8), (400, 8)])
def test_every_row_comes_exactly_once(n, size):
    sampler = LengthBucketSampler(lengths(n), size, seed=0)
    assert sorted(sampler) == list(range(n))
    assert len(sampler) == n


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        sampler = LengthBucketSampler(lengths(500), 8, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 3) == order(1, 3)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_iterating_twice_without_a_new_epoch_repeats_the_order():
    sampler = LengthBucketSampler(lengths(100), 8, 0)
    assert list(sampler) == list(sampler)


def test_batches_waste_far_less_padding_than_random_ones():
    of, size = lengths(4000), 16
    bucketed = padded(batches(list(LengthBucketSampler(of, size, 0)), size), of)
    random = padded(batches(np.random.default_rng(0).permutation(4000), size), of)
    assert bucketed < 1.1 * of.sum()
    assert random > 2 * of.sum()


def test_long_and_short_batches_are_mixed_over_the_epoch():
    of = lengths(3200)
    tops = [of[batch].max() for batch in batches(list(LengthBucketSampler(of, 16, 0)), 16)]
    halves = np.mean(tops[:100]), np.mean(tops[100:])
    assert abs(halves[0] - halves[1]) < 0.25 * np.mean(tops)
    assert abs(np.corrcoef(tops[:-1], tops[1:])[0, 1]) < 0.3


def test_the_short_batch_comes_last_so_that_no_border_shifts():
    of = lengths(1003)
    found = batches(list(LengthBucketSampler(of, 8, 0)), 8)
    assert [len(batch) for batch in found] == [8] * 125 + [3]
    spread = [np.ptp(of[batch]) for batch in found[:-1]]
    assert np.median(spread) <= 2


def test_batches_differ_in_members_from_epoch_to_epoch():
    sampler = LengthBucketSampler(lengths(2000), 8, 0)
    first = {frozenset(batch) for batch in batches(list(sampler), 8)}
    sampler.set_epoch(1)
    second = {frozenset(batch) for batch in batches(list(sampler), 8)}
    assert len(first & second) < 0.05 * len(first)


@pytest.mark.parametrize(
    ("of", "most", "sizes"),
    [
        ([5, 5, 5, 5], 20, [4]),
        ([5, 5, 5, 5], 19, [3, 1]),
        ([2, 3, 9, 10], 20, [2, 2]),  # with its padding to 9, the third would be the third of 27
        ([30, 5, 5, 5, 40], 10, [1, 2, 1, 1]),
    ],
)
def test_a_batch_is_cut_where_its_padded_tokens_would_be_too_many(of, most, sizes):
    rows = np.arange(len(of))
    pieces = [rows[piece] for piece in split_batch(np.array(of), most)]
    assert np.concatenate(pieces).tolist() == rows.tolist()
    assert [len(piece) for piece in pieces] == sizes


def test_chunks_count_with_the_padding_to_the_longest_of_any_text():
    """Beside a text of one line of 10, the two halves of one of 12 take 10 each: 30 in all."""
    lengths, lines = np.array([10, 6]), np.array([1, 2])
    assert split_batch(lengths, 29, lines) == [slice(0, 1), slice(1, 2)]
    assert split_batch(lengths, 30, lines) == [slice(0, 2)]

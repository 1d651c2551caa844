"""RowAdadelta against torch's dense AdaDelta."""

import copy

import pytest
import torch
from torch import nn

from attar.nets.hardware import denormals_flushed
from attar.training.adadelta import RowAdadelta, sparse_vectors


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.vectors = nn.Embedding(12, 4, padding_idx=0)
        self.fixed = nn.Embedding(12, 4)
        self.fixed.weight.requires_grad_(False)
        self.top = nn.Linear(4, 2)
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, ids):
        return self.top(self.vectors(ids) + self.fixed(ids)).mean(1) * self.scale


def batches(steps):
    generator = torch.Generator().manual_seed(1)
    # Two to five words a step of twelve: most rows wait for steps on end, and some are met twice in a batch.
    return [torch.randint(0, 12, (2, 1 + i % 3), generator=generator) for i in range(steps)]


def loss_of(model, ids):
    return 30 * (model(ids) - 1).pow(2).mean()


@pytest.mark.parametrize("max_norm", [0.0, 0.5])
def test_equals_the_dense_form(max_norm):
    torch.manual_seed(0)
    dense = Words()
    sparse = copy.deepcopy(dense)
    moving = [p for p in dense.parameters() if p.requires_grad]
    reference = torch.optim.Adadelta(moving, lr=1.0, rho=0.95)
    optimizer = RowAdadelta([p for p in sparse.parameters() if p.requires_grad], lr=1.0, max_norm=max_norm)
    for ids in batches(40):
        reference.zero_grad()
        loss_of(dense, ids).backward()
        if max_norm:
            nn.utils.clip_grad_norm_(moving, max_norm)
        reference.step()
        with sparse_vectors(sparse):
            optimizer.zero_grad()
            loss_of(sparse, ids).backward()
        assert sparse.vectors.weight.grad.is_sparse
        optimizer.step()
    for (name, p), q in zip(dense.named_parameters(), sparse.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7, msg=name)


def test_goes_on_from_its_saved_state():
    torch.manual_seed(0)
    whole = Words()
    halves = copy.deepcopy(whole)

    def train(model, optimizer, ids):
        with sparse_vectors(model):
            for one in ids:
                optimizer.zero_grad()
                loss_of(model, one).backward()
                optimizer.step()

    ids = batches(20)
    train(whole, RowAdadelta([p for p in whole.parameters() if p.requires_grad], lr=1.0), ids)
    moving = [p for p in halves.parameters() if p.requires_grad]
    first = RowAdadelta(moving, lr=1.0)
    train(halves, first, ids[:10])
    second = RowAdadelta(moving, lr=1.0)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    train(halves, second, ids[10:])
    for p, q in zip(whole.parameters(), halves.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_shared_table_stays_dense():
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
    model[1].weight = model[0].weight
    with sparse_vectors(model):
        assert not model[0].sparse
    own = nn.Embedding(5, 3)
    with sparse_vectors(own):
        assert own.sparse
    assert not own.sparse


def test_denormals_are_zero_meanwhile_and_numbers_again_afterwards():
    def product():
        return (torch.full((1,), 1e-39) * 1).item()

    if not torch.set_flush_denormal(False):
        pytest.skip("this processor has no such setting")
    with denormals_flushed():
        with denormals_flushed():
            assert product() == 0
        assert product() == 0
    assert product() > 0

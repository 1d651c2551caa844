"""The losses on hidden states, attention and relations, against their slow references."""

import pytest
import torch
from reference import layers as reference

from attar.objectives.attention import attention_kl, attention_probabilities, probability_mse, score_mse
from attar.objectives.hidden import hidden_cosine, hidden_mse
from attar.objectives.relations import minilm_loss, minilm_v2_loss, relation_kl, relation_scores, relations

B, H, T, D = 3, 2, 5, 6
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
ON_STATES = (hidden_mse, hidden_cosine)
ON_SCORES = (score_mse, probability_mse, attention_kl)


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 1.5


def pair(loss):
    shape = (B, T, D) if loss in ON_STATES else (B, H, T, T)
    return draw(0, *shape), draw(1, *shape)


@pytest.mark.parametrize("loss", [*ON_STATES, *ON_SCORES])
@pytest.mark.parametrize("kind", [torch.long, torch.bool, torch.float])
def test_each_loss_equals_its_slow_reference_whatever_type_the_mask_has(loss, kind):
    student, teacher = pair(loss)
    expected = getattr(reference, loss.__name__)(student.tolist(), teacher.tolist(), MASK.tolist())
    assert loss(student, teacher, MASK.to(kind)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [*ON_STATES, *ON_SCORES])
def test_each_loss_and_its_gradient_are_zero_at_equality(loss):
    student, teacher = pair(loss)[1].clone().requires_grad_(), pair(loss)[1]
    value = loss(student, teacher, MASK)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert student.grad.abs().max() < 1e-6


@pytest.mark.parametrize("loss", [*ON_STATES, *ON_SCORES])
def test_what_stands_at_padding_does_not_matter_and_gets_no_gradient(loss):
    student, teacher = pair(loss)
    expected = loss(student, teacher, MASK)
    real = MASK.bool()
    away = ~real[..., None] if loss in ON_STATES else ~(real[:, :, None] & real[:, None, :])[:, None].expand(B, H, T, T)
    other = student.masked_fill(away, 77.0).requires_grad_()
    found = loss(other, teacher.masked_fill(away, -5.0), MASK)
    found.backward()
    torch.testing.assert_close(found, expected)
    assert torch.isfinite(other.grad).all()
    assert not other.grad[away.expand_as(other)].any()
    assert other.grad[~away.expand_as(other)].any()


def test_padded_queries_are_left_out_of_the_mean_too():
    """The released code zeroes masked keys, and then takes the mean over all pairs, padded queries included."""
    student, teacher = torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    assert score_mse(student, teacher, torch.tensor([[1, 1, 0, 0]])).item() == 1


def test_scores_see_a_shift_of_a_row_that_attention_does_not():
    teacher = draw(1, B, H, T, T)
    shifted = teacher + 2
    assert score_mse(shifted, teacher, MASK).item() == pytest.approx(4, rel=1e-5)
    assert attention_kl(shifted, teacher, MASK).item() == pytest.approx(0, abs=1e-6)
    assert probability_mse(shifted, teacher, MASK).item() == pytest.approx(0, abs=1e-6)


def test_cosine_does_not_see_length():
    teacher = draw(1, B, T, D)
    assert hidden_cosine(3 * teacher, teacher, MASK).item() == pytest.approx(0, abs=1e-6)
    assert hidden_cosine(-teacher, teacher, MASK).item() == pytest.approx(2, rel=1e-6)


def test_a_text_alone_and_padded_has_the_same_loss():
    for loss in (*ON_STATES, *ON_SCORES):
        student, teacher = pair(loss)
        one = slice(1, 2)
        cut = (slice(None), slice(3)) if loss in ON_STATES else (slice(None), slice(None), slice(3), slice(3))
        alone = loss(student[one][cut], teacher[one][cut], torch.ones(1, 3))
        torch.testing.assert_close(loss(student[one], teacher[one], MASK[one]), alone)


# Relations ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 12])
def test_relations_of_any_number_of_heads_equal_the_slow_reference(heads):
    states = draw(2, B, H, T, D)
    expected = torch.tensor(reference.relation_scores(states.tolist(), heads))
    torch.testing.assert_close(relation_scores(states, heads), expected)
    other = draw(3, B, 3, T, 4)  # other heads and head sizes, the same relation heads
    kl = reference.attention_kl(expected.tolist(), reference.relation_scores(other.tolist(), heads), MASK.tolist())
    assert relation_kl(states, other, MASK, heads=heads).item() == pytest.approx(kl, rel=1e-5)


@pytest.mark.parametrize("heads", [1, 2, 6])
def test_rows_sum_to_1_and_padding_is_never_attended_to(heads):
    found = relations(draw(2, B, H, T, D), heads, MASK)
    assert found.shape == (B, heads, T, T)
    torch.testing.assert_close(found.sum(-1), torch.ones(B, heads, T))
    assert not found.masked_select(~MASK.bool()[:, None, None, :]).any()
    own = attention_probabilities(draw(0, B, H, T, T), MASK)
    torch.testing.assert_close(own.sum(-1), torch.ones(B, H, T))


def test_with_the_models_own_heads_relations_are_per_attention_head():
    values = draw(2, B, H, T, D)
    torch.testing.assert_close(relation_scores(values, H), values @ values.transpose(-1, -2) / D**0.5)


def test_students_of_any_width_and_number_of_heads_have_relations():
    student, teacher = draw(0, B, 2, T, 9).requires_grad_(), draw(1, B, 4, T, 6)
    relation_kl(student, teacher, MASK, heads=6).backward()
    assert student.grad.abs().sum() > 0
    assert not student.grad[2, :, 1:].any(), "padding"


def test_minilm_is_attention_and_values():
    scores, values = [draw(i, B, H, T, T) for i in (0, 1)], [draw(i, B, H, T, D) for i in (2, 3)]
    found = minilm_loss(*scores, *values, MASK)
    lists = [reference.relation_scores(v.tolist(), H) for v in values]
    assert set(found) == {"attention", "value"}
    expected = reference.attention_kl(scores[0].tolist(), scores[1].tolist(), MASK.tolist())
    assert found["attention"].item() == pytest.approx(expected, rel=1e-5)
    assert found["value"].item() == pytest.approx(reference.attention_kl(*lists, MASK.tolist()), rel=1e-5)


def test_minilm_v2_is_queries_keys_and_values_each_with_itself():
    student = {name: draw(i, B, 2, T, 6) for i, name in enumerate(("query", "key", "value"))}
    teacher = {name: draw(i + 5, B, 3, T, 8) for i, name in enumerate(("query", "key", "value"))}
    found = minilm_v2_loss(student, teacher, MASK, heads=4)
    assert list(found) == ["query", "key", "value"]
    for name, part in found.items():
        lists = [reference.relation_scores(side[name].tolist(), 4) for side in (student, teacher)]
        assert part.item() == pytest.approx(reference.attention_kl(*lists, MASK.tolist()), rel=1e-5)

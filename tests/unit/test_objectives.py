import math

import pytest
import torch
from reference import losses as reference

from attar.methods.bilstm_soft.objective import filled_labels, soft_loss
from attar.objectives.distillation import distillation_loss, teacher_loss
from attar.objectives.logits import (
    binary_kl_divergence,
    binary_soft_cross_entropy,
    kl_divergence,
    logit_mse,
    soft_cross_entropy,
)
from attar.objectives.task import task_loss, weighted

NAN = float("nan")
SOFTENED = [kl_divergence, soft_cross_entropy, binary_kl_divergence, binary_soft_cross_entropy]


def draw(seed, n=5, c=3, scale=2.0):
    return torch.randn(n, c, generator=torch.Generator().manual_seed(seed)) * scale


def gradient(loss, student, *arguments, **settings):
    student = student.clone().requires_grad_()
    loss(student, *arguments, **settings).backward()
    return student.grad


@pytest.mark.parametrize("loss", SOFTENED)
@pytest.mark.parametrize("temperature", [1.0, 2.0, 7.5])
def test_softened_losses_equal_the_slow_reference(loss, temperature):
    student, teacher = draw(0), draw(1)
    expected = getattr(reference, loss.__name__)(student.tolist(), teacher.tolist(), temperature)
    assert loss(student, teacher, temperature=temperature).item() == pytest.approx(expected, rel=1e-5)


def test_logit_mse_equals_the_slow_reference():
    student, teacher = draw(0), draw(1)
    assert logit_mse(student, teacher).item() == pytest.approx(
        reference.logit_mse(student.tolist(), teacher.tolist()), rel=1e-6
    )


def test_logit_mse_is_zero_with_a_zero_gradient_at_equal_logits():
    teacher = draw(1)
    assert logit_mse(teacher.clone(), teacher).item() == 0
    assert not gradient(logit_mse, teacher, teacher).any()


def test_logit_mse_sees_a_shift_that_softmax_does_not():
    teacher = draw(1)
    shifted = teacher + 1.5
    assert torch.allclose(shifted.softmax(-1), teacher.softmax(-1), atol=1e-6)
    assert logit_mse(shifted, teacher).item() == pytest.approx(3 * 1.5**2, rel=1e-5)
    assert (gradient(logit_mse, shifted, teacher) > 0).all()
    assert kl_divergence(shifted, teacher).item() == pytest.approx(0, abs=1e-6)


def test_logit_mse_sums_over_outputs_and_averages_over_rows():
    student, teacher = draw(0), draw(1)
    wide = logit_mse(torch.cat([student, student], -1), torch.cat([teacher, teacher], -1))
    long = logit_mse(torch.cat([student, student]), torch.cat([teacher, teacher]))
    once = logit_mse(student, teacher)
    assert wide.item() == pytest.approx(2 * once.item(), rel=1e-6)
    assert long.item() == pytest.approx(once.item(), rel=1e-6)


@pytest.mark.parametrize("divergence", [kl_divergence, binary_kl_divergence])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_a_divergence_is_zero_at_the_identity_and_positive_elsewhere(divergence, temperature):
    teacher = draw(1)
    assert divergence(teacher.clone(), teacher, temperature=temperature).item() == 0
    assert gradient(divergence, teacher, teacher, temperature=temperature).abs().max() < 1e-6
    assert all(divergence(draw(seed), teacher, temperature=temperature).item() > 0 for seed in range(2, 8))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_soft_cross_entropy_is_the_divergence_plus_the_teachers_entropy(temperature):
    student, teacher = draw(0), draw(1)
    difference = soft_cross_entropy(student, teacher, temperature=temperature) - kl_divergence(
        student, teacher, temperature=temperature
    )
    assert difference.item() == pytest.approx(reference.entropy(teacher.tolist(), temperature), rel=1e-4)


@pytest.mark.parametrize(
    ("divergence", "cross_entropy"),
    [(kl_divergence, soft_cross_entropy), (binary_kl_divergence, binary_soft_cross_entropy)],
)
def test_divergence_and_cross_entropy_have_one_gradient(divergence, cross_entropy):
    student, teacher = draw(0), draw(1)
    one = gradient(divergence, student, teacher, temperature=2.0)
    other = gradient(cross_entropy, student, teacher, temperature=2.0)
    assert torch.allclose(one, other, atol=1e-6)


def test_at_high_temperature_the_gradient_is_hintons_limit_whatever_the_temperature():
    """Hinton et al. 2015, section 2.1: with zero-mean logits the gradient tends to (z - v) / C, times T² / T²."""
    student, teacher = draw(0, scale=1.0), draw(1, scale=1.0)
    student, teacher = (z - z.mean(-1, keepdim=True) for z in (student, teacher))
    limit = (student - teacher) / (student.shape[1] * len(student))
    for temperature in (50.0, 200.0, 500.0):
        found = gradient(kl_divergence, student, teacher, temperature=temperature)
        assert torch.allclose(found, limit, rtol=0.05, atol=2e-3)


def test_at_high_temperature_the_binary_gradient_is_a_quarter_of_the_difference():
    student, teacher = draw(0, scale=1.0), draw(1, scale=1.0)
    limit = (student - teacher) / 4 / student.numel()
    for temperature in (20.0, 80.0):
        found = gradient(binary_kl_divergence, student, teacher, temperature=temperature)
        assert torch.allclose(found, limit, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("loss", [binary_kl_divergence, binary_soft_cross_entropy])
def test_a_label_of_a_multi_label_task_has_a_loss_of_its_own(loss):
    student, teacher = draw(0), draw(1)
    apart = [loss(student[:, [i]], teacher[:, [i]], temperature=2.0) for i in range(3)]
    assert loss(student, teacher, temperature=2.0).item() == pytest.approx(torch.stack(apart).mean().item(), rel=1e-5)
    moved = student.clone()
    moved[:, 0] += 1
    change = gradient(loss, moved, teacher) - gradient(loss, student, teacher)
    assert change[:, 0].abs().min() > 1e-4
    assert not change[:, 1:].any()


@pytest.mark.parametrize("loss", [logit_mse, *SOFTENED])
def test_a_step_against_the_gradient_nears_the_teacher(loss):
    student, teacher = draw(0), draw(1)
    step = student - 0.05 * gradient(loss, student, teacher)
    assert loss(step, teacher) < loss(student, teacher)


@pytest.mark.parametrize("loss", [logit_mse, *SOFTENED])
def test_large_logits_stay_finite(loss):
    student, teacher = draw(0, scale=300.0), draw(1, scale=300.0)
    assert torch.isfinite(loss(student, teacher))
    assert torch.isfinite(gradient(loss, student, teacher)).all()


TARGETS = {
    "single-label": (torch.tensor([0, -100, 2, 1, -100]), [0, None, 2, 1, None]),
    "token": (torch.tensor([-100, 1, 1, -100, 0]), [None, 1, 1, None, 0]),
    "multi-label": (
        torch.tensor([[1.0, 0, 1], [NAN, NAN, NAN], [0, 0, 0], [NAN, NAN, NAN], [1, 1, 1]]),
        [[1, 0, 1], None, [0, 0, 0], None, [1, 1, 1]],
    ),
    "regression": (torch.tensor([0.5, NAN, -1.0, 2.0, NAN]), [0.5, None, -1.0, 2.0, None]),
}
WIDTH = {"regression": 1}


@pytest.mark.parametrize("kind", TARGETS)
def test_the_task_loss_is_the_mean_over_labelled_rows(kind):
    logits = draw(3, c=WIDTH.get(kind, 3))
    labels, plain = TARGETS[kind]
    expected = reference.task_loss(logits.tolist(), plain, kind)
    assert task_loss(logits, labels, kind).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", TARGETS)
def test_rows_without_a_label_get_no_gradient_and_those_with_one_do(kind):
    logits = draw(3, c=WIDTH.get(kind, 3))
    labels, plain = TARGETS[kind]
    found = gradient(task_loss, logits, labels, kind)
    assert torch.isfinite(found).all()
    assert [bool(row.any()) for row in found] == [label is not None for label in plain]


@pytest.mark.parametrize("kind", TARGETS)
def test_the_task_loss_of_no_labelled_row_is_zero_and_can_go_backward(kind):
    logits = draw(3, c=WIDTH.get(kind, 3))
    labels = torch.full_like(TARGETS[kind][0], -100 if kind in ("single-label", "token") else NAN)
    assert task_loss(logits, labels, kind).item() == 0
    assert not gradient(task_loss, logits, labels, kind).any()


def test_regression_labels_may_be_flat_or_a_column():
    logits = draw(3, c=1)
    labels = TARGETS["regression"][0]
    assert task_loss(logits, labels, "regression") == task_loss(logits, labels[:, None], "regression")


def test_weighted_mixes_labels_and_teacher():
    parts = {"label_loss": torch.tensor(2.0), "teacher_loss": torch.tensor(10.0)}
    assert weighted(parts, 0.25).item() == pytest.approx(0.25 * 2 + 0.75 * 10)
    assert weighted({"teacher_loss": parts["teacher_loss"]}, 0.0).item() == 10
    assert weighted({"label_loss": parts["label_loss"]}, 1.0).item() == 2


def batch_of(kind, width=3):
    return {"labels": TARGETS[kind][0], "teacher_logits": draw(1, c=width)}


@pytest.mark.parametrize("kind", ["single-label", "multi-label", "regression"])
def test_the_bilstm_objective_counts_the_teachers_answer_as_the_label_of_unlabelled_text(kind):
    labels, plain = TARGETS[kind]
    teacher = draw(1, c=WIDTH.get(kind, 3))
    labels = labels[:, None] if kind == "regression" else labels
    filled = filled_labels({"labels": labels, "teacher_logits": teacher}, kind)
    for i, label in enumerate(plain):
        if label is not None:
            assert torch.equal(filled[i].reshape(-1), torch.as_tensor(label, dtype=filled.dtype).reshape(-1))
        elif kind == "single-label":
            assert filled[i] == teacher[i].argmax()
        elif kind == "multi-label":
            assert torch.equal(filled[i], (teacher[i] > 0).float())
        else:
            assert torch.equal(filled[i], teacher[i])


def test_the_bilstm_objective_is_alpha_times_labels_plus_the_rest_times_squared_logits():
    batch, logits = batch_of("single-label"), draw(0)
    losses = soft_loss(alpha=0.3, kind="single-label", has_teacher=True)(logits, batch)
    answers = [0, batch["teacher_logits"][1].argmax().item(), 2, 1, batch["teacher_logits"][4].argmax().item()]
    hard = reference.task_loss(logits.tolist(), answers, "single-label")
    soft = reference.logit_mse(logits.tolist(), batch["teacher_logits"].tolist())
    assert losses["label_loss"].item() == pytest.approx(hard, rel=1e-5)
    assert losses["teacher_loss"].item() == pytest.approx(soft, rel=1e-5)
    assert losses["loss"].item() == pytest.approx(0.3 * hard + 0.7 * soft, rel=1e-5)


def test_without_a_teacher_the_bilstm_objective_is_the_label_loss_of_labelled_rows():
    batch, logits = {"labels": TARGETS["single-label"][0]}, draw(0)
    losses = soft_loss(alpha=1.0, kind="single-label", has_teacher=False)(logits, batch)
    assert set(losses) == {"loss", "label_loss"}
    expected = reference.task_loss(logits.tolist(), TARGETS["single-label"][1], "single-label")
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("loss", ["kl", "soft-ce", "mse"])
def test_the_logits_loss_chooses_the_loss_of_the_kind(kind, loss):
    width = WIDTH.get(kind, 3)
    batch, logits = batch_of(kind, width), draw(0, c=width)
    binary = "binary_" if kind == "multi-label" else ""
    names = {"kl": f"{binary}kl_divergence", "soft-ce": f"{binary}soft_cross_entropy"}
    if loss == "mse" or kind == "regression":
        soft = reference.logit_mse(logits.tolist(), batch["teacher_logits"].tolist())
    else:
        soft = getattr(reference, names[loss])(logits.tolist(), batch["teacher_logits"].tolist(), 2.0)
    hard = reference.task_loss(logits.tolist(), TARGETS[kind][1], kind)
    losses = distillation_loss(loss=loss, temperature=2.0, alpha=0.4, kind=kind)(logits, batch)
    assert losses["teacher_loss"].item() == pytest.approx(soft, rel=1e-4)
    assert losses["loss"].item() == pytest.approx(0.4 * hard + 0.6 * soft, rel=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_part_of_weight_zero_is_not_computed(alpha):
    batch = batch_of("single-label")
    del batch["labels" if alpha == 0 else "teacher_logits"]
    losses = distillation_loss(loss="kl", temperature=2.0, alpha=alpha, kind="single-label")(draw(0), batch)
    assert set(losses) == {"loss", "teacher_loss" if alpha == 0 else "label_loss"}


@pytest.mark.parametrize("loss", [logit_mse, *SOFTENED])
def test_gradients_flow_into_the_student_alone_where_the_teacher_is_detached(loss):
    teacher = draw(1).requires_grad_()
    assert gradient(loss, draw(0), teacher.detach()).any()
    assert teacher.grad is None


def test_token_losses_run_over_words():
    """A word more in one text weighs as a word, not as a text."""
    student, teacher = draw(0, n=7), draw(1, n=7)
    whole = teacher_loss(student, teacher, loss="kl", temperature=1.0, kind="token").item()
    rows = [kl_divergence(student[[i]], teacher[[i]]).item() for i in range(7)]
    assert whole == pytest.approx(math.fsum(rows) / 7, rel=1e-5)

import pytest

from attar.training.few_steps import FEW_STEPS, warn_of_few_steps


def curve(scores, steps):
    """Epochs of equally many steps, between entries of the loss."""
    points = []
    for epoch, score in enumerate(scores, 1):
        step = steps * epoch // len(scores)
        points += [{"loss": 1 / epoch, "step": step}, {"dev_accuracy": score, "epoch": epoch, "step": step}]
    return points


def test_few_steps_with_a_rising_score_are_said():
    (warning,) = warn_of_few_steps(curve([0.5, 0.6, 0.7], 96), "accuracy")
    assert "after 96 steps" in warning
    assert "--epochs" in warning


def test_one_epoch_of_few_steps_is_said():
    assert warn_of_few_steps(curve([0.5], 10), "accuracy")


@pytest.mark.parametrize(
    "case",
    [
        curve([0.5, 0.7, 0.6], 96),  # the best was before
        curve([0.5, 0.7, 0.7], 96),  # no longer rising
        curve([0.5, 0.6, 0.7], FEW_STEPS),
        [{"loss": 1.0, "step": 10}],  # a stage without a dev score
        [],
    ],
)
def test_nothing_is_said_of_a_training_that_had_its_time(case):
    assert warn_of_few_steps(case, "accuracy") == []

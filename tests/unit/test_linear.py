"""The TF-IDF baseline on data that scikit-learn's defaults refuse."""

import numpy as np
import pytest
from datasets import Dataset

from attar.training.linear import fit_linear


@pytest.mark.parametrize("texts", [["M K V L A", "L L K"], ["🙂 🙂", "🙁"], ["好", "坏"]])
def test_texts_without_a_word_of_two_characters(texts, make_task):
    rows = Dataset.from_dict({"text": texts * 5, "label": [0, 1] * 5})
    model = fit_linear(rows, make_task())
    assert model.logits(rows).argmax(-1).tolist() == [0, 1] * 5


@pytest.mark.parametrize("kind", ["single-label", "token"])
def test_one_class_in_training_is_what_it_says(kind, make_task):
    task = make_task(kind)
    one = 1 if kind == "single-label" else [1, 1]
    texts = ["a film", "b film"] if kind != "token" else [["a", "film"]] * 2
    rows = Dataset.from_dict({"text": texts, "label": [one] * 2})
    model = fit_linear(rows, task)
    assert set(model.logits(rows).argmax(-1).tolist()) == {1}
    assert model.size == 0


@pytest.mark.filterwarnings("ignore:Label not")
def test_a_label_that_is_never_set_has_no_coefficients(make_task):
    task = make_task("multi-label")
    labels = np.zeros((8, task.n_outputs), np.float32)
    labels[::2, 0] = 1
    rows = Dataset.from_dict({"text": ["good film", "bad film"] * 4, "label": labels.tolist()})
    model = fit_linear(rows, task)
    assert (model.logits(rows)[:, 1:] <= 0).all()
    assert model.size == 5 + 1

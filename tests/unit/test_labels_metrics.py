import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk

from attar.data.encoding import encode
from attar.data.labels import collect_labels, plain_labels
from attar.training.evaluation import eval_split
from attar.training.metrics import agreement, entity_f1, evaluate_logits


def test_single_labels_of_an_unlabelled_split_are_missing(rows, make_task):
    parts = [(rows(["a", "b"], label=[1, 0]), True), (rows(["c"], label=[1]), False), (rows(["d"]), False)]
    labels = collect_labels(parts, make_task(), None)
    assert labels.values.dtype == np.int64
    assert labels.take(np.array([0, 1, 2, 3])).tolist() == [1, 0, -100, -100]
    assert labels.take(np.array([3, 0])).tolist() == [-100, 1]


def test_multi_labels_of_an_unlabelled_split_are_missing(rows, make_task):
    parts = [(rows(["a", "b"], label=[[1.0, 0.0], [1.0, 1.0]]), True), (rows(["c"]), False)]
    found = collect_labels(parts, make_task("multi-label"), None).take(np.array([2, 1, 0]))
    assert found.dtype == torch.float32
    assert found[1:].tolist() == [[1, 1], [1, 0]]
    assert found[0].isnan().all()


def test_regression_labels_are_a_column_and_missing_ones_nan(rows, make_task):
    parts = [(rows(["a"]), False), (rows(["b", "c"], label=[2.5, -1.0]), True)]
    found = collect_labels(parts, make_task("regression"), None).take(np.array([0, 1, 2]))
    assert found.shape == (3, 1)
    assert found.dtype == torch.float32
    assert found[0].isnan().all()
    assert found[1:].tolist() == [[2.5], [-1.0]]


TOKENS = [["anna", "saw", "\u200d", "rome"], ["bob"], ["unhappyly", "paris", "good"]]
TAGS = [[1, 0, 2, 3], [1], [0, 3, 4]]


def test_token_labels_follow_the_words_that_have_a_prediction(rows, make_task, tokenizer):
    labelled, unlabelled = rows(TOKENS, label=TAGS), rows([["anna", "met", "bob"]])
    encoded = encode([labelled, unlabelled], tokenizer, 5)
    labels = collect_labels([(labelled, True), (unlabelled, False)], make_task("token"), encoded)
    # "\u200d" yields no piece; "paris" and "good" do not fit behind the three pieces of "unhappyly".
    assert labels.take(np.array([0])).tolist() == [1, 0, 3]
    assert labels.take(np.array([2, 1])).tolist() == [0, 1]
    assert labels.take(np.array([3])).tolist() == [-100] * 3


def test_token_labels_lie_in_the_rows_of_the_logits(rows, make_task, tokenizer, make_model):
    split = eval_split(rows(TOKENS, label=TAGS), tokenizer, 5, make_task("token"))
    model = make_model(kind="token", labels=make_task("token").labels)
    outputs = split.outputs(model, "float32")
    assert len(outputs.logits) == len(outputs.labels) == outputs.counts.sum() == 5
    alone = model(**tokenizer([["bob"]], is_split_into_words=True, return_tensors="pt")).logits[0, 1]
    assert outputs.logits[3] == pytest.approx(alone.detach().numpy(), abs=1e-5)


def test_plain_labels_hold_every_word_before_any_limit(rows, make_task):
    labels, counts = plain_labels(rows(TOKENS, label=TAGS), make_task("token"))
    assert labels.tolist() == [tag for tags in TAGS for tag in tags]
    assert counts.tolist() == [4, 1, 3]


@pytest.mark.parametrize(
    ("kind", "values"), [("single-label", [1, 0]), ("multi-label", [[1, 0], [0, 0]]), ("regression", [1.5, 2.0])]
)
def test_plain_labels_of_texts(rows, make_task, kind, values):
    labels, counts = plain_labels(rows(["a", "b"], label=values), make_task(kind))
    assert labels.tolist() == values
    assert counts.tolist() == [1, 1]


def draw(n, c, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, c)).astype(np.float32) * 2, generator


def test_classes_equal_scikit_learn(make_task):
    task = make_task(labels=("x", "y", "z"))
    logits, generator = draw(60, 3)
    labels = generator.integers(0, 3, 60)
    predicted = logits.argmax(-1)
    found = evaluate_logits(logits, labels, task)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(labels, predicted))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(labels, predicted, average="macro"))
    assert found["mcc"] == pytest.approx(sk.matthews_corrcoef(labels, predicted))
    assert found["confusion"] == sk.confusion_matrix(labels, predicted).tolist()
    report = sk.classification_report(labels, predicted, target_names=task.labels, output_dict=True)
    for name in task.labels:
        expected = report[name]
        assert found["per_class"][name] == {
            "precision": pytest.approx(expected["precision"]),
            "recall": pytest.approx(expected["recall"]),
            "f1": pytest.approx(expected["f1-score"]),
            "support": expected["support"],
        }


def test_confusion_has_a_row_for_every_label_also_the_absent(make_task):
    logits = np.array([[5.0, 0, 0], [0, 0, 5.0]])
    found = evaluate_logits(logits, np.array([0, 0]), make_task(labels=("x", "y", "z")))
    assert found["confusion"] == [[1, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert found["per_class"]["y"]["support"] == 0
    # One true class, recall 1/2 and precision 1: macro over the classes that occur.
    assert found["macro_f1"] == pytest.approx(2 / 3)


def test_expected_calibration_error_of_a_hand_made_example(make_task):
    """Guo et al. 2017, eq. 3: |1 - 0.95| * 2/4 + |0 - 0.65| * 1/4 + |1 - 0.62| * 1/4, the last two in one bin."""
    confidence = np.array([0.95, 0.95, 0.65, 0.62])
    logits = np.stack([np.log(confidence), np.log(1 - confidence)], -1)
    found = evaluate_logits(logits, np.array([0, 0, 1, 0]), make_task())
    assert found["ece"] == pytest.approx(0.05 * 0.5 + abs(0.5 - 0.635) * 0.5)
    assert [(b["count"], b["accuracy"]) for b in found["calibration"]] == [(2, 0.5), (2, 1.0)]
    assert found["calibration"][0]["confidence"] == pytest.approx(0.635)


def test_calibration_counts_every_row_once_also_at_certainty(make_task):
    logits = np.array([[1000.0, 0], [0, 1000.0], [0.0, 0.0]])
    found = evaluate_logits(logits, np.array([0, 0, 0]), make_task())
    assert sum(b["count"] for b in found["calibration"]) == 3
    assert found["ece"] == pytest.approx((2 * 0.5 + 1 * 0.5) / 3)


def test_multi_labels_equal_scikit_learn(make_task):
    task = make_task("multi-label", ("x", "y", "z"))
    logits, generator = draw(50, 3)
    labels = (generator.random((50, 3)) < 0.3).astype(np.float32)
    predicted = logits > 0
    found = evaluate_logits(logits, labels, task)
    assert found["micro_f1"] == pytest.approx(sk.f1_score(labels, predicted, average="micro"))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(labels, predicted, average="macro"))
    assert found["subset_accuracy"] == pytest.approx(sk.accuracy_score(labels, predicted))
    for i, name in enumerate(task.labels):
        assert found["per_class"][name]["f1"] == pytest.approx(sk.f1_score(labels[:, i], predicted[:, i]))
        assert found["per_class"][name]["support"] == labels[:, i].sum()
    assert sum(b["count"] for b in found["calibration"]) == 150


def test_a_multi_label_task_of_one_label_scores_that_label(make_task):
    """One hit, one miss, no false alarm: precision 1, recall 1/2, F1 2/3."""
    logits, labels = np.array([[1.0], [-1], [-1], [-1]]), np.array([[1.0], [1], [0], [0]])
    found = evaluate_logits(logits, labels, make_task("multi-label", ("toxic",)))
    assert found["micro_f1"] == pytest.approx(2 / 3)
    assert found["macro_f1"] == pytest.approx(2 / 3)
    assert found["per_class"] == {
        "toxic": {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2},
    }


@pytest.mark.parametrize("column", [True, False])
def test_regression_equals_scipy(make_task, column):
    logits, generator = draw(40, 1)
    labels = logits[:, 0] + generator.normal(size=40)
    found = evaluate_logits(logits, labels[:, None] if column else labels, make_task("regression"))
    assert found["pearson"] == pytest.approx(stats.pearsonr(logits[:, 0], labels).statistic)
    assert found["spearman"] == pytest.approx(stats.spearmanr(logits[:, 0], labels).statistic)
    assert found["mse"] == pytest.approx(np.mean((logits[:, 0] - labels) ** 2))
    assert found["mae"] == pytest.approx(np.mean(np.abs(logits[:, 0] - labels)))


@pytest.mark.filterwarnings("ignore::scipy.stats.ConstantInputWarning")
def test_the_correlation_of_a_constant_is_zero(make_task):
    found = evaluate_logits(np.ones((5, 1)), np.arange(5.0), make_task("regression"))
    assert (found["pearson"], found["spearman"]) == (0.0, 0.0)
    assert agreement(np.ones((5, 1)), np.arange(5.0)[:, None], "regression") == 0.0


@pytest.mark.parametrize(
    ("true", "predicted", "score"),
    [
        ("B-PER I-PER O", "B-PER I-PER O", 1.0),
        ("B-PER I-PER O", "B-PER O O", 0.0),  # another span
        ("B-PER O", "B-LOC O", 0.0),  # another type
        ("B-PER O B-LOC", "B-PER O O", 2 / 3),
        ("O B-PER I-PER", "O B-PER I-PER", 1.0),  # ends with the text
        ("B-PER I-LOC", "B-PER B-LOC", 1.0),  # I- after another type begins an entity
        ("O I-PER I-PER", "O B-PER I-PER", 1.0),  # I- after O too
        ("B-PER B-PER", "B-PER I-PER", 0.0),  # two entities against one
        ("B-PER I-LOC I-LOC", "B-PER I-PER I-PER", 0.0),
        ("O O", "O O", 0.0),
        ("O O", "B-PER O", 0.0),
        ("", "", 0.0),
    ],
)
def test_entity_f1_of_hand_made_tags(true, predicted, score):
    assert entity_f1([true.split()], [predicted.split()]) == pytest.approx(score)


def test_an_entity_does_not_cross_the_border_of_texts():
    split, joined = [["O", "B-PER"], ["I-PER", "O"]], [["O", "B-PER", "I-PER", "O"]]
    assert entity_f1(split, [["O", "B-PER"], ["B-PER", "O"]]) == 1.0
    assert entity_f1(joined, [["O", "B-PER", "B-PER", "O"]]) == 0.0


def test_the_same_span_in_another_text_is_no_hit():
    assert entity_f1([["B-PER"], ["O"]], [["O"], ["B-PER"]]) == 0.0


def test_token_tasks_score_words_and_entities(make_task):
    task = make_task("token")
    labels = np.array([1, 2, 0, 3])
    logits = np.eye(5)[[1, 2, 0, 0]] * 4
    found = evaluate_logits(logits, labels, task, counts=[3, 1])
    assert found["accuracy"] == 0.75
    assert found["entity_f1"] == pytest.approx(2 / 3)
    assert "confusion" not in found
    # Cut after the first word, "B-PER" and "I-PER" are two entities in truth and prediction alike.
    assert evaluate_logits(logits, labels, task, counts=[1, 3])["entity_f1"] == pytest.approx(4 / 5)


def test_token_tasks_without_bio_tags_have_no_entities(make_task):
    found = evaluate_logits(np.eye(2), np.array([0, 1]), make_task("token", ("noun", "verb")), counts=[2])
    assert "entity_f1" not in found


def test_agreement_counts_equal_decisions():
    one, other = np.array([[2.0, 1], [0, 1], [3, 0]]), np.array([[9.0, 0], [1, 0], [1, 0]])
    assert agreement(one, other, "single-label") == pytest.approx(2 / 3)
    assert agreement(one - 1.5, other - 0.5, "multi-label") == pytest.approx(5 / 6)
    assert agreement(one, one * 2 + 1, "single-label") == 1.0
    assert agreement(one[:, :1], -one[:, :1] * 3 + 1, "regression") == pytest.approx(-1)


def test_one_row_has_no_correlation(make_task):
    found = evaluate_logits(np.array([[0.5]]), np.array([0.4]), make_task("regression"))
    assert (found["pearson"], found["spearman"]) == (0.0, 0.0)
    assert agreement(np.array([[0.5]]), np.array([[0.1]]), "regression") == 0.0

import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import attar
from attar.config import TeacherConfig
from attar.data.outputs import decode, logits_of_probabilities, probabilities
from attar.data.task import align_labels
from attar.errors import ConfigError, DataError, ModelError
from attar.exporting.export import export_bundle
from attar.records import write_json
from attar.teacher.open import BundleTeacher, Ensemble, open_teacher
from attar.teacher.scores import Scores, parse_scores, score_columns

LABELS = ("bad", "fine", "good")
TEXTS = ["good film", "awful and dull", "the plot is not very good !"]


def direct(folder, texts=TEXTS):
    """Raw logits of every text alone, in the teacher's own order of labels."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return np.concatenate([model(**tokenizer(t, return_tensors="pt")).logits.numpy() for t in texts])


def answers(teacher, rows, texts=TEXTS):
    return teacher.logits([rows(texts)], "score").take(np.arange(len(texts)))


@pytest.fixture
def task(make_task):
    return make_task(labels=LABELS)


def test_a_teacher_answers_in_the_tasks_order_of_labels(make_folder, rows, task):
    folder = make_folder(kind="single-label", labels=("good", "bad", "fine"))
    found = answers(open_teacher(TeacherConfig(bundles=(folder,)), task), rows)
    own = dict(zip(("good", "bad", "fine"), direct(folder).T, strict=True))
    assert found == pytest.approx(np.stack([own[label] for label in LABELS], -1), abs=1e-5)
    assert not np.allclose(found, direct(folder), atol=1e-2)


def test_teachers_that_differ_in_label_order_alone_share_no_column_but_agree(make_folder, rows, task):
    """The same weights with permuted rows in the head are the same teacher."""
    folder = make_folder("plain", kind="single-label", labels=LABELS)
    permuted = make_folder("permuted", kind="single-label", labels=("good", "bad", "fine"))
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.classifier.weight.copy_(model.classifier.weight[[2, 0, 1]].clone())
        model.classifier.bias.copy_(model.classifier.bias[[2, 0, 1]].clone())
    model.config.id2label = dict(enumerate(("good", "bad", "fine")))
    model.config.label2id = {label: i for i, label in enumerate(("good", "bad", "fine"))}
    model.save_pretrained(permuted)
    one, other = (answers(BundleTeacher(path, task), rows) for path in (folder, permuted))
    assert one == pytest.approx(other, abs=1e-6)


def test_generic_labels_are_taken_to_be_in_the_tasks_order(make_folder, rows, task):
    folder = make_folder(kind="single-label", labels=("LABEL_0", "LABEL_1", "LABEL_2"))
    assert answers(BundleTeacher(folder, task), rows) == pytest.approx(direct(folder), abs=1e-5)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("good", "bad", "fine"), [1, 2, 0]),
        (LABELS, [0, 1, 2]),
        (("LABEL_0", "LABEL_1", "LABEL_2"), [0, 1, 2]),
    ],
)
def test_alignment_names_the_teachers_column_of_each_label(task, names, expected):
    assert align_labels(names, task) == expected


@pytest.mark.parametrize(
    "names", [("bad", "fine"), ("bad", "fine", "great"), ("LABEL_0", "LABEL_1"), ("LABEL_1", "LABEL_0", "LABEL_2")]
)
def test_other_labels_are_refused(task, names):
    with pytest.raises(ModelError, match=r"the teacher's labels are .* the data's are \['bad', 'fine', 'good'\]"):
        align_labels(names, task)


def test_a_regression_teacher_of_any_name_fits(make_task):
    assert align_labels(("stars",), make_task("regression")) == [0]
    with pytest.raises(ModelError, match="the teacher's labels"):
        align_labels(("stars", "price"), make_task("regression"))


def test_other_labels_are_refused_before_anything_is_scored(make_folder, task, cache):
    folder = make_folder(kind="single-label", labels=("x", "y", "z"))
    with pytest.raises(ModelError, match="fine-tuned on these labels"):
        open_teacher(TeacherConfig(bundles=(folder,)), task)
    assert not cache.exists()


@pytest.mark.parametrize(("kind", "wanted"), [("single-label", "sequence"), ("token", "token")])
def test_a_teacher_without_a_head_is_refused_with_how_to_make_one(make_folder, make_task, kind, wanted):
    folder = make_folder(kind=None)
    with pytest.raises(ModelError, match=f"no {wanted} classification head; fine-tune it first: attar finetune"):
        open_teacher(TeacherConfig(bundles=(folder,)), make_task(kind))


def test_a_teacher_with_a_head_for_another_kind_is_refused(make_folder, make_task):
    folder = make_folder(kind="single-label")
    with pytest.raises(ModelError, match="no token classification head"):
        open_teacher(TeacherConfig(bundles=(folder,)), make_task("token"))


def test_a_folder_that_is_no_model_is_refused(tmp_path, task):
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        open_teacher(TeacherConfig(bundles=(str(tmp_path),)), task)


@pytest.mark.parametrize(
    ("config", "found"),
    [({}, "neither"), ({"bundles": ("a",), "scores": "probs:bad=a"}, "both")],
)
def test_a_teacher_is_either_bundles_or_score_columns(task, config, found):
    with pytest.raises(ConfigError, match=f"found {found}"):
        open_teacher(TeacherConfig(**config), task)


def test_the_length_limit_is_the_manifests_or_else_the_tokenizers(make_folder, task, tmp_path):
    folder = make_folder(kind="single-label", labels=LABELS)
    assert BundleTeacher(folder, task).max_length == 64
    write_json({"format": 1, "max_length": 17}, tmp_path / "teacher" / "attar.json")
    assert BundleTeacher(folder, task).max_length == 17


def test_an_export_answers_in_its_teachers_place(make_folder, rows, task, tmp_path):
    folder = make_folder(kind="single-label", labels=("good", "bad", "fine"))
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS))
    export = export_bundle(folder, str(tmp_path / "export"), format="onnx-int8", data=str(texts), tolerance=100)["out"]
    teacher = open_teacher(TeacherConfig(bundles=(folder,), exports=(export,)), task)
    own = attar.load(export).logits(TEXTS)
    assert np.array_equal(answers(teacher, rows), own[:, [1, 2, 0]]), "in the task's order of labels"
    assert not np.allclose(own, direct(folder), atol=1e-6), "int8 is not the source"
    plain = answers(open_teacher(TeacherConfig(bundles=(folder,)), task), rows)
    assert plain == pytest.approx(direct(folder)[:, [1, 2, 0]], abs=1e-5), "the cache tells them apart"


def test_an_export_of_another_model_is_refused(make_folder, task, tmp_path):
    folder = make_folder(kind="single-label", labels=LABELS)
    config = {"bundles": (folder,), "exports": (folder,)}
    with pytest.raises(ModelError, match="is not what attar export writes"):
        open_teacher(TeacherConfig(**config), task)
    write_json(
        {"format": 1, "export": {"source": "another", "file": "model.onnx"}}, tmp_path / "teacher" / "attar.json"
    )
    other = make_folder("other", kind="single-label", labels=LABELS, seed=3)
    with pytest.raises(ModelError, match="another model"):
        open_teacher(TeacherConfig(bundles=(other,), exports=(folder,)), task)
    with pytest.raises(ConfigError, match="found 2 for 1"):
        open_teacher(TeacherConfig(bundles=(other,), exports=(folder, folder)), task)


def softmax(logits):
    e = np.exp(logits.astype(np.float64))
    return e / e.sum(-1, keepdims=True)


@pytest.fixture
def pair_of_teachers(make_folder):
    """Two teachers with other weights and, for classes, another order of labels."""

    def _make(kind, labels):
        return [
            make_folder("one", kind=kind, labels=labels, seed=1),
            make_folder("two", kind=kind, labels=labels[::-1], seed=2),
        ]

    return _make


@pytest.mark.parametrize("combine", ["probabilities", "logits"])
@pytest.mark.parametrize("kind", ["single-label", "multi-label", "regression"])
def test_an_ensemble_is_the_mean_of_its_members(pair_of_teachers, make_task, rows, kind, combine):
    task = make_task(kind, LABELS if kind != "regression" else ("score",))
    one, two = pair_of_teachers(kind, task.labels)
    teacher = open_teacher(TeacherConfig(bundles=(one, two), combine=combine), task)
    assert isinstance(teacher, Ensemble)
    first, second = direct(one), direct(two)[:, ::-1]
    found = answers(teacher, rows)
    assert found.dtype == np.float32
    if combine == "logits" or kind == "regression":
        assert found == pytest.approx((first + second) / 2, abs=1e-5)
    elif kind == "single-label":
        assert softmax(found) == pytest.approx((softmax(first) + softmax(second)) / 2, abs=1e-5)
        assert found.mean(-1) == pytest.approx(0, abs=1e-6)
    else:
        mean = (1 / (1 + np.exp(-first)) + 1 / (1 + np.exp(-second))) / 2
        assert 1 / (1 + np.exp(-found)) == pytest.approx(mean, abs=1e-5)


def test_an_ensemble_of_one_teacher_twice_is_that_teacher(make_folder, make_task, rows):
    task = make_task(labels=LABELS)
    folder = make_folder(kind="single-label", labels=LABELS)
    twice = answers(open_teacher(TeacherConfig(bundles=(folder, folder), combine="logits"), task), rows)
    assert np.array_equal(twice, answers(BundleTeacher(folder, task), rows))


def test_probabilities_are_softmax_sigmoid_or_the_value():
    logits = np.array([[1.0, -2.0, 800.0], [0.0, 0.0, 0.0]], np.float32)
    assert probabilities(logits, "single-label") == pytest.approx(np.array([[0, 0, 1], [1 / 3] * 3]))
    assert probabilities(logits[:, :2], "multi-label")[0] == pytest.approx([0.7310585786, 0.1192029220])
    assert np.array_equal(probabilities(logits, "regression"), logits)


@pytest.mark.parametrize("kind", ["single-label", "token", "multi-label"])
def test_logits_of_probabilities_invert_probabilities(kind):
    logits = np.random.default_rng(0).normal(size=(20, 4)) * 2
    chances = probabilities(logits, kind)
    back = logits_of_probabilities(chances, kind)
    assert probabilities(back, kind) == pytest.approx(chances, abs=1e-5)
    if kind == "multi-label":
        assert back == pytest.approx(logits, abs=1e-3)
    else:
        assert back == pytest.approx(logits - logits.mean(-1, keepdims=True), abs=1e-3)


@pytest.mark.parametrize("kind", ["single-label", "multi-label"])
def test_certain_probabilities_give_finite_logits(kind):
    back = logits_of_probabilities(np.array([[0.0, 1.0], [1.0, 0.0]]), kind)
    assert np.isfinite(back).all()
    assert back.argmax(-1).tolist() == [1, 0]


def test_decoding_gives_labels_and_the_confidence_in_them(make_task):
    logits = np.log(np.array([[0.2, 0.8], [0.6, 0.4]]))
    labels, sure = decode(logits, make_task())
    assert (labels, sure) == (["pos", "neg"], pytest.approx([0.8, 0.6]))
    labels, sure = decode(np.array([[3.0, -1.0], [-1.0, -4.0]]), make_task("multi-label"))
    assert (labels, sure) == ([["neg"], []], pytest.approx([1 / (1 + np.exp(-1))] * 2))
    assert decode(np.array([[2.5]]), make_task("regression")) == ([2.5], [None])


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("probs:bad=p bad, good=p_good,fine=f", ("p bad", "f", "p_good")),
        ("logits:good=c,fine=b,bad=a", ("a", "b", "c")),
    ],
)
def test_score_columns_are_put_in_the_tasks_order(task, text, columns):
    assert parse_scores(text, task) == Scores(text.partition(":")[0], columns)
    assert set(score_columns(text)) == set(columns)


def test_a_label_with_an_equals_sign_is_read_up_to_the_last_one(make_task):
    task = make_task(labels=("a=b", "c"))
    assert parse_scores("probs:a=b=x,c=y", task).columns == ("x", "y")


def test_a_value_column_for_regression(make_task):
    assert parse_scores("value: stars", make_task("regression")) == Scores("value", ("stars",))


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("single-label", "probs:bad=a,god=b,fine=c", "'god'; did you mean 'good'"),
        ("single-label", "probs:bad=a,good=b", "no column for the label 'fine'"),
        ("single-label", "value:a", "starts with probs or logits; found 'value'"),
        ("single-label", "chances:bad=a", "starts with probs or logits; found 'chances'"),
        ("single-label", "bad=a,good=b", "expects probs:LABEL=COLUMN"),
        ("single-label", "probs:bad=,good=b", "expects probs:LABEL=COLUMN"),
        ("regression", "probs:score=a", "starts with value; found 'probs'"),
        ("regression", "value:a,b", "names one column; found a, b"),
        ("token", "probs:O=a", "one score a text"),
    ],
)
def test_scores_of_another_form_are_refused(make_task, kind, text, message):
    task = make_task(kind, LABELS if kind == "single-label" else None)
    with pytest.raises(ConfigError, match=message):
        parse_scores(text, task)


def scored(rows, **columns):
    return rows(["x"] * len(next(iter(columns.values()))), **columns)


def open_scores(text, task):
    return open_teacher(TeacherConfig(scores=text), task)


PROBS = "probs:bad=a,fine=b,good=c"


def test_columns_of_probabilities_become_logits(rows, task):
    part = scored(rows, c=[0.7, 0.1], a=[0.1, 0.1], b=[0.2, 0.8])
    other = scored(rows, a=[0.0], b=[1.0], c=[0.0])
    teacher = open_scores(PROBS, task)
    found = teacher.logits([part, other]).take(np.array([2, 0, 1]))
    assert softmax(found) == pytest.approx(np.array([[0, 1, 0], [0.1, 0.2, 0.7], [0.1, 0.8, 0.1]]), abs=1e-5)
    assert found.dtype == np.float32
    assert teacher.max_length is None


def test_columns_of_logits_and_values_stay_as_they_are(rows, task, make_task):
    part = scored(rows, a=[-3.0, 40.0], b=[1.0, 2.0], c=[0.5, 0.25])
    found = open_scores("logits:good=c,bad=a,fine=b", task).logits([part]).take(np.array([0, 1]))
    assert found.tolist() == [[-3.0, 1.0, 0.5], [40.0, 2.0, 0.25]]
    assert open_scores("value:b", make_task("regression")).logits([part]).take(np.array([1, 0])).tolist() == [[2], [1]]


def test_multi_label_probabilities_need_no_sum(rows, make_task):
    part = scored(rows, a=[0.9, 0.0], b=[0.8, 0.5])
    found = open_scores("probs:neg=a,pos=b", make_task("multi-label")).logits([part]).take(np.array([0, 1]))
    assert 1 / (1 + np.exp(-found)) == pytest.approx(np.array([[0.9, 0.8], [0, 0.5]]), abs=1e-5)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [0.5], "b": [0.5]}, r"score column 'c' is not in all .*\(columns there: text, a, b\)"),
        ({"a": [0.1, 0.1], "b": [0.1, None], "c": [0.8, 0.9]}, "empty or non-finite score in row 2"),
        ({"a": [float("nan")], "b": [0.1], "c": [0.8]}, "empty or non-finite score in row 1"),
        ({"a": [0.1, -0.01], "b": [0.1, 0.5], "c": [0.8, 0.5]}, r"0 to 1, found \[-0.01, 0.5, 0.5\] in row 2"),
        ({"a": [1.5], "b": [0.1], "c": [0.8]}, "give raw scores as logits"),
    ],
)
def test_scores_that_are_missing_or_no_probabilities_are_refused(rows, task, columns, message):
    with pytest.raises(DataError, match=message):
        open_scores(PROBS, task).logits([scored(rows, **columns)])


def test_an_ensemble_for_words_needs_one_tokenizer(make_folder, make_task, tmp_path):
    one = make_folder(kind="token")
    two = shutil.copytree(one, tmp_path / "two")
    tokenizer = AutoTokenizer.from_pretrained(two)
    tokenizer.add_tokens(["wonderful"])
    tokenizer.save_pretrained(two)
    with pytest.raises(ConfigError, match="teachers of one tokenizer"):
        open_teacher(TeacherConfig(bundles=(one, str(two))), make_task("token", ("neg", "pos")))

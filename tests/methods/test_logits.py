"""Logit distillation: which loss, which student, which teachers, and words that line up."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from settings import DEPTH, TASK, TEXTS, TRAIN, WORDS, distil_context, save_model, task_data, tiny_tokenizer
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from attar.config import TeacherConfig
from attar.data.task import Task, TaskData
from attar.errors import ConfigError
from attar.methods.contract import Context
from attar.methods.logits.config import Logits
from attar.methods.logits.plan import plan
from attar.objectives.distillation import distillation_loss
from attar.teacher.open import open_teacher
from attar.training.evaluation import eval_split
from attar.training.examples import stage_examples
from attar.training.loop import run_stage


def outputs(n=5, c=3, seed=0):
    return torch.randn(n, c, generator=torch.Generator().manual_seed(seed))


def first_loss(stage) -> float:
    """The stage's loss over all its rows before any step, without dropout."""
    examples = stage_examples(stage)
    batch = examples.batch(list(range(len(examples))))
    with torch.inference_mode():
        return stage.objective(stage.model.eval(), batch)["loss"].item()


# The loss -----------------------------------------------------------------------------------------------------------


def softened(logits, temperature):
    return [[np.exp(v / temperature) / sum(np.exp(row / temperature)) for v in row] for row in logits.double().numpy()]


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("loss", ["kl", "soft-ce", "mse"])
def test_each_loss_is_its_formula_at_its_temperature(loss, temperature):
    student, teacher = outputs(), outputs(seed=1)
    s, t = np.array(softened(student, temperature)), np.array(softened(teacher, temperature))
    expected = {
        "kl": (t * np.log(t / s)).sum(-1).mean() * temperature**2,
        "soft-ce": -(t * np.log(s)).sum(-1).mean() * temperature**2,
        "mse": (student - teacher).square().sum(-1).mean().item(),
    }[loss]
    objective = distillation_loss(loss=loss, temperature=temperature, alpha=0.0, kind="single-label")
    found = objective(student, {"labels": torch.zeros(5, dtype=torch.long), "teacher_logits": teacher})
    assert set(found) == {"loss", "teacher_loss"}
    assert found["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_alpha_weighs_the_labels_and_rows_without_one_count_for_the_teacher_alone():
    student, teacher = outputs(), outputs(seed=1)
    labels = torch.tensor([0, -100, 2, -100, 1])
    objective = distillation_loss(loss="mse", temperature=1.0, alpha=0.25, kind="single-label")
    found = objective(student, {"labels": labels, "teacher_logits": teacher})
    known = labels != -100
    hard = F.cross_entropy(student[known], labels[known])
    torch.testing.assert_close(found["loss"], 0.25 * hard + 0.75 * (student - teacher).square().sum(-1).mean())


def test_alpha_1_never_looks_at_a_teacher():
    objective = distillation_loss(loss="kl", temperature=2.0, alpha=1.0, kind="single-label")
    student, labels = outputs(), torch.tensor([0, 1, 2, 0, 1])
    found = objective(student, {"labels": labels})
    torch.testing.assert_close(found["loss"], F.cross_entropy(student, labels))


def test_multi_label_softens_each_label_by_itself_and_is_zero_at_equality():
    student, teacher = outputs(), outputs(seed=1)
    objective = distillation_loss(loss="kl", temperature=2.0, alpha=0.0, kind="multi-label")
    s, t = torch.sigmoid(student / 2), torch.sigmoid(teacher / 2)
    expected = (t * (t / s).log() + (1 - t) * ((1 - t) / (1 - s)).log()).mean() * 4
    torch.testing.assert_close(objective(student, {"teacher_logits": teacher})["loss"], expected)
    assert objective(teacher, {"teacher_logits": teacher})["loss"].abs() < 1e-6


def test_regression_is_squared_error_whatever_loss_is_set():
    student, teacher = outputs(c=1), outputs(c=1, seed=1)
    objective = distillation_loss(loss="kl", temperature=2.0, alpha=0.0, kind="regression")
    torch.testing.assert_close(objective(student, {"teacher_logits": teacher})["loss"], F.mse_loss(student, teacher))


@pytest.mark.parametrize("changes", [{"alpha": 1.5}, {"alpha": -0.1}, {"temperature": 0.0}])
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        Logits(**changes)


# The student --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("student", "kept"), [("half", (0, 3)), ("layers:1,3", (1, 3)), ("layers:0,1,2,3", range(4))])
def test_a_cut_student_has_those_layers_and_the_rest_of_the_teacher_bit_for_bit(teacher, student, kept):
    stage = plan(Logits(student=student), distil_context(teacher, task_data(), TRAIN))[0]
    whole = AutoModelForSequenceClassification.from_pretrained(teacher)
    assert stage.model.config.num_hidden_layers == len(kept)
    for place, layer in enumerate(kept):
        ours, theirs = stage.model.bert.encoder.layer[place].state_dict(), whole.bert.encoder.layer[layer].state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    rest = {name: value for name, value in whole.state_dict().items() if ".layer." not in name}
    assert all(torch.equal(stage.model.state_dict()[name], value) for name, value in rest.items())


def test_a_whole_copy_of_the_teacher_has_no_loss_at_step_0(teacher):
    layers = ",".join(map(str, range(DEPTH)))
    stage = plan(Logits(student=f"layers:{layers}"), distil_context(teacher, task_data(), TRAIN))[0]
    assert first_loss(stage) == pytest.approx(0.0, abs=1e-5)
    half = plan(Logits(student="half"), distil_context(teacher, task_data(), TRAIN))[0]
    assert first_loss(half) > 1e-3


def test_a_copy_of_a_teacher_with_its_labels_in_another_order_has_no_loss_and_the_tasks_names(tmp_path):
    labels = ("c", "a", "b")
    teacher = save_model(tmp_path / "teacher", labels)
    task = Task(kind="single-label", text="text", label=("label",), labels=("a", "b", "c"))
    stage = plan(Logits(student="layers:0,1,2,3"), distil_context(teacher, task_data(task), TRAIN))[0]
    assert first_loss(stage) == pytest.approx(0.0, abs=1e-5)
    assert stage.model.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert stage.model.config.label2id == {"a": 0, "b": 1, "c": 2}


@pytest.mark.parametrize("student", ["layers:0,9", "layers:0,0", "layers:", "layers:first"])
def test_impossible_layers_are_refused(teacher, student):
    with pytest.raises(ConfigError, match="layer"):
        plan(Logits(student=student), distil_context(teacher, task_data(), TRAIN))


def test_a_student_by_folder_gets_a_head_of_the_task_drawn_with_the_seed(teacher, encoder):
    def head(seed):
        train = dataclasses.replace(TRAIN, seed=seed)
        stage = plan(Logits(student=encoder), distil_context(teacher, task_data(), train))[0]
        assert stage.model.config.id2label == TASK.id2label
        return stage.model.classifier.weight.detach().clone()

    assert torch.equal(head(0), head(0))
    assert not torch.equal(head(0), head(1))


def test_a_student_with_another_tokenizer_learns_text_tasks_from_its_own_pieces(teacher, tmp_path):
    other = save_model(tmp_path / "other", tokenizer=tiny_tokenizer(WORDS[::-1][:12]), seed=3, depth=1)
    train = dataclasses.replace(TRAIN, max_steps=60, batch_size=8)
    stage = plan(Logits(student=other), distil_context(teacher, task_data(), train))[0]
    examples = stage_examples(stage)
    own = stage.tokenizer(TEXTS[0])["input_ids"]
    assert examples.encoded.batch([0])["input_ids"][0].tolist() == own
    assert own != tiny_tokenizer()(TEXTS[0])["input_ids"]

    first = first_loss(stage)
    run_stage(stage, tmp_path / "work", title="")
    assert first_loss(stage) < 0.5 * first


# Ensembles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("combine", ["probabilities", "logits"])
def test_an_ensemble_is_the_mean_of_its_members_each_in_its_own_order_of_labels(tmp_path, combine):
    folders = [save_model(tmp_path / "a", ("neg", "pos")), save_model(tmp_path / "b", ("pos", "neg"), seed=1)]
    data = task_data()
    found = open_teacher(TeacherConfig(bundles=tuple(folders), combine=combine), TASK)
    signals = found.logits([data.train], "").take(np.arange(8))

    members = []
    for folder, columns in zip(folders, ([0, 1], [1, 0]), strict=True):
        net = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        with torch.inference_mode():
            members.append(net(**tiny_tokenizer()(list(TEXTS), padding=True, return_tensors="pt")).logits[:, columns])
    if combine == "logits":
        np.testing.assert_allclose(signals, torch.stack(members).mean(0), atol=1e-4)
    expected = torch.stack([m.softmax(-1) for m in members]).mean(0)
    if combine == "probabilities":
        np.testing.assert_allclose(torch.from_numpy(signals).softmax(-1), expected, atol=1e-4)


def test_a_student_of_an_ensemble_needs_a_name(teacher, encoder, tmp_path):
    bundles = (teacher, save_model(tmp_path / "b", seed=1))
    tutor = open_teacher(TeacherConfig(bundles=bundles), TASK)
    context = Context(data=task_data(), train=TRAIN, teacher=tutor, teacher_bundles=bundles)
    with pytest.raises(ConfigError, match=r"one teacher bundle, found 2.*--student NAME"):
        plan(Logits(student="half"), context)
    stage = plan(Logits(student=encoder), context)[0]
    run_stage(stage, tmp_path / "work", title="")
    assert np.isfinite(first_loss(stage))


# Word by word -------------------------------------------------------------------------------------------------------

TAGS = Task(kind="token", text="tokens", label=("tags",), labels=("O", "B-PER", "B-LOC"))
TAG_OF = {"anna": 1, "bob": 1, "paris": 2, "rome": 2}


def token_data(max_words=30) -> TaskData:
    """Words of one and of several pieces; one row is longer than the length limit."""
    tokens = [text.split() for text in TEXTS]
    tokens[3] = ["unheard", "anna", "zzz", "paris", "plotting", "rome"]
    tokens[4] = (["anna", "xyz", "in"] * 20)[:max_words]
    tags = [[TAG_OF.get(word, 0) for word in row] for row in tokens]
    rows = Dataset.from_dict({"text": tokens, "label": tags})
    return TaskData(task=TAGS, source="", fingerprint="0", train=rows, dev=rows, test=None, unlabelled=None)


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tagger") / "tagger"
    return save_model(folder, TAGS.labels, auto=AutoModelForTokenClassification)


@pytest.fixture
def train_as_tagger():
    """The length limit of a teacher that attar did not make is its tokenizer's."""
    return dataclasses.replace(TRAIN, max_length=40)


def test_a_tagger_copied_whole_has_no_loss_at_step_0_so_words_line_up(tagger, train_as_tagger):
    data = token_data()
    stage = plan(Logits(student="layers:0,1,2,3"), distil_context(tagger, data, train_as_tagger))[0]
    assert first_loss(stage) == pytest.approx(0.0, abs=1e-5)

    examples = stage_examples(stage)
    batch = examples.batch([4, 3, 0])
    kept = [len(examples.encoded.words(row)) for row in (4, 3, 0)]
    assert kept[0] < len(data.train[4]["text"]), "the long row must be cut for the test to mean anything"
    assert batch["word_starts"].sum(-1).tolist() == kept
    assert len(batch["labels"]) == len(batch["teacher_logits"]) == sum(kept)
    expected = [tag for row, n in zip((4, 3, 0), kept, strict=True) for tag in data.train[row]["label"][:n]]
    assert batch["labels"].tolist() == expected


def test_tags_are_learnt_from_the_teacher(tagger, train_as_tagger, tmp_path):
    train = dataclasses.replace(train_as_tagger, max_steps=60, batch_size=8, lr=3e-3)
    stage = plan(Logits(student="half"), distil_context(tagger, token_data(), train))[0]
    first = first_loss(stage)
    run_stage(stage, tmp_path, title="")
    assert first_loss(stage) < 0.3 * first
    split = eval_split(token_data().dev, stage.tokenizer, 40, TAGS)
    found = split.outputs(stage.model, "float32")
    wanted = stage.teacher.logits([token_data().dev], "").take(np.arange(8))
    assert found.logits.shape == wanted.shape
    assert (found.logits.argmax(-1) == wanted.argmax(-1)).mean() > 0.9


def test_tags_need_the_teachers_own_word_pieces(tagger, train_as_tagger, tmp_path):
    other = save_model(
        tmp_path / "other", TAGS.labels, auto=AutoModelForTokenClassification, tokenizer=tiny_tokenizer(WORDS[:9])
    )
    with pytest.raises(ConfigError, match=r"word by word.*tokenizer differs.*--student layers"):
        plan(Logits(student=other), distil_context(tagger, token_data(), train_as_tagger))
    same = save_model(tmp_path / "same", TAGS.labels, auto=AutoModelForTokenClassification, seed=4, depth=1)
    stage = plan(Logits(student=same), distil_context(tagger, token_data(), train_as_tagger))[0]
    assert np.isfinite(first_loss(stage))


def test_tags_need_the_teachers_length_limit(tagger, train_as_tagger):
    short = dataclasses.replace(train_as_tagger, max_length=24)
    with pytest.raises(ConfigError, match=r"reads 40 tokens, the student 24; set train.max_length=40"):
        plan(Logits(), distil_context(tagger, token_data(), short))

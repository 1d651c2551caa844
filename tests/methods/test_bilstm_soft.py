"""biLSTM-SOFT as Tang et al. 2019 describe it: the lines of a faithful implementation, one by one."""

import dataclasses

import numpy as np
import pytest
import torch
from datasets import Dataset
from settings import ADADELTA, LABELS, SPECIAL, TASK, TEXTS, distil_context, save_model, task_data, tiny_tokenizer
from transformers import AutoModelForSequenceClassification, Trainer, TrainerCallback

from attar.config import Tang
from attar.data.augmentation.tang import augmented_dataset
from attar.data.task import Task, TaskData
from attar.errors import ConfigError
from attar.methods.bilstm_soft.config import TRAIN, BilstmSoft
from attar.methods.bilstm_soft.objective import soft_loss
from attar.methods.bilstm_soft.plan import plan
from attar.training.examples import stage_examples
from attar.training.loop import run_stage
from attar.training.trainer import StageTrainer

SMALL = BilstmSoft(width=12, hidden=10, projection=14, vectors="random")


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path, monkeypatch):
    """No answer is left over from another test, so that the teacher is really asked."""
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))


def random_logits(n=6, c=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, c, generator=generator, requires_grad=True)


# 1. The loss --------------------------------------------------------------------------------------------------------


def test_the_default_learns_from_logits_alone():
    assert BilstmSoft().alpha == 0.0
    objective = soft_loss(alpha=0.0, kind="single-label", has_teacher=True)
    student, teacher = random_logits(), random_logits(seed=1).detach()
    losses = objective(student, {"labels": torch.zeros(6, dtype=torch.long), "teacher_logits": teacher})
    assert set(losses) == {"loss", "teacher_loss"}
    expected = sum(float(((s - t) ** 2).sum()) for s, t in zip(student.detach(), teacher, strict=True)) / 6
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_the_gradient_is_zero_only_where_raw_logits_agree_not_where_probabilities_do():
    objective = soft_loss(alpha=0.0, kind="single-label", has_teacher=True)
    student = random_logits()
    for shift, zero in ((0.0, True), (1.0, False)):  # softmax does not see a shift
        batch = {"labels": torch.zeros(6, dtype=torch.long), "teacher_logits": student.detach() + shift}
        (gradient,) = torch.autograd.grad(objective(student, batch)["loss"], student)
        assert torch.count_nonzero(gradient).item() == (0 if zero else gradient.numel())


def test_alpha_weighs_labels_against_logits():
    student, teacher = random_logits(), random_logits(seed=1).detach()
    batch = {"labels": torch.tensor([0, 1, 2, 0, 1, 2]), "teacher_logits": teacher}
    found = soft_loss(alpha=0.3, kind="single-label", has_teacher=True)(student, batch)
    hard = torch.nn.functional.cross_entropy(student, batch["labels"])
    soft = (student - teacher).square().sum(-1).mean()
    torch.testing.assert_close(found["loss"], 0.3 * hard + 0.7 * soft)


@pytest.mark.parametrize(
    ("kind", "labels", "logits", "filled"),
    [
        ("single-label", [-100, 0], [[0.1, 2.0, -1.0], [0.0, 3.0, 0.0]], [1, 0]),
        ("multi-label", [[float("nan")] * 2, [1.0, 0.0]], [[0.5, -0.5], [-9.0, 9.0]], [[1.0, 0.0], [1.0, 0.0]]),
        ("regression", [[float("nan")], [2.0]], [[0.7], [9.0]], [[0.7], [2.0]]),
    ],
)
def test_a_text_without_a_label_is_labelled_by_the_teacher(kind, labels, logits, filled):
    student = random_logits(2, len(logits[0]))
    batch = {"labels": torch.tensor(labels), "teacher_logits": torch.tensor(logits)}
    objective = soft_loss(alpha=1.0, kind=kind, has_teacher=True)
    expected = soft_loss(alpha=1.0, kind=kind, has_teacher=False)
    torch.testing.assert_close(
        objective(student, batch)["loss"], expected(student, {"labels": torch.tensor(filled)})["loss"]
    )


# 2. Who labels the augmented text, and how --------------------------------------------------------------------------


def synthetic_of(data: TaskData) -> Dataset:
    return augmented_dataset(data.train, Tang(n_iter=4, p_mask=0.5, p_pos=0.1, p_ngram=0.1))


def test_the_teacher_answers_for_augmented_text_in_eval_mode_with_its_own_mask_token(tmp_path, monkeypatch):
    tokenizer = tiny_tokenizer(mask="<mask>")
    teacher = save_model(
        tmp_path / "teacher", tokenizer=tokenizer, hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5
    )
    data = task_data()
    synthetic = synthetic_of(data)
    masked = [text for text in synthetic["text"] if "[MASK]" in text]
    assert len(masked) > 5

    seen, modes = [], []
    from transformers import BertForSequenceClassification

    forward = BertForSequenceClassification.forward

    def spy(self, input_ids=None, **inputs):
        seen.extend(tokenizer.batch_decode(input_ids))
        modes.append((self.training, torch.is_grad_enabled()))
        return forward(self, input_ids=input_ids, **inputs)

    monkeypatch.setattr(BertForSequenceClassification, "forward", spy)
    stage = plan(SMALL, distil_context(teacher, data, ADADELTA, synthetic=synthetic))[0]
    examples = stage_examples(stage)
    monkeypatch.undo()

    assert set(modes) == {(False, False)}
    read = {text.replace("[PAD]", "").strip() for text in seen}
    assert len(read) == len({*data.train["text"], *synthetic["text"]})
    with_masks = [text for text in read if "<mask>" in text]
    assert len(with_masks) == len(set(masked))
    assert not any("MASK" in text or "[UNK]" in text for text in read)

    net = AutoModelForSequenceClassification.from_pretrained(teacher).eval()
    texts = [*data.train["text"], *synthetic["text"]]
    inputs = tokenizer([text.replace("[MASK]", "<mask>") for text in texts], padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = net(**inputs).logits
    signals = examples.teacher_logits.take(np.arange(len(texts)))
    np.testing.assert_allclose(signals, expected, atol=1e-4)
    assert len(examples) == len(texts)


def test_the_mask_is_a_word_of_the_student(teacher):
    data = task_data()
    stage = plan(SMALL, distil_context(teacher, data, ADADELTA, synthetic=synthetic_of(data)))[0]
    assert stage.tokenizer("the [MASK] was")["input_ids"][1] == stage.tokenizer.mask_token_id
    assert stage.tokenizer.mask_token_id not in (stage.tokenizer.unk_token_id, stage.tokenizer.pad_token_id)
    vector = stage.model.frozen_vectors.weight[stage.tokenizer.mask_token_id]
    assert vector.abs().sum() > 0


def test_unlabelled_and_synthetic_rows_have_no_label_of_their_own_under_a_teacher(teacher):
    data = task_data(unlabelled=["paris is bright", "dull rome"])
    context = distil_context(teacher, data, ADADELTA, synthetic=synthetic_of(data))
    examples = stage_examples(plan(dataclasses.replace(SMALL, alpha=0.5), context)[0])
    labels = examples.labels.values
    assert labels[: len(TEXTS)].tolist() == list(LABELS)
    assert set(labels[len(TEXTS) :].tolist()) == {-100}
    assert len(labels) == len(TEXTS) + 2 + len(context.synthetic)


def test_without_a_teacher_synthetic_rows_carry_their_origins_label_and_unlabelled_ones_are_left_out():
    data = task_data(unlabelled=["paris is bright"])
    synthetic = synthetic_of(data)
    stage = plan(SMALL, distil_context(None, data, ADADELTA, synthetic=synthetic))[0]
    examples = stage_examples(stage)
    origins = [LABELS[origin] for origin in synthetic["origin"]]
    assert examples.labels.values.tolist() == [*LABELS, *origins]
    assert examples.teacher_logits is None
    batch = examples.batch([0, 9])
    assert set(stage.objective(stage.model, batch)) == {
        "loss",
        "label_loss",
    }


# 3. The student -----------------------------------------------------------------------------------------------------


def test_both_channels_start_equal_and_only_one_moves(teacher, tmp_path):
    stage = plan(SMALL, distil_context(teacher, task_data(), ADADELTA))[0]
    start = stage.model.frozen_vectors.weight.clone()
    assert torch.equal(start, stage.model.tuned_vectors.weight)
    assert stage.model.lstm.input_size == 2 * SMALL.width
    run_stage(stage, tmp_path, title="")
    assert torch.equal(stage.model.frozen_vectors.weight, start)
    assert not torch.equal(stage.model.tuned_vectors.weight, start)


def test_the_paper_sizes_have_the_papers_963002_parameters_beside_the_vectors():
    stage = plan(BilstmSoft(vectors="random"), distil_context(None, task_data(), ADADELTA))[0]
    tables = 2 * stage.model.frozen_vectors.weight.numel()
    assert stage.model.frozen_vectors.weight.shape[1] == 300
    assert sum(p.numel() for p in stage.model.parameters()) - tables == 963_002


def test_vectors_come_from_the_teachers_encoder_by_default(teacher):
    stage = plan(BilstmSoft(width=12), distil_context(teacher, task_data(), ADADELTA))[0]
    table = stage.model.frozen_vectors.weight.detach()
    again = plan(BilstmSoft(width=12), distil_context(teacher, task_data(), dataclasses.replace(ADADELTA, seed=9)))[0]
    words = [i for word, i in stage.tokenizer.get_vocab().items() if word not in SPECIAL]
    assert torch.equal(table[words], again.model.frozen_vectors.weight[words]), "no word of theirs is random"
    assert table[words].std().item() == pytest.approx(0.15, rel=0.2)


# 4-5. Pooling and pairs ---------------------------------------------------------------------------------------------


def pair_context(folder):
    task = dataclasses.replace(TASK, text="a", pair="b")
    data = task_data(task, pair=list(reversed(TEXTS)))
    return distil_context(save_model(folder / "teacher"), data, ADADELTA)


def test_pairs_use_one_shared_lstm_and_eight_times_hidden_features(tmp_path):
    stage = plan(SMALL, pair_context(tmp_path))[0]
    model = stage.model.eval()
    assert model.projection.in_features == 8 * SMALL.hidden
    features = []
    model.projection.register_forward_hook(lambda module, inputs, output: features.append(inputs[0]))
    for first, second in (("the film was bad", "never saw it"), ("never saw it", "the film was bad")):
        model(**stage.tokenizer(first, second, return_tensors="pt"))
    (h1, h2, product, distance), (g1, g2, swapped_product, swapped_distance) = (f[0].split(20) for f in features)
    torch.testing.assert_close((h1, h2), (g2, g1))
    torch.testing.assert_close((product, distance), (swapped_product, swapped_distance))
    torch.testing.assert_close((product, distance), (h1 * h2, (h1 - h2).abs()))
    run_stage(stage, tmp_path / "work", title="")


def test_padding_never_changes_the_logits(teacher):
    stage = plan(SMALL, distil_context(teacher, task_data(), ADADELTA))[0]
    model = stage.model.eval()
    together = model(**stage.tokenizer(list(TEXTS), padding="max_length", return_tensors="pt")).logits
    alone = torch.cat([model(**stage.tokenizer(text, return_tensors="pt")).logits for text in TEXTS])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


# The optimiser, and the kinds of tasks ------------------------------------------------------------------------------


def test_the_loop_really_uses_adadelta_with_the_papers_rates_to_the_end(teacher, tmp_path, monkeypatch):
    assert (TRAIN.optimizer, TRAIN.lr, TRAIN.schedule, TRAIN.batch_size) == ("adadelta", 1.0, "constant", 50)
    found = []

    class Look(TrainerCallback):
        def on_step_end(self, args, state, control, optimizer=None, **_):
            inner = getattr(optimizer, "optimizer", optimizer)
            found.append((type(inner).__name__, inner.param_groups[0]["lr"], inner.param_groups[0]["rho"]))

    start = Trainer.__init__

    def with_look(self, *arguments, **named):
        start(self, *arguments, **named)
        self.add_callback(Look())

    monkeypatch.setattr(StageTrainer.__mro__[1], "__init__", with_look)
    train = dataclasses.replace(TRAIN, epochs=3, max_length=24, batch_size=4)
    run_stage(plan(SMALL, distil_context(teacher, task_data(), train))[0], tmp_path, title="")
    assert found == [("RowAdadelta", 1.0, 0.95)] * 6


def kind_data(kind):
    labels = {
        "multi-label": (("x", "y", "z"), [[float(i % 2), float(i % 3 == 0), 1.0] for i in range(8)]),
        "regression": (("value",), [i / 8 for i in range(8)]),
    }
    names, values = labels[kind]
    task = Task(kind=kind, text="text", label=names, labels=names)
    return task_data(task, label=values)


@pytest.mark.parametrize("kind", ["multi-label", "regression"])
def test_multi_label_and_regression_learn_the_teachers_outputs(kind, tmp_path):
    data = kind_data(kind)
    teacher = save_model(tmp_path / "teacher", data.task.labels)
    train = dataclasses.replace(ADADELTA, max_steps=160, batch_size=8)
    stage = plan(dataclasses.replace(SMALL, dropout=0.0), distil_context(teacher, data, train))[0]
    losses = [p["teacher_loss"] for p in run_stage(stage, tmp_path / "w", title="")["curve"] if "teacher_loss" in p]
    assert losses[-1] < losses[0]
    wanted = stage.teacher.logits([data.train], "").take(np.arange(8))
    with torch.inference_mode():
        found = stage.model.eval()(**stage.tokenizer(list(TEXTS), padding=True, return_tensors="pt")).logits
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).mean() < 0.5 * np.abs(wanted - wanted.mean(0)).mean()


def test_token_classification_is_refused_with_the_way_out(teacher):
    task = Task(kind="token", text="tokens", label=("tags",), labels=("O", "X"))
    data = dataclasses.replace(task_data(), task=task)
    with pytest.raises(ConfigError, match="--method logits"):
        plan(SMALL, distil_context(None, data, ADADELTA))

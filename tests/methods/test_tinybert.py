"""TinyBERT as Jiao et al. 2020 describe it: the lines of a faithful implementation, one by one."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from reference import layers as reference
from reference import losses
from safetensors.torch import load_file
from settings import DEPTH, HEADS, TASK, TEXTS, TRAIN, WIDTH, distil_context, save_model, task_data, tiny_tokenizer
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, AutoModelForTokenClassification, BertConfig, BertModel

from attar.config import TeacherConfig
from attar.data.encoding import encode
from attar.data.task import Task, TaskData
from attar.errors import ConfigError
from attar.methods.contract import Context, PretrainContext
from attar.methods.tinybert import pretrain
from attar.methods.tinybert.config import TinyBert, TinyBertPretraining
from attar.methods.tinybert.layers import layer_map, layer_table
from attar.methods.tinybert.objective import ProjectedStudent, layer_objective
from attar.methods.tinybert.plan import plan
from attar.methods.tinybert.student import shared_heads
from attar.nets.parameters import count_parameters
from attar.nets.surgery import thin_student
from attar.nets.taps import taps
from attar.recipe import config_of
from attar.teacher.open import open_teacher
from attar.training.examples import stage_examples
from attar.training.loop import run_stage

THIN = {"layers": 2, "width": 16, "feed_forward": 24}
TINY = TinyBert(**THIN, intermediate_epochs=2)
PARTS = ("embedding_loss", "hidden_loss", "attention_loss")


def first_loss(stage):
    batch = stage_examples(stage).batch(list(range(len(TEXTS))))
    with torch.no_grad():
        return stage.objective(stage.model.eval(), batch)


def planned(teacher, config=TINY, train=TRAIN, data=None):
    return plan(config, distil_context(teacher, data or task_data(), train))


def batch_of(texts=TEXTS):
    return dict(tiny_tokenizer()(list(texts), padding=True, return_tensors="pt"))


# Which layer learns which -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (4, 12, (2, 5, 8, 11)),  # the paper's 3, 6, 9, 12
        (6, 12, (1, 3, 5, 7, 9, 11)),
        (3, 6, (1, 3, 5)),
        (12, 12, tuple(range(12))),
        (1, 12, (11,)),
        (5, 12, (1, 4, 6, 9, 11)),  # 2.4, 4.8, 7.2, 9.6, 12
        (8, 12, (1, 2, 4, 5, 7, 8, 10, 11)),  # 1.5 goes up to 2
    ],
)
def test_the_layer_map_is_uniform_and_rounded_where_it_does_not_divide(student, teacher, expected):
    assert layer_map(student, teacher) == expected


def test_every_map_ends_at_the_last_layer_and_no_layer_teaches_twice():
    for teacher in range(1, 26):
        for student in range(1, teacher + 1):
            layers = layer_map(student, teacher)
            assert layers[-1] == teacher - 1
            assert list(layers) == sorted(set(layers))
            if teacher % student == 0:
                assert layers == tuple((m + 1) * teacher // student - 1 for m in range(student))


def test_a_student_deeper_than_its_teacher_is_refused():
    with pytest.raises(ConfigError, match="at most the teacher's 6 layers, found 7"):
        layer_map(7, 6)


def test_the_map_is_shown_as_a_table_counted_from_1(teacher):
    assert layer_table((2, 5, 8, 11)) == [
        "student layer           0   1   2   3   4",
        "learns teacher layer    0   3   6   9  12",
    ]
    assert planned(teacher)[0].notes[:2] == layer_table((1, 3))


# Sizes --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def four():
    """TinyBERT4 and its teacher, without memory."""
    with torch.device("meta"):
        teacher = BertModel(BertConfig())
        return thin_student(teacher, layers=4, width=312, heads=12, feed_forward=1200), teacher


@pytest.mark.parametrize(("projections", "extra"), [("shared", 240_384), ("separate", 2 * 240_384)])
def test_tinybert4_has_the_papers_parameters_and_its_projections_come_on_top(four, projections, extra):
    student, _ = four
    with torch.device("meta"):
        model = ProjectedStudent(student, 768, projections=projections)
    assert count_parameters(student)[0] == 14_350_248
    assert count_parameters(model)[0] == 14_350_248 + extra


def test_tinybert4_needs_about_a_19th_of_the_teachers_operations(four):
    """The paper: 1.2 of 22.5 billion at length 128, word vectors not counted."""
    found = []
    for model in four:
        ids = torch.ones(1, 128, dtype=torch.long, device="meta")
        with FlopCounterMode(display=False) as counter:
            model.to("meta").eval()(input_ids=ids)
        found.append(counter.get_total_flops())
    assert found[1] == pytest.approx(22.5e9, rel=0.02)
    assert found[1] / found[0] == pytest.approx(22.5 / 1.2, rel=0.08)


@pytest.mark.parametrize(("embeddings", "drawn"), [("teacher", False), ("random", True)])
def test_a_thin_students_embeddings_are_the_teachers_or_drawn(teacher, embeddings, drawn):
    def words(seed):
        config = TinyBert(**THIN, embeddings=embeddings)
        stage = planned(teacher, config, dataclasses.replace(TRAIN, seed=seed))[1]
        assert any(f"embeddings: {'random' if drawn else 'principal axes'}" in note for note in stage.notes)
        return stage.model.get_input_embeddings().weight

    assert torch.equal(words(0), words(1)) is not drawn


def test_where_the_widths_are_equal_nothing_is_projected(teacher):
    stages = planned(teacher, TinyBert(student="half", intermediate_epochs=1))
    assert count_parameters(stages[0].model) == count_parameters(stages[1].model)
    assert any("none, the widths are equal" in note for note in stages[0].notes)


# The losses ---------------------------------------------------------------------------------------------------------


def seen(model, wanted):
    with torch.no_grad(), taps(model, **wanted) as found:
        model.base_model(**batch_of())
        return found.read()


@pytest.mark.parametrize("attention", ["scores", "probabilities"])
@pytest.mark.parametrize("projections", ["separate", "shared"])
def test_each_loss_is_its_formula_summed_over_the_layers(teacher, attention, projections):
    config = dataclasses.replace(TINY, attention=attention, projections=projections)
    stage = planned(teacher, config)[0]
    found, mask = first_loss(stage), batch_of()["attention_mask"].tolist()
    mine = seen(stage.model.student.eval(), {"hidden": (0, 1), "scores": (0, 1)})
    theirs = seen(AutoModel.from_pretrained(teacher).eval(), {"hidden": (1, 3), "scores": (1, 3)})
    embed, project = stage.model.project_embeddings, stage.model.project_hidden
    assert (embed is project) == (projections == "shared")
    with torch.no_grad():
        expected = {
            "embedding_loss": reference.hidden_mse(embed(mine.embeddings).tolist(), theirs.embeddings.tolist(), mask),
            "hidden_loss": sum(
                reference.hidden_mse(project(mine.hidden[i]).tolist(), theirs.hidden[j].tolist(), mask)
                for i, j in ((0, 1), (1, 3))
            ),
            "attention_loss": sum(
                getattr(reference, "score_mse" if attention == "scores" else "probability_mse")(
                    mine.scores[i].tolist(), theirs.scores[j].tolist(), mask
                )
                for i, j in ((0, 1), (1, 3))
            ),
        }
    assert {name: found[name].item() for name in PARTS} == pytest.approx(expected, rel=1e-4)
    assert found["loss"].item() == pytest.approx(sum(expected.values()), rel=1e-4)


@pytest.mark.parametrize("off", PARTS)
def test_a_weight_of_0_turns_a_loss_off_and_saves_its_cost(teacher, off):
    setting = off.replace("loss", "weight")
    stage = planned(teacher, dataclasses.replace(TINY, **{setting: 0.0}))[0]
    found = first_loss(stage)
    assert set(found) == {"loss", *PARTS} - {off}
    watched = {"hidden_loss": "hidden", "attention_loss": "scores"}.get(off)
    assert watched not in stage.model.watched


def test_weights_weigh(teacher):
    heavy = planned(teacher, dataclasses.replace(TINY, embedding_weight=3.0, hidden_weight=0.5))[0]
    found = first_loss(heavy)
    expected = 3 * found["embedding_loss"] + 0.5 * found["hidden_loss"] + found["attention_loss"]
    torch.testing.assert_close(found["loss"], expected)


def test_a_copy_of_the_teacher_has_nothing_to_learn(teacher):
    layers = "layers:" + ",".join(map(str, range(DEPTH)))
    for attention in ("scores", "probabilities", "relations"):
        stages = planned(teacher, TinyBert(student=layers, attention=attention))
        assert first_loss(stages[0])["loss"].item() == pytest.approx(0, abs=1e-5)


def test_the_prediction_stage_is_soft_cross_entropy_at_temperature_1(teacher):
    stage = planned(teacher)[1]
    batch = stage_examples(stage).batch(list(range(len(TEXTS))))
    with torch.no_grad():
        found = stage.objective(stage.model.eval(), batch)
        logits = stage.model(**{name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}).logits
    expected = losses.soft_cross_entropy(logits.tolist(), batch["teacher_logits"].tolist())
    assert set(found) == {"loss", "teacher_loss"}
    assert found["loss"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("prediction", ["teacher", "labels"])
def test_regression_learns_the_teachers_value_and_with_labels_the_true_one(tmp_path, prediction):
    task = Task(kind="regression", text="text", label=("label",), labels=("score",))
    values = [float(i) for i in range(8)]
    rows = Dataset.from_dict({"text": list(TEXTS), "label": values})
    data = TaskData(task=task, source="", fingerprint="0", train=rows, dev=rows, test=None, unlabelled=None)
    folder = save_model(tmp_path / "teacher", ("score",), problem_type="regression")
    stage = planned(folder, dataclasses.replace(TINY, prediction=prediction), data=data)[-1]
    batch = stage_examples(stage).batch(list(range(8)))
    answers = torch.zeros(8, 1)
    found = stage.objective(lambda **_: SimpleNamespace(logits=answers), batch)["loss"].item()
    wanted = values if prediction == "labels" else batch["teacher_logits"].flatten().tolist()
    assert found == pytest.approx(np.square(wanted).mean(), rel=1e-5)


# The stages ---------------------------------------------------------------------------------------------------------


def test_two_stages_in_order_each_with_its_own_rate_and_epochs(teacher):
    train = dataclasses.replace(TRAIN, lr=1e-3, schedule="linear", warmup=0.1, epochs=3)
    first, last = planned(teacher, TinyBert(**THIN), train)
    assert (first.name, last.name) == ("intermediate", "prediction")
    assert (first.train.epochs, first.train.lr, first.train.schedule, first.train.warmup) == (20, 1e-3, "constant", 0.0)
    assert last.train == train
    assert first.model.student is last.model
    assert (first.task, first.teacher) == (None, None)
    assert (last.task, last.teacher is not None) == (TASK, True)


@pytest.mark.parametrize(
    ("student", "first", "last"),
    [("thin", 1e-3, 3e-4), ("half", 5e-5, 3e-5), ("layers:0,1", 5e-5, 3e-5), ("general-student", 2e-4, 1e-4)],
)
def test_the_rates_are_the_papers_for_layers_of_the_teacher_and_higher_for_thin_students(student, first, last):
    table = {"command": "distill", "out": "o", "data": {"path": "d"}, "teacher": {"bundles": ["t"]}}
    config = config_of({**table, "method": {"name": "tinybert", "student": student}})
    assert (config.method.default_rates[0], config.train.lr) == (first, last)
    own = config_of({**table, "method": {"name": "tinybert", "student": student}, "train": {"lr": 7e-5}})
    assert own.train.lr == 7e-5


def test_a_rate_that_is_given_is_taken(teacher):
    first, _ = planned(teacher, dataclasses.replace(TINY, intermediate_lr=7e-5))
    assert first.train.lr == 7e-5


def test_the_intermediate_stage_sees_neither_labels_nor_logits(teacher, tmp_path, monkeypatch):
    data = task_data()
    monkeypatch.setattr("attar.teacher.open.BundleTeacher.logits", lambda *_: pytest.fail("asked for logits"))
    stage = planned(teacher, data=data)[0]
    assert set(stage_examples(stage).batch([0, 1])) == {"input_ids", "attention_mask", "token_type_ids"}
    parameters = stage.model.student.named_parameters()
    head = {name: p.detach().clone() for name, p in parameters if "classifier" in name or "pool" in name}
    assert len(head) == 4
    run_stage(stage, tmp_path, title="")
    after = dict(stage.model.student.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in head.items())


def test_the_intermediate_stage_brings_the_student_near_the_teachers_layers(teacher, tmp_path):
    config = dataclasses.replace(TINY, intermediate_epochs=20, intermediate_lr=1e-2)
    stage = planned(teacher, config)[0]
    before = {name: value.item() for name, value in first_loss(stage).items()}
    result = run_stage(stage, tmp_path, title="")
    after = {name: value.item() for name, value in first_loss(stage).items()}
    for name in PARTS:
        assert after[name] < 0.7 * before[name], name
    dev = [point for point in result["curve"] if "dev_loss" in point]
    assert {f"dev_{name}" for name in PARTS} <= set(dev[0])
    assert result["best"] == pytest.approx(min(point["dev_loss"] for point in dev))
    moved = stage.model.project_hidden.bias
    assert moved.abs().sum() > 0, "the projections learn beside the student"


def test_the_teacher_is_in_eval_mode_without_gradients_and_stays_as_it_was(teacher):
    stage = planned(teacher)[0]
    student = stage.model.eval()
    whole = AutoModel.from_pretrained(teacher).train()
    assert whole.config.hidden_dropout_prob > 0, "dropout must be there for the test to mean anything"
    before = {name: p.clone() for name, p in whole.named_parameters()}
    objective = layer_objective(whole, (1, 3))
    first, second = objective(student, batch_of()), objective(student, batch_of())
    assert torch.equal(first["loss"], second["loss"])
    first["loss"].backward()
    assert not whole.training
    assert not any(p.requires_grad or p.grad is not None for p in whole.parameters())
    assert all(torch.equal(before[name], p) for name, p in whole.named_parameters())
    assert student.project_hidden.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"intermediate_epochs": 0},
        {"embedding_weight": 0.0, "hidden_weight": 0.0, "attention_weight": 0.0},
    ],
)
def test_the_intermediate_stage_can_be_left_out(teacher, changes):
    assert [stage.name for stage in planned(teacher, dataclasses.replace(TINY, **changes))] == ["prediction"]


def test_without_predictions_the_last_stage_learns_the_labels_alone(teacher):
    stages = planned(teacher, dataclasses.replace(TINY, prediction="labels"), data=task_data(unlabelled=["a film"]))
    assert [stage.name for stage in stages] == ["intermediate", "prediction"]
    assert stages[1].teacher is None
    assert set(first_loss(stages[1])) == {"loss", "label_loss"}
    assert (len(stages[0].learn), len(stages[1].learn)) == (2, 1), "unlabelled texts teach layers alone"


def test_augmented_texts_are_learnt_from_in_both_stages(teacher):
    context = distil_context(teacher, task_data(), TRAIN)
    more = Dataset.from_dict({"text": ["the plot was dull"], "label": [0]})
    for stage in plan(TINY, dataclasses.replace(context, synthetic=more)):
        assert len(stage_examples(stage)) == len(TEXTS) + 1


def test_labels_alone_start_from_the_same_student_and_have_as_many_epochs(teacher):
    ours = planned(teacher)[0].model.student
    context = dataclasses.replace(distil_context(teacher, task_data(), TRAIN), teacher=None)
    (stage,) = plan(TINY, context)
    assert (stage.name, stage.train.epochs, stage.teacher) == ("labels", TRAIN.epochs + 2, None)
    assert set(first_loss(stage)) == {"loss", "label_loss"}
    nothing = dataclasses.replace(TINY, embedding_weight=0.0, hidden_weight=0.0, attention_weight=0.0)
    assert plan(nothing, context)[0].train.epochs == TRAIN.epochs, "its twin has no intermediate stage either"
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in stage.model.state_dict().items())


def test_the_saved_student_has_no_projections_and_a_resumed_stage_has_them(teacher, tmp_path):
    stage = planned(teacher)[0]
    run_stage(stage, tmp_path / "work", title="")
    stage.model.save_pretrained(tmp_path / "saved")
    assert not [name for name in load_file(tmp_path / "saved" / "model.safetensors") if "project" in name]

    again = planned(teacher)[0]
    again.objective = lambda model, batch: (
        pytest.fail("a finished stage trains no further") if model.training else stage.objective(model, batch)
    )
    run_stage(again, tmp_path / "work", title="")
    for name, value in stage.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name


# Students -----------------------------------------------------------------------------------------------------------


def test_a_thin_student_has_the_tasks_labels_in_the_tasks_order(tmp_path):
    teacher = save_model(tmp_path / "teacher", ("c", "a", "b"))
    task = Task(kind="single-label", text="text", label=("label",), labels=("a", "b", "c"))
    student = planned(teacher, data=task_data(task))[-1].model
    assert student.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert student.classifier.weight.shape == (3, 16)
    assert student.config.num_attention_heads == HEADS, "as many as the teacher has"


def test_other_numbers_of_heads_are_refused_with_the_offer_of_relations_which_take_them(teacher):
    config = dataclasses.replace(TINY, heads=1)
    with pytest.raises(ConfigError, match=r"student has 1 heads, the teacher 2.*method\.attention=relations"):
        planned(teacher, config)
    assert first_loss(planned(teacher, dataclasses.replace(config, attention_weight=0.0))[0])["loss"] > 0
    stage = planned(teacher, dataclasses.replace(config, attention="relations"))[0]
    assert any("relations of 2 heads" in note for note in stage.notes)
    found = first_loss(stage)
    mask = batch_of()["attention_mask"].tolist()
    mine = seen(stage.model.student.eval(), {"relations": (0, 1)})
    theirs = seen(AutoModel.from_pretrained(teacher).eval(), {"relations": (1, 3)})
    expected = sum(
        reference.attention_kl(
            reference.relation_scores(getattr(mine, name)[i].tolist(), 2),
            reference.relation_scores(getattr(theirs, name)[j].tolist(), 2),
            mask,
        )
        for i, j in ((0, 1), (1, 3))
        for name in ("query", "key", "value")
    )
    assert found["attention_loss"].item() == pytest.approx(expected, rel=1e-4)


def test_relation_heads_are_as_many_as_both_widths_allow():
    assert [shared_heads(312, 768, 12), shared_heads(320, 768, 12), shared_heads(7, 768, 12)] == [12, 8, 1]


def test_another_tokenizer_is_refused(teacher, tmp_path):
    other = save_model(tmp_path / "other", auto=AutoModel, tokenizer=tiny_tokenizer(("film", "good")))
    with pytest.raises(ConfigError, match=r"token by token.*tokenizer differs from the teacher's.*--student thin"):
        planned(teacher, dataclasses.replace(TINY, student=other))


def test_a_tokenizer_that_only_cuts_off_elsewhere_is_the_same(teacher, tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer(["the film"], truncation=True, max_length=7, padding="max_length")
    same = save_model(tmp_path / "same", auto=AutoModel, tokenizer=tokenizer, depth=2)
    assert len(planned(teacher, dataclasses.replace(TINY, student=same))) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 5}, "layers expects 1 to the teacher's 4, found 5"),
        ({"width": 64}, "width expects 1 to the teacher's 32, found 64"),
        ({"width": 15}, "width 15 and 2 heads"),
    ],
)
def test_students_that_do_not_fit_are_refused(teacher, changes, message):
    with pytest.raises(ConfigError, match=message):
        planned(teacher, dataclasses.replace(TINY, **changes))


def test_inputs_longer_than_either_has_positions_for_are_refused(teacher, tmp_path):
    long = dataclasses.replace(TRAIN, max_length=41)
    with pytest.raises(ConfigError, match=r"max_length is 41, and the teacher reads at most 40"):
        planned(teacher, train=long)
    short = planned(teacher)[0]
    short.train = long
    with pytest.raises(ConfigError, match=r"max_length is 41, and BertForSequenceClassification reads at most 40"):
        stage_examples(short)


def test_several_teachers_have_no_common_layers(teacher, encoder, tmp_path):
    bundles = (teacher, save_model(tmp_path / "b", seed=1))
    tutor = open_teacher(TeacherConfig(bundles=bundles), TASK)
    context = Context(data=task_data(), train=TRAIN, teacher=tutor, teacher_bundles=bundles)
    for student in ("thin", encoder):
        with pytest.raises(ConfigError, match="one teacher bundle, found 2; give one --teacher"):
            plan(dataclasses.replace(TINY, student=student), context)
    skipped = plan(dataclasses.replace(TINY, student=encoder, intermediate_epochs=0), context)
    assert [stage.name for stage in skipped] == ["prediction"]


@pytest.mark.parametrize(
    "changes",
    [{"alpha": 1.5}, {"embedding_weight": -1.0}, {"intermediate_epochs": -1}, {"intermediate_lr": 0.0}],
)
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        TinyBert(**changes)
    with pytest.raises(ValueError, match="all are 0"):
        TinyBertPretraining(embedding_weight=0.0, hidden_weight=0.0, attention_weight=0.0)


def test_words_are_labelled_from_the_teachers_pieces(tmp_path):
    task = Task(kind="token", text="tokens", label=("tags",), labels=("O", "B-PER", "B-LOC"))
    folder = save_model(tmp_path / "tagger", task.labels, auto=AutoModelForTokenClassification)
    rows = Dataset.from_dict({"text": [t.split() for t in TEXTS], "label": [[0] * len(t.split()) for t in TEXTS]})
    data = TaskData(task=task, source="", fingerprint="0", train=rows, dev=rows, test=None, unlabelled=None)
    train = dataclasses.replace(TRAIN, max_length=40, epochs=1)
    for i, stage in enumerate(planned(folder, train=train, data=data)):
        assert np.isfinite(first_loss(stage)["loss"])
        run_stage(stage, tmp_path / str(i), title="")


# General distillation -----------------------------------------------------------------------------------------------


def corpus(tokenizer):
    rows = encode(Dataset.from_dict({"text": list(TEXTS)}), tokenizer, TRAIN.max_length)
    return SimpleNamespace(train=rows, dev=rows, notes=lambda: ["eight texts"])


def test_general_distillation_leaves_a_plain_encoder_which_a_task_starts_from(teacher, encoder, tmp_path):
    context = PretrainContext(teacher=encoder, train=TRAIN, corpus=corpus)
    (stage,) = pretrain.plan(TinyBertPretraining(**THIN), context)
    assert (stage.name, stage.task) == ("general", None)
    assert set(first_loss(stage)) == {"loss", *PARTS}, "and none on predictions"
    before = first_loss(stage)["loss"].item()
    run_stage(stage, tmp_path / "work", title="")
    assert first_loss(stage)["loss"].item() < before

    stage.model.save_pretrained(tmp_path / "general")
    stage.tokenizer.save_pretrained(tmp_path / "general")
    loaded, told = AutoModel.from_pretrained(tmp_path / "general", output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    student = planned(teacher, dataclasses.replace(TINY, student=str(tmp_path / "general")))[-1].model
    assert torch.equal(student.bert.embeddings.word_embeddings.weight, loaded.embeddings.word_embeddings.weight)
    assert loaded.config.hidden_size == 16 != WIDTH


@pytest.mark.parametrize("attention", ["scores", "relations"])
def test_every_family_can_be_distilled_in_general_and_in_half_precision(make_folder, family, attention, tmp_path):
    folder = make_folder("encoder", family=family, layers=3)
    train = dataclasses.replace(TRAIN, max_steps=2, precision="bfloat16")
    context = PretrainContext(teacher=folder, train=train, corpus=corpus)
    (stage,) = pretrain.plan(TinyBertPretraining(**THIN, attention=attention), context)
    result = run_stage(stage, tmp_path / "work", title="")
    assert np.isfinite(result["best"])

"""DistilBERT: the student, the three losses, the task form, and the head for masked words that a teacher needs."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from settings import DEPTH, POSITIONS, TEXTS, TRAIN, distil_context, save_model, task_data, tiny_tokenizer
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification, BertConfig

from attar.config import TextConfig
from attar.data.corpus import open_documents, read_corpus, write_corpus
from attar.data.masking import masking_of
from attar.errors import ConfigError, ModelError
from attar.methods.contract import PretrainContext
from attar.methods.distilbert import objective as losses
from attar.methods.distilbert.config import DistilBert, DistilBertPretraining
from attar.methods.distilbert.objective import pretraining_objective
from attar.methods.distilbert.plan import plan as plan_task
from attar.methods.distilbert.pretrain import build_student, plan
from attar.methods.mlm_head.config import MlmHead
from attar.methods.mlm_head.pretrain import plan as plan_head
from attar.nets.places import states_and_logits
from attar.nets.surgery import distilbert_student, every_other_layer
from attar.training.examples import stage_examples
from attar.training.loop import run_stage

PRETRAIN = dataclasses.replace(TRAIN, epochs=2, accumulation=2)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A masked language model of four layers."""
    return save_model(tmp_path_factory.mktemp("teacher") / "mlm", auto=AutoModelForMaskedLM)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Twenty documents of 14 to 40 tokens."""
    folder = tmp_path_factory.mktemp("corpus")
    documents = [" ".join([*TEXTS[i % 8].split(), *TEXTS[(i // 8) % 8].split()] * 3)[: 60 + 5 * i] for i in range(20)]
    Dataset.from_dict({"text": documents}).to_parquet(folder / "texts.parquet")
    config = TextConfig(paths=(str(folder / "texts.parquet"),), dev_share=0.2)
    write_corpus(open_documents(config), config, tiny_tokenizer(), 24, folder / "encoded")
    return read_corpus(folder / "encoded", 0)


@pytest.fixture
def context(teacher, corpus):
    def make(train=PRETRAIN, teacher=teacher):
        return PretrainContext(teacher=teacher, train=train, corpus=lambda tokenizer: corpus)

    return make


@pytest.fixture
def pair(teacher):
    """Teacher and student as the plan has them, the student a little apart from its first weights."""
    whole = AutoModelForMaskedLM.from_pretrained(teacher).eval()
    student = build_student(whole, (0, 3), "teacher").eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return student, whole


@pytest.fixture
def masking(corpus):
    return masking_of(tiny_tokenizer(), corpus.counts)


def batch_of(texts, width=None):
    tokenizer = tiny_tokenizer()
    padding = {"padding": "max_length", "max_length": width} if width else {"padding": True}
    found = tokenizer(texts, return_tensors="pt", return_token_type_ids=False, **padding)
    return {"input_ids": found["input_ids"], "attention_mask": found["attention_mask"]}


# The student ----------------------------------------------------------------------------------------------------------


def test_the_body_of_a_distilbert_has_66_362_880_parameters():
    with torch.device("meta"):
        teacher = AutoModel.from_config(BertConfig(vocab_size=30522))
        student = distilbert_student(teacher, every_other_layer(12))
    assert sum(p.numel() for p in student.parameters()) == 66_362_880
    names = [name for name, _ in student.named_parameters()]
    assert not [name for name in names if "token_type" in name or "pooler" in name]


def test_layers_0_2_4_7_9_11_are_copied_bit_for_bit(tmp_path):
    teacher = AutoModelForMaskedLM.from_pretrained(save_model(tmp_path / "t", auto=AutoModelForMaskedLM, depth=12))
    assert every_other_layer(12) == (0, 2, 4, 7, 9, 11)
    student = build_student(teacher, every_other_layer(12), "teacher")
    assert student.config.model_type == "distilbert"
    for place, layer in enumerate((0, 2, 4, 7, 9, 11)):
        own, source = student.distilbert.transformer.layer[place], teacher.bert.encoder.layer[layer]
        assert torch.equal(own.attention.q_lin.weight, source.attention.self.query.weight)
        assert torch.equal(own.ffn.lin2.bias, source.output.dense.bias)
    assert torch.equal(student.vocab_projector.weight, teacher.bert.embeddings.word_embeddings.weight)
    assert student.vocab_projector.weight is student.distilbert.embeddings.word_embeddings.weight


def test_the_random_ablation_has_the_same_shape_and_other_weights(context, teacher):
    copied, random = (plan(DistilBertPretraining(init=init), context())[0].model for init in ("teacher", "random"))
    assert [p.shape for p in copied.parameters()] == [p.shape for p in random.parameters()]
    assert not torch.equal(copied.vocab_projector.weight, random.vocab_projector.weight)


# The three losses -----------------------------------------------------------------------------------------------------


def fixed_masks(monkeypatch, share=0.3):
    """Mask the same tokens of a text however far it is padded."""

    def draw(ids, mask, masking, **_):
        generator = torch.Generator().manual_seed(0)
        places = (
            (torch.rand(ids.shape[0], 64, generator=generator)[:, : ids.shape[1]] < share) & (ids > 4) & mask.bool()
        )
        return torch.where(places, masking.mask_id, ids), places

    monkeypatch.setattr(losses, "mask_tokens", draw)


@pytest.mark.parametrize("soft_tokens", ["real", "masked"])
def test_each_loss_is_its_formula_over_real_tokens(pair, masking, monkeypatch, soft_tokens):
    fixed_masks(monkeypatch)
    student, teacher = pair
    batch = batch_of(list(TEXTS))
    found = pretraining_objective(student=student, teacher=teacher, masking=masking, soft_tokens=soft_tokens)(
        student, batch
    )
    shown, masked = losses.mask_tokens(batch["input_ids"], batch["attention_mask"], masking)
    inputs = {"input_ids": shown, "attention_mask": batch["attention_mask"], "output_hidden_states": True}
    with torch.no_grad():
        own, whole = student(**inputs), teacher(**inputs)
    real = batch["attention_mask"].bool()
    soft, hard, cosine = [], [], []
    for b, t in real.nonzero().tolist():
        cosine.append(1 - F.cosine_similarity(own.hidden_states[-1][b, t], whole.hidden_states[-1][b, t], dim=0))
        if soft_tokens == "real" or masked[b, t]:
            p, q = (whole.logits[b, t].double() / 2).softmax(0), (own.logits[b, t].double() / 2).softmax(0)
            soft.append((p * (p.log() - q.log())).sum() * 2**2)
        if masked[b, t]:
            hard.append(-own.logits[b, t].log_softmax(0)[batch["input_ids"][b, t]])
    terms = {"soft": soft, "mlm": hard, "cosine": cosine}
    expected = {name: float(torch.stack(values).mean()) for name, values in terms.items()}
    for name, value in expected.items():
        assert found[f"{name}_loss"].item() == pytest.approx(value, rel=1e-4), name
    total = 5 * expected["soft"] + 2 * expected["mlm"] + expected["cosine"]
    assert found["loss"].item() == pytest.approx(total, rel=1e-4)
    assert list(found) == ["loss", "soft_loss", "mlm_loss", "cosine_loss"]


def test_padding_contributes_to_none_of_the_losses(pair, masking, monkeypatch):
    fixed_masks(monkeypatch)
    student, teacher = pair
    objective = pretraining_objective(student=student, teacher=teacher, masking=masking)
    tight, wide = batch_of(list(TEXTS)), batch_of(list(TEXTS), width=POSITIONS)
    wide["input_ids"][wide["attention_mask"] == 0] = 7
    for name, value in objective(student, tight).items():
        torch.testing.assert_close(objective(student, wide)[name], value, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("gone", ["alpha_ce", "alpha_mlm", "alpha_cos"])
def test_a_loss_of_weight_0_is_not_computed_and_the_others_stay(pair, masking, monkeypatch, gone):
    fixed_masks(monkeypatch)
    student, teacher = pair
    batch = batch_of(list(TEXTS))
    full = pretraining_objective(student=student, teacher=teacher, masking=masking)(student, batch)
    part = pretraining_objective(student=student, teacher=teacher, masking=masking, **{gone: 0.0})(student, batch)
    name = {"alpha_ce": "soft_loss", "alpha_mlm": "mlm_loss", "alpha_cos": "cosine_loss"}[gone]
    assert set(part) == set(full) - {name}
    for kept in set(part) - {"loss"}:
        torch.testing.assert_close(part[kept], full[kept], rtol=1e-4, atol=1e-6)


def test_equal_models_have_no_soft_loss_and_no_cosine_loss(pair, masking):
    _, teacher = pair
    found = pretraining_objective(student=teacher, teacher=teacher, masking=masking)(teacher, batch_of(list(TEXTS)))
    assert found["soft_loss"].abs() < 1e-5
    assert found["cosine_loss"].abs() < 1e-5


def test_states_and_logits_at_some_places_are_those_of_the_whole_model(family, make_model):
    model = AutoModelForMaskedLM.from_config(make_model(family).config).eval()
    ids = torch.randint(5, 60, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    places = torch.rand(3, 9, generator=torch.Generator().manual_seed(1)) < 0.4
    inputs = {"input_ids": ids, "attention_mask": mask}
    with torch.no_grad():
        whole = model(**inputs, output_hidden_states=True).logits
        states, logits = states_and_logits(model, inputs, places, inner=model)
        torch.testing.assert_close(logits, whole[places], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(states, model.base_model(**inputs).last_hidden_state, rtol=0, atol=1e-6)
        torch.testing.assert_close(model(**inputs).logits, whole)  # no hook is left behind


def test_every_family_can_be_student_and_teacher(family, make_model, make_tokenizer):
    teacher = AutoModelForMaskedLM.from_config(make_model(family, layers=4).config).eval()
    student = build_student(teacher, (0, 3), "teacher")
    tokenizer = make_tokenizer(segments=False)
    masking = masking_of(tokenizer, np.ones(len(tokenizer), np.int64))
    batch = dict(tokenizer(["the film was very good", "bad"], padding=True, return_tensors="pt"))
    found = pretraining_objective(student=student, teacher=teacher, masking=masking)(student, batch)
    found["loss"].backward()
    assert all(part.isfinite() for part in found.values())
    assert all(p.grad is None for p in teacher.parameters())


# The stage ------------------------------------------------------------------------------------------------------------


def test_the_student_learns_and_the_teacher_stays(context, tmp_path):
    (stage,) = plan(DistilBertPretraining(), context(dataclasses.replace(PRETRAIN, epochs=6)))
    (teacher,) = [cell.cell_contents for cell in stage.objective.__closure__ if _is_bert(cell.cell_contents)]
    before = {name: p.clone() for name, p in teacher.state_dict().items()}
    result = run_stage(stage, tmp_path, title="")
    assert all(torch.equal(p, before[name]) for name, p in teacher.state_dict().items())
    assert not teacher.training
    dev = [point for point in result["curve"] if "dev_loss" in point]
    assert dev[-1]["dev_loss"] < dev[0]["dev_loss"]
    terms = {"soft_loss", "mlm_loss", "cosine_loss"}
    assert any(terms <= set(point) for point in result["curve"])
    assert {f"dev_{name}" for name in terms} <= set(dev[0])


def _is_bert(value):
    return getattr(getattr(value, "config", None), "model_type", None) == "bert"


def test_masks_are_drawn_anew_each_time_a_text_is_seen_but_on_dev_always_the_same(context, tmp_path, monkeypatch):
    seen = {True: {}, False: {}}
    draw = losses.mask_tokens

    def watching(ids, mask, masking, **settings):
        shown, places = draw(ids, mask, masking, **settings)
        for row, drawn, real in zip(ids, places, mask.bool(), strict=True):
            seen[torch.is_grad_enabled()].setdefault(tuple(row[real].tolist()), []).append(tuple(drawn[real].tolist()))
        return shown, places

    monkeypatch.setattr(losses, "mask_tokens", watching)
    (stage,) = plan(DistilBertPretraining(), context(dataclasses.replace(PRETRAIN, epochs=3, batch_size=2)))
    run_stage(stage, tmp_path, title="")
    again = [len(set(draws)) for draws in seen[True].values() if len(draws) == 3]
    assert np.mean(again) > 2.5
    assert all(len(set(draws)) == 1 for draws in seen[False].values() if len(draws) == 3)


class Killed(Exception):
    """Stands for kill -9 in the middle of a step."""


def test_resume_equals_uninterrupted_masks_and_accumulation_included(context, tmp_path, monkeypatch):
    train = dataclasses.replace(PRETRAIN, epochs=3, batch_size=2, accumulation=3)
    (whole,) = plan(DistilBertPretraining(), context(train))
    expected = run_stage(whole, tmp_path / "whole", title="")
    steps = expected["curve"][-1]["step"]

    monkeypatch.setattr("attar.training.callbacks._SAVE_EVERY", -1.0)
    (killed,) = plan(DistilBertPretraining(), context(train))
    inner, calls = killed.objective, []

    def dying(model, batch):
        calls.append(1)
        if len(calls) == 3 * (steps // 2 + 1) and torch.is_grad_enabled():
            raise Killed
        return inner(model, batch)

    killed.objective = dying
    with pytest.raises(Killed):
        run_stage(killed, tmp_path / "cut", title="")
    assert list((tmp_path / "cut").glob("checkpoint-*"))
    monkeypatch.setattr("attar.training.callbacks._SAVE_EVERY", 300.0)
    (resumed,) = plan(DistilBertPretraining(), context(train))
    found = run_stage(resumed, tmp_path / "cut", title="")
    assert found["best"] == pytest.approx(expected["best"], abs=1e-6)
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value, rtol=0, atol=1e-6, msg=name)


def test_accumulated_batches_are_one_step(context, tmp_path, corpus):
    train = dataclasses.replace(PRETRAIN, epochs=1, batch_size=2, accumulation=3)
    (stage,) = plan(DistilBertPretraining(), context(train))
    result = run_stage(stage, tmp_path, title="")
    assert result["curve"][-1]["step"] == math.ceil(math.ceil(len(corpus.train) / 2) / 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"alpha_ce": -1.0},
        {"alpha_ce": 0.0, "alpha_mlm": 0.0, "alpha_cos": 0.0},
        {"temperature": 0.0},
        {"mask_share": 1.0},
        {"smoothing": -0.1},
    ],
)
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(ValueError, match="expect"):
        DistilBertPretraining(**changes)


@pytest.mark.parametrize(
    ("student", "message"), [("layers:0,9", "0 to 3"), ("layers:0,x", "layers:0,2,4"), ("two", "two")]
)
def test_layers_that_the_teacher_lacks_are_refused(context, student, message):
    with pytest.raises(ConfigError, match=message):
        plan(DistilBertPretraining(student=student), context())


# A head for a teacher without one --------------------------------------------------------------------------------


def test_a_teacher_without_a_head_is_refused_before_the_texts_are_touched(encoder, context):
    def untouched(tokenizer):
        raise AssertionError("the teacher is to be checked first")

    given = dataclasses.replace(context(teacher=encoder), corpus=untouched)
    with pytest.raises(ModelError, match="attar pretrain --method mlm-head --teacher"):
        plan(DistilBertPretraining(), given)


def test_mlm_head_moves_the_head_alone_and_makes_a_teacher(encoder, context, tmp_path):
    (stage,) = plan_head(MlmHead(), context(dataclasses.replace(PRETRAIN, epochs=8, lr=1e-2), teacher=encoder))
    assert "a new one" in stage.notes[0]
    before = {name: p.clone() for name, p in stage.model.named_parameters()}
    result = run_stage(stage, tmp_path / "work", title="")
    moved = {name for name, p in stage.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if name.startswith("cls.")}
    dev = [point["dev_mlm_loss"] for point in result["curve"] if "dev_mlm_loss" in point]
    assert min(dev) < dev[0]
    stage.model.save_pretrained(tmp_path / "head")
    stage.tokenizer.save_pretrained(tmp_path / "head")
    assert plan(DistilBertPretraining(), context(teacher=str(tmp_path / "head")))


def test_mlm_head_says_when_the_checkpoint_has_one(context):
    (stage,) = plan_head(MlmHead(), context())
    assert "trained further" in stage.notes[0]


def test_mlm_head_runs_the_encoder_without_dropout(context):
    (stage,) = plan_head(MlmHead(), context())
    stage.model.train()
    torch.manual_seed(0)
    first = stage.objective(stage.model, batch_of(list(TEXTS)))["loss"]
    torch.manual_seed(0)
    assert torch.equal(first, stage.objective(stage.model.eval(), batch_of(list(TEXTS)))["loss"])


# On the task ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("tuned") / "teacher")


def first_losses(stage):
    batch = stage_examples(stage).batch(list(range(len(TEXTS))))
    with torch.no_grad():
        logits = stage.model.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        return stage.objective(stage.model, batch), logits, batch


def test_the_task_form_weighs_labels_and_softened_teacher_half_and_half(tuned):
    (stage,) = plan_task(DistilBert(), distil_context(tuned, task_data(), TRAIN))
    assert stage.model.config.num_hidden_layers == DEPTH // 2
    found, logits, batch = first_losses(stage)
    target = (batch["teacher_logits"] / 2).softmax(-1)
    soft = (target * (target.log() - (logits / 2).log_softmax(-1))).sum(-1).mean() * 4
    hard = F.cross_entropy(logits, batch["labels"])
    torch.testing.assert_close(found["loss"], 0.5 * hard + 0.5 * soft, rtol=1e-4, atol=1e-6)
    assert set(found) == {"loss", "label_loss", "teacher_loss"}


def test_without_a_teacher_the_labels_count_alone(tuned):
    data = task_data()
    context = dataclasses.replace(distil_context(tuned, data, TRAIN), teacher=None)
    found, logits, batch = first_losses(plan_task(DistilBert(), context)[0])
    torch.testing.assert_close(found["loss"], F.cross_entropy(logits, batch["labels"]))


def test_what_the_pretraining_left_is_a_student_of_the_task(context, tuned, tmp_path):
    (stage,) = plan(DistilBertPretraining(), context())
    stage.model.save_pretrained(tmp_path / "general")
    stage.tokenizer.save_pretrained(tmp_path / "general")
    (task,) = plan_task(DistilBert(student=str(tmp_path / "general")), distil_context(tuned, task_data(), TRAIN))
    assert task.model.config.model_type == "distilbert"
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "general")
    own = task.model.distilbert.transformer.layer[0].ffn.lin1.weight
    assert torch.equal(own, loaded.distilbert.transformer.layer[0].ffn.lin1.weight)


@pytest.mark.parametrize("changes", [{"alpha": 1.5}, {"temperature": -1.0}])
def test_settings_of_the_task_form_out_of_range_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        DistilBert(**changes)

"""Students cut from a teacher, and thin ones."""

import pytest
import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DistilBertForSequenceClassification,
    DistilBertModel,
)

from attar.errors import ConfigError
from attar.nets.anatomy import anatomy, position_limit
from attar.nets.parameters import count_parameters
from attar.nets.surgery import distilbert_student, every_other_layer, inherit_embeddings, keep_layers, thin_student

PAPER = (0, 2, 4, 7, 9, 11)


def on_meta(auto):
    with torch.device("meta"):
        return auto(BertConfig())


def text():
    ids = torch.randint(5, 60, (2, 8), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 8, dtype=torch.long)
    mask[1, 5:] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


# DistilBERT ---------------------------------------------------------------------------------------------------------


def test_the_students_of_bert_base_have_the_published_numbers_of_parameters():
    """Arithmetic: DistilBERT's body, with its head of two labels; TinyBERT4 and TinyBERT6 with their poolers."""
    bert = on_meta(BertModel)
    assert count_parameters(bert)[0] == 109_482_240
    with torch.device("meta"):
        body = distilbert_student(bert, PAPER)
        whole = distilbert_student(on_meta(BertForSequenceClassification), PAPER)
        four = thin_student(bert, layers=4, width=312, heads=12, feed_forward=1200)
        six = thin_student(bert, layers=6, width=768, heads=12, feed_forward=3072)
    assert (type(body), type(whole)) == (DistilBertModel, DistilBertForSequenceClassification)
    found = [count_parameters(model)[0] for model in (body, whole, four, six)]
    assert found == [66_362_880, 66_955_010, 14_350_248, 66_955_008]


def test_the_default_layers_are_the_papers():
    assert every_other_layer(12) == PAPER


def test_a_distilbert_has_berts_weights_bit_for_bit_and_neither_token_types_nor_pooler(make_model):
    teacher = make_model("bert", layers=4)
    student = distilbert_student(teacher, (0, 3))
    assert not [name for name in student.state_dict() if "token_type" in name or "pooler" in name]
    source, target = anatomy(teacher), anatomy(student)
    for place, layer in enumerate((0, 3)):
        mine = sorted(p.sum().item() for p in target.layers[place].parameters())
        theirs = sorted(p.sum().item() for p in source.layers[layer].parameters())
        assert mine == theirs
        assert torch.equal(target.part(place, "feed_forward_in").weight, source.part(layer, "feed_forward_in").weight)
    for name in ("word_embeddings.weight", "position_embeddings.weight", "LayerNorm.weight", "LayerNorm.bias"):
        assert torch.equal(student.embeddings.state_dict()[name], teacher.embeddings.state_dict()[name])
    before = student.transformer.layer[0].attention.q_lin.weight.clone()
    with torch.no_grad():
        source.part(0, "query").weight.add_(1)
    assert torch.equal(student.transformer.layer[0].attention.q_lin.weight, before), "a copy, not a view"


def test_its_layers_compute_what_berts_do(make_model):
    teacher = make_model("bert", layers=4)
    student = distilbert_student(teacher, (1, 2))
    kept = keep_layers(teacher, (1, 2))
    with torch.no_grad():
        kept.embeddings.token_type_embeddings.weight.zero_()  # DistilBERT has none
        expected = kept(**text()).last_hidden_state
        found = student(**text()).last_hidden_state
    real = text()["attention_mask"].bool()
    torch.testing.assert_close(found[real], expected[real], rtol=0, atol=1e-5)


def test_the_head_for_masked_words_comes_along(make_model):
    teacher = AutoModelForMaskedLM.from_config(make_model("bert").config).eval()
    torch.nn.init.normal_(teacher.cls.predictions.bias)
    student = distilbert_student(teacher, (0, 1))
    with torch.no_grad():
        teacher.bert.embeddings.token_type_embeddings.weight.zero_()
        torch.testing.assert_close(student(**text()).logits[0], teacher(**text()).logits[0], rtol=0, atol=1e-4)
    assert student.vocab_projector.weight is student.distilbert.embeddings.word_embeddings.weight


def test_the_head_for_tokens_comes_along_and_labels_keep_their_names(make_model):
    teacher = make_model("bert", kind="token", labels=("O", "B", "I"))
    student = distilbert_student(teacher, (0,))
    assert torch.equal(student.classifier.weight, teacher.classifier.weight)
    whole = distilbert_student(make_model("bert", kind="single-label", labels=("a", "b", "c")), (0,))
    assert whole.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert whole.classifier.out_features == 3


def test_a_saved_distilbert_is_loaded_by_transformers_alone(make_model, tmp_path):
    student = distilbert_student(make_model("bert"), (1,)).eval()
    student.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    assert type(again) is DistilBertModel
    assert torch.equal(again(**text()).last_hidden_state, student(**text()).last_hidden_state)


def test_every_other_family_keeps_its_class_and_its_weights(make_model, family):
    teacher = make_model(family, layers=4)
    student = distilbert_student(teacher, (0, 3))
    assert type(student) is (DistilBertModel if family == "bert" else type(teacher))
    assert len(anatomy(student).layers) == 2
    last = anatomy(student).part(1, "feed_forward_out").weight
    assert torch.equal(last, anatomy(teacher).part(3, "feed_forward_out").weight)


@pytest.mark.parametrize("layers", [(0, 4), (1, 1), ()])
def test_layers_that_are_not_there_are_refused(make_model, layers):
    with pytest.raises(ConfigError, match="layer numbers from 0 to 3"):
        distilbert_student(make_model("bert", layers=4), layers)


# Thin students ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, "single-label", "token"])
def test_a_thin_student_has_the_sizes_asked_for_in_every_family(make_model, family, kind, tmp_path):
    teacher = make_model(family, layers=4, kind=kind)
    torch.manual_seed(0)
    student = thin_student(teacher, layers=3, width=20, heads=2, feed_forward=28).eval()
    parts = anatomy(student)
    assert (len(parts.layers), parts.width, parts.heads) == (3, 20, 2)
    assert parts.part(2, "feed_forward_out").in_features == 28
    assert type(student) is type(teacher)
    assert position_limit(student) == position_limit(teacher)
    assert student.get_input_embeddings().num_embeddings == teacher.get_input_embeddings().num_embeddings

    student.save_pretrained(tmp_path)
    again = type(student).from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(again(**text())[0], student(**text())[0])
    assert teacher.config.num_hidden_layers == 4, "the teacher's configuration must stay as it was"


def test_a_thin_student_is_drawn_with_the_seed(make_model):
    teacher = make_model()
    sizes = {"layers": 1, "width": 16, "heads": 2, "feed_forward": 20}

    def drawn(seed):
        torch.manual_seed(seed)
        return anatomy(thin_student(teacher, **sizes)).part(0, "query").weight

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))


def tables(model):
    """Word, position and token type tables by name, each centred."""
    found = {name: part for name, part in anatomy(model).embeddings.named_modules() if isinstance(part, nn.Embedding)}
    return {name: (part.weight - part.weight.mean(dim=0)).detach() for name, part in found.items()}


def test_inherited_word_vectors_differ_as_the_teachers_do_as_far_as_their_width_allows(make_model, family):
    """No table of this width has products nearer to the teacher's (Eckart and Young 1936)."""
    teacher = make_model(family)
    student = thin_student(teacher, layers=1, width=12, heads=2, feed_forward=20)
    inherit_embeddings(student, teacher)
    mine, theirs = (model.get_input_embeddings().weight.detach() for model in (student, teacher))
    mine, theirs = mine - mine.mean(dim=0), theirs - theirs.mean(dim=0)
    left, scale, _ = torch.linalg.svd(theirs, full_matrices=False)
    best = left[:, : mine.shape[1]] * scale[: mine.shape[1]]
    torch.testing.assert_close(mine @ mine.T, best @ best.T, atol=1e-5, rtol=1e-4)


def test_positions_lie_on_the_same_axes_as_the_words(make_model):
    teacher = make_model("bert")
    student = thin_student(teacher, layers=1, width=12, heads=2, feed_forward=20)
    inherit_embeddings(student, teacher)
    mine, theirs = tables(student), tables(teacher)
    axes = torch.linalg.lstsq(theirs["word_embeddings"], mine["word_embeddings"]).solution
    for name in ("position_embeddings", "token_type_embeddings"):
        torch.testing.assert_close(mine[name], theirs[name] @ axes, atol=1e-5, rtol=1e-4)


def test_inherited_tables_of_the_teachers_width_are_copies(make_model):
    teacher = make_model("bert")
    student = thin_student(teacher, layers=1, width=32, heads=2, feed_forward=20)
    inherit_embeddings(student, teacher)
    for name in tables(teacher):
        mine, theirs = (anatomy(model).embeddings.get_submodule(name).weight for model in (student, teacher))
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 3}, r"student's layers expects 1 to the teacher's 2, found 3"),
        ({"layers": 0}, r"layers expects 1 to"),
        ({"width": 64}, r"student's width expects 1 to the teacher's 32, found 64"),
        ({"feed_forward": 49}, r"feed_forward expects 1 to the teacher's 48, found 49"),
        ({"heads": 3}, r"heads expects 1 to the teacher's 2, found 3"),
        ({"width": 15}, r"divide by its heads: found width 15 and 2 heads; the nearest smaller width is 14"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(make_model, changes, message):
    sizes = {"layers": 1, "width": 16, "heads": 2, "feed_forward": 20}
    with pytest.raises(ConfigError, match=message):
        thin_student(make_model(), **{**sizes, **changes})

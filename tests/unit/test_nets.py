import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from attar.data.encoding import encode_texts
from attar.errors import ConfigError, ModelError
from attar.methods.bilstm_soft.config import BilstmSoft
from attar.methods.bilstm_soft.student import build_student
from attar.methods.bilstm_soft.vocabulary import build_tokenizer
from attar.nets import hardware
from attar.nets.anatomy import anatomy
from attar.nets.bilstm import BilstmConfig, BilstmForSequenceClassification, _packed_states, _padded_states
from attar.nets.parameters import count_parameters
from attar.nets.scoring import TOKENS_PER_BATCH, forward_batches, mean_hidden, score_encoded
from attar.nets.surgery import every_other_layer, keep_layers

TINY = {"vocab_size": 40, "embedding_width": 6, "hidden_size": 5, "projection_size": 7, "num_labels": 3}


def bilstm(**settings):
    torch.manual_seed(0)
    model = BilstmForSequenceClassification(BilstmConfig(**{**TINY, **settings})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
        for channel in (model.frozen_vectors, model.tuned_vectors):
            channel.weight[0] = 0
    return model


def ids_of(*lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, 40, (n,), generator=generator) for n in lengths]


def padded(rows, to=None, fill=0):
    to = to or max(map(len, rows))
    ids = torch.stack([torch.cat([row, torch.full((to - len(row),), fill)]) for row in rows])
    mask = torch.stack([(torch.arange(to) < len(row)).long() for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize(("siamese", "expected"), [(False, 963_002), (True, 963_002 + 6 * 150 * 200)])
def test_the_bilstm_has_the_papers_number_of_parameters(siamese, expected):
    """Tang et al. 2019, table 2: 963K for SST-2. By hand: 2·4·150·(600+150+2) + (300·200+200) + (200·2+2)."""
    model = BilstmForSequenceClassification(BilstmConfig(vocab_size=10, siamese=siamese))
    assert count_parameters(model) == (expected + 2 * 10 * 300, expected)


@pytest.mark.parametrize("siamese", [False, True])
def test_padding_never_changes_the_bilstms_logits(siamese):
    model = bilstm(siamese=siamese)
    rows = ids_of(7, 1, 12, 4)
    batch = padded(rows, to=15)
    segments = [(torch.arange(len(row)) >= len(row) // 2).long() for row in rows]
    kinds = padded(segments, to=15)["input_ids"]
    together = model(**batch, token_type_ids=kinds).logits
    for i, row in enumerate(rows):
        alone = model(**padded([row]), token_type_ids=segments[i][None]).logits[0]
        assert together[i].tolist() == pytest.approx(alone.tolist(), abs=1e-6)


def test_what_fills_the_padding_does_not_matter():
    model, rows = bilstm(), ids_of(3, 9)
    assert torch.equal(model(**padded(rows)).logits, model(**padded(rows, fill=17)).logits)


def test_without_a_mask_padding_is_found_by_its_id():
    model, batch = bilstm(), padded(ids_of(3, 9))
    assert torch.equal(model(batch["input_ids"]).logits, model(**batch).logits)


def test_the_bilstm_reads_order_in_both_directions():
    """With one direction alone, a change of the first (or last) word of a long text would hardly be seen."""
    model, (row,) = bilstm(), ids_of(6)
    reference = model(row[None]).logits
    for place in (0, -1):
        other = row.clone()
        other[place] = (row[place] + 1) % 39 + 1
        assert (model(other[None]).logits - reference).abs().max() > 1e-4
    assert (model(row.flip(0)[None]).logits - reference).abs().max() > 1e-4


def test_the_last_states_are_those_of_a_plain_lstm():
    model, (row,) = bilstm(), ids_of(5)
    vectors = torch.cat([model.frozen_vectors(row), model.tuned_vectors(row)], -1)
    output, _ = model.lstm(vectors[None])
    expected = torch.cat([output[0, -1, :5], output[0, 0, 5:]])
    found = model.encode(row[None], torch.tensor([5]))[0]
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-6)


def test_padded_and_packed_states_and_their_gradients_are_equal():
    """A CPU takes the first, a GPU the second."""
    lstm, lengths = bilstm().lstm, torch.tensor([4, 1, 9, 6])
    vectors = torch.randn(4, 9, lstm.input_size)
    wanted = torch.randn(4, 2 * lstm.hidden_size)
    found = []
    for states in (_padded_states, _packed_states):
        inputs = vectors.clone().requires_grad_()
        out = states(lstm, inputs, lengths)
        found.append([out, *torch.autograd.grad(out, [inputs, *lstm.parameters()], wanted)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def features(model, **inputs):
    """Return what enters the ReLU layer."""
    seen = []
    handle = model.projection.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    model(**inputs)
    handle.remove()
    return seen[0].detach()


def pair(first, second):
    kinds = torch.cat([torch.zeros(len(first)), torch.ones(len(second))]).long()
    return {"input_ids": torch.cat([first, second])[None], "token_type_ids": kinds[None]}


def test_swapping_the_texts_of_a_pair_swaps_the_first_two_blocks_alone():
    model = bilstm(siamese=True)
    one, other = ids_of(4, 9)
    before = features(model, **pair(one, other))[0].split(10)
    after = features(model, **pair(other, one))[0].split(10)
    assert torch.allclose(before[0], after[1], atol=1e-6)
    assert torch.allclose(before[1], after[0], atol=1e-6)
    assert not torch.allclose(before[0], before[1], atol=1e-2)
    assert torch.allclose(before[2], after[2], atol=1e-6)
    assert torch.allclose(before[3], after[3], atol=1e-6)


def test_pair_features_are_states_product_and_distance_of_one_shared_encoder():
    model = bilstm(siamese=True)
    one, other = ids_of(4, 9)
    h1, h2, product, distance = features(model, **pair(one, other))[0].split(10)
    assert h1.tolist() == pytest.approx(model.encode(one[None], torch.tensor([4]))[0].tolist(), abs=1e-6)
    assert h2.tolist() == pytest.approx(model.encode(other[None], torch.tensor([9]))[0].tolist(), abs=1e-6)
    assert torch.allclose(product, h1 * h2)
    assert torch.allclose(distance, (h1 - h2).abs())
    assert len([m for m in model.modules() if isinstance(m, torch.nn.LSTM)]) == 1


def test_pairs_without_segments_are_refused():
    with pytest.raises(ValueError, match="needs token_type_ids"):
        bilstm(siamese=True)(ids_of(4)[0][None])


@pytest.mark.parametrize("siamese", [False, True])
@pytest.mark.parametrize("texts", [[""], ["", ""], ["", "good film"]])
def test_an_empty_text_gets_finite_logits(rows, sentences, siamese, texts):
    tokenizer = build_tokenizer([rows(sentences(20))], min_count=1, max_words=100, lowercase=True, max_length=16)
    model = bilstm(siamese=siamese, vocab_size=len(tokenizer))
    encoded = encode_texts(texts, texts if siamese else None, tokenizer, 16)
    alone = score_encoded(model, encode_texts([""], [""] if siamese else None, tokenizer, 16), precision="float32")
    found = score_encoded(model, encoded, precision="float32")
    assert found.shape == (len(texts), 3)
    assert np.isfinite(found).all()
    assert found[0] == pytest.approx(alone[0], abs=1e-6)


@pytest.mark.parametrize("paired", [False, True])
def test_a_saved_bilstm_loads_through_the_auto_classes(rows, sentences, make_task, tmp_path, paired):
    texts = sentences(20)
    task = make_task(labels=("bad", "fine", "good"), pair="other" if paired else None)
    tokenizer = build_tokenizer([rows(texts)], min_count=1, max_words=100, lowercase=True, max_length=16)
    vectors = np.random.default_rng(0).normal(size=(len(tokenizer), 6)).astype(np.float32)
    student = build_student(BilstmSoft(hidden=5, projection=7), task, tokenizer, vectors, 0).eval()
    student.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    arguments = (texts, texts[::-1]) if paired else (texts,)
    before, after = (
        net(**words(*arguments, padding=True, return_tensors="pt")).logits
        for net, words in ((student, tokenizer), (model, AutoTokenizer.from_pretrained(tmp_path)))
    )
    assert torch.equal(before, after)
    assert model.config.id2label == {0: "bad", 1: "fine", 2: "good"}
    after.square().sum().backward()
    assert model.frozen_vectors.weight.grad is None
    assert model.tuned_vectors.weight.grad.any()
    assert (tmp_path / "bilstm.py").exists()


def test_both_channels_start_from_the_vectors_and_one_of_them_moves(rows, make_task):
    tokenizer = build_tokenizer([rows(["good film"])], min_count=1, max_words=9, lowercase=True, max_length=16)
    vectors = np.random.default_rng(0).normal(size=(len(tokenizer), 6)).astype(np.float32)
    student = build_student(BilstmSoft(hidden=5, projection=7, dropout=0.0), make_task(), tokenizer, vectors, 0)
    assert np.array_equal(student.frozen_vectors.weight.detach(), vectors)
    assert np.array_equal(student.tuned_vectors.weight.detach(), vectors)
    optimizer = torch.optim.SGD([p for p in student.parameters() if p.requires_grad], lr=1.0)
    student(**tokenizer("good film", return_tensors="pt")).logits.square().sum().backward()
    optimizer.step()
    assert np.array_equal(student.frozen_vectors.weight.detach(), vectors)
    moved = (student.tuned_vectors.weight.detach().numpy() != vectors).any(-1)
    assert moved.tolist() == [word in ("good", "film") for word in tokenizer.convert_ids_to_tokens(range(len(moved)))]


def test_a_student_depends_on_the_seed_alone(rows, make_task):
    tokenizer = build_tokenizer([rows(["good film"])], min_count=1, max_words=9, lowercase=True, max_length=16)
    vectors = np.zeros((len(tokenizer), 6), np.float32)

    def weights(seed):
        return build_student(BilstmSoft(hidden=5), make_task(), tokenizer, vectors, seed).projection.weight

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


IDS = torch.randint(5, 60, (3, 12), generator=torch.Generator().manual_seed(0))


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


@pytest.mark.parametrize("kept", [(0, 2, 3), (0,), (0, 3, 1)])
def test_surgery_copies_the_kept_layers_bit_for_bit_and_saves(family, kept, make_model, tmp_path):
    whole = make_model(family, kind="single-label", layers=4)
    before = {name: weight.clone() for name, weight in whole.state_dict().items()}
    student = keep_layers(whole, kept)
    parts, old = anatomy(student), anatomy(whole)
    assert len(parts.layers) == len(kept)
    for layer, number in zip(parts.layers, kept, strict=True):
        found, expected = layer.state_dict(), old.layers[number].state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    outside = [name for name in before if f".{parts.layers_path}." not in name]
    assert outside
    assert all(torch.equal(student.state_dict()[name], before[name]) for name in outside)

    student.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert torch.equal(logits(student), logits(loaded))
    assert len(anatomy(loaded).layers) == len(kept)


def test_surgery_leaves_the_teacher_as_it_was(family, make_model):
    whole = make_model(family, kind="single-label", layers=3)
    before = logits(whole)
    student = keep_layers(whole, (0, 2))
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    assert torch.equal(logits(whole), before)
    assert len(anatomy(whole).layers) == 3
    assert whole.config.num_hidden_layers == 3


def test_keeping_all_layers_changes_nothing(family, make_model):
    whole = make_model(family, kind="single-label", layers=3)
    assert torch.equal(logits(keep_layers(whole, (0, 1, 2))), logits(whole))


def test_a_dropped_layer_changes_the_logits(family, make_model):
    whole = make_model(family, kind="single-label", layers=3)
    found = [logits(whole), logits(keep_layers(whole, (0, 1))), logits(keep_layers(whole, (0, 2)))]
    assert not torch.allclose(found[0], found[1], atol=1e-4)
    assert not torch.allclose(found[1], found[2], atol=1e-4)


@pytest.mark.parametrize("wrong", [(), (0, 4), (-1,), (1, 1), (0, 2, 0)])
def test_a_wrong_list_of_layers_is_refused(make_model, wrong):
    with pytest.raises(ConfigError, match="different layer numbers from 0 to 3"):
        keep_layers(make_model(kind="single-label", layers=4), wrong)


@pytest.mark.parametrize("kept", [(1, 3), (2, 0)])
def test_a_layer_that_would_not_load_at_its_new_place_is_refused(make_model, kept):
    """ModernBERT's layer 0 has no LayerNorm before its attention; saved elsewhere, weights would be lost."""
    with pytest.raises(ConfigError, match="begin the list with layer 0"):
        keep_layers(make_model("modernbert", kind="single-label", layers=4), kept)


def test_modernberts_layers_keep_their_kind_of_attention(make_model):
    student = keep_layers(make_model("modernbert", kind="single-label", layers=4), (0, 1, 3))
    assert student.config.layer_types == ["full_attention", "sliding_attention", "full_attention"]


@pytest.mark.parametrize(
    ("depth", "layers"),
    [
        (12, (0, 2, 4, 7, 9, 11)),
        (1, (0,)),
        (2, (0,)),
        (3, (0,)),
        (4, (0, 3)),
        (6, (0, 3, 5)),
        (24, (0, 2, 4, 6, 8, 10, 13, 15, 17, 19, 21, 23)),
    ],
)
def test_every_other_layer_spreads_from_the_first_to_the_last(depth, layers):
    assert every_other_layer(depth) == layers


@pytest.mark.parametrize("depth", range(2, 49))
def test_every_other_layer_keeps_half_of_them_evenly(depth):
    layers = every_other_layer(depth)
    assert len(layers) == max(1, depth // 2)
    assert layers[0] == 0
    gaps = np.diff(layers)
    assert (gaps >= 1).all()
    assert len(layers) < 3 or gaps.max() - gaps.min() <= 1


def test_anatomy_finds_the_layers_with_and_without_a_head(family, make_model):
    for kind in (None, "single-label"):
        model = make_model(family, kind=kind, layers=3)
        parts = anatomy(model)
        assert len(parts.layers) == getattr(model.config, parts.depth_key) == 3
        assert parts.base.get_submodule(parts.layers_path) is parts.layers
        assert any(isinstance(module, torch.nn.Embedding) for module in parts.embeddings.modules())


@pytest.mark.parametrize(
    ("model", "config"),
    [
        ("T5EncoderModel", {"vocab_size": 60, "d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 16, "d_kv": 8}),
        ("AlbertModel", {"vocab_size": 60, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}),
        (
            "GPT2Model",
            {"vocab_size": 9, "n_embd": 16, "n_layer": 1, "n_head": 2, "bos_token_id": 1, "eos_token_id": 1},
        ),
    ],
)
def test_an_unknown_architecture_is_refused_with_what_was_looked_for(model, config):
    built = getattr(transformers, model)
    with pytest.raises(ModelError, match=f"{model} is not known: looked for 'embeddings'.* encoder.layer, .*n_layers"):
        anatomy(built(built.config_class(**config)))


def test_a_bilstm_has_no_layers_to_keep():
    with pytest.raises(ModelError, match="BilstmForSequenceClassification is not known"):
        keep_layers(bilstm(), (0,))


class Output:
    def __init__(self, hidden):
        self.last_hidden_state = hidden


def test_mean_hidden_leaves_out_padding_and_special_tokens():
    hidden = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]])
    found = mean_hidden(Output(hidden), {"attention_mask": mask})
    assert torch.allclose(found[0], hidden[0, 1:5].mean(0))
    assert torch.allclose(found[1], hidden[1, 1])
    assert torch.allclose(found[2], hidden[2, :2].mean(0))  # [CLS] [SEP] alone: their mean, not 0 / 0


def test_scores_come_in_row_order_whatever_the_batches(make_model, tokenizer, sentences, monkeypatch):
    texts = sentences(30)
    model, encoded = make_model(kind="single-label"), encode_texts(texts, None, tokenizer, 32)
    monkeypatch.setitem(TOKENS_PER_BATCH, "cpu", 40)
    found = score_encoded(model, encoded, precision="float32")
    with torch.no_grad():
        alone = [model(**tokenizer(text, return_tensors="pt")).logits[0].numpy() for text in texts]
    assert found == pytest.approx(np.stack(alone), abs=1e-5)


def test_scoring_runs_in_eval_mode_and_gives_the_mode_back(make_model, tokenizer):
    model = make_model(kind="single-label").train()
    encoded = encode_texts(["good film"], None, tokenizer, 32)
    modes = []
    model.register_forward_pre_hook(lambda net, _: modes.append(net.training))
    score_encoded(model, encoded)
    assert modes == [False]
    assert model.training


def test_the_mode_is_given_back_after_an_error(make_model):
    model = make_model(kind="single-label").train()
    with pytest.raises(IndexError):
        list(forward_batches(model, [(np.array([0]), {"input_ids": torch.tensor([[999]])})]))
    assert model.training


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx512f"}, "float32"),
        ({"avx512f", "avx512_bf16"}, "bfloat16"),
        ({"amx_bf16"}, "bfloat16"),
        (set(), "float32"),
    ],
)
def test_auto_precision_is_bfloat16_only_where_the_processor_multiplies_it(monkeypatch, flags, expected):
    monkeypatch.setattr(hardware, "_cpu_flags", lambda: flags)
    assert hardware.resolve_precision(torch.device("cpu"), "auto") == expected


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_precision_that_is_asked_for_is_used(monkeypatch, precision):
    monkeypatch.setattr(hardware, "_cpu_flags", lambda: {"avx512_bf16"} if precision == "float32" else set())
    assert hardware.resolve_precision(torch.device("cpu"), precision) == precision
    with hardware.autocast(torch.device("cpu"), precision):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == getattr(torch, precision)

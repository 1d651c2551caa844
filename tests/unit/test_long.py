"""What is read of texts beyond the length limit: head and tail, chunks; in training and in prediction alike."""

import numpy as np
import pytest
import torch

from attar.bundle import load_bundle, save_bundle
from attar.config import PretrainConfig, TextConfig, TrainConfig, from_table
from attar.data.encoding import encode, encode_texts
from attar.data.long_texts import MAX_CHUNKS
from attar.data.states import store_states
from attar.errors import ConfigError
from attar.inference.predictor import Predictor
from attar.methods.mlm_head.config import MlmHead
from attar.nets.scoring import head_logits, model_inputs, score_encoded
from attar.teacher.scoring import Scorer

LIMIT = 12
WORDS = "the film was very good bad great awful dull bright story actor music scene plot boring lovely anna bob".split()  # noqa: SIM905


def text_of(n, seed=0):
    return " ".join(np.random.default_rng(seed).choice(WORDS, n))


def ids_of(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def row(encoded, i):
    return encoded.columns["input_ids"][encoded.offsets[i] : encoded.offsets[i + 1]].tolist()


@pytest.mark.parametrize("long", ["head-tail", "chunks", "chunks-max", "windowed"])
def test_texts_within_the_limit_are_encoded_the_same(tokenizer, long):
    texts = [text_of(n) for n in (1, 5, LIMIT - 2)] + [""]
    plain, other = (encode_texts(texts, None, tokenizer, LIMIT, long=how) for how in ("truncate", long))
    for i in range(len(texts)):
        assert row(other, i) == row(plain, i)
    left, right = plain.batch([0, 2, 3]), other.batch([0, 2, 3])
    for name, tensor in left.items():
        assert torch.equal(right[name], tensor)


def test_head_and_tail_are_in_the_proportion_of_128_to_382(tokenizer):
    text = text_of(900)
    ids = ids_of(tokenizer, text)
    encoded = encode_texts([text], None, tokenizer, 512, long="head-tail")
    assert row(encoded, 0) == [2, *ids[:128], *ids[-382:], 3]


@pytest.mark.parametrize("limit", [3, 4, 12, 40])
def test_head_and_tail_fill_any_limit_with_different_tokens(tokenizer, limit):
    text = text_of(limit)
    ids = ids_of(tokenizer, text)
    found = row(encode_texts([text], None, tokenizer, limit, long="head-tail"), 0)
    assert len(found) == limit
    head = round((limit - 2) * 128 / 510)
    assert found == [2, *ids[:head], *ids[head + 2 :], 3]


@pytest.mark.parametrize("n", [11, 20, 21, 47])
def test_chunks_are_few_equally_long_and_hold_every_token_once(tokenizer, n):
    text = text_of(n)
    encoded = encode_texts([text, "good"], None, tokenizer, LIMIT, long="chunks")
    batch = encoded.batch([0, 1])
    chunks = [
        line[real.bool()].tolist() for line, real in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    assert all(chunk[0] == 2 and chunk[-1] == 3 for chunk in chunks)
    own = chunks[:-1]
    assert [token for chunk in own for token in chunk[1:-1]] == ids_of(tokenizer, text)
    assert len(own) == -(-n // (LIMIT - 2))
    assert max(map(len, own)) - min(map(len, own)) <= 1
    assert batch["chunks_mean"].tolist() == [0] * len(own) + [1]
    assert encoded.counts.tolist() == [1, 1]


def test_a_text_has_a_limited_number_of_chunks(tokenizer):
    text = text_of(MAX_CHUNKS * 10 + 55)
    batch = encode_texts([text], None, tokenizer, LIMIT, long="chunks").batch([0])
    assert len(batch["input_ids"]) == MAX_CHUNKS
    assert batch["input_ids"][:, 1:-1].flatten().tolist() == ids_of(tokenizer, text)[: MAX_CHUNKS * 10]


def test_from_files_and_in_memory_are_the_same(tokenizer, rows):
    texts = [text_of(n, seed=n) for n in (3, 40, 25)]
    one = encode(rows(texts), tokenizer, LIMIT, long="chunks-max")
    other = encode_texts(texts, None, tokenizer, LIMIT, long="chunks-max")
    for name, tensor in one.batch([2, 0, 1]).items():
        assert torch.equal(tensor, other.batch([2, 0, 1])[name])
    assert "chunks_max" in one.batch([0])


@pytest.mark.parametrize(("long", "pool"), [("chunks", np.mean), ("chunks-max", np.max)])
def test_the_logits_of_a_text_are_pooled_over_its_chunks(make_model, tokenizer, long, pool):
    """Scored together, whatever the batches, and chunk by chunk: the same."""
    model = make_model("bert", kind="single-label")
    texts = [text_of(n, seed=n) for n in (3, 40, 25, 9)]
    found = score_encoded(model, encode_texts(texts, None, tokenizer, LIMIT, long=long))
    for text, logits in zip(texts, found, strict=True):
        lines = encode_texts([text], None, tokenizer, LIMIT, long=long).batch([0])
        alone = []
        for ids, real in zip(lines["input_ids"], lines["attention_mask"], strict=True):
            with torch.no_grad():
                alone.append(model(ids[None, : int(real.sum())]).logits[0].numpy())
        assert np.allclose(pool(alone, axis=0), logits, atol=1e-5)


@pytest.mark.parametrize("long", ["chunks", "chunks-max"])
def test_gradients_reach_every_chunk_that_counts(make_model, tokenizer, long):
    model = make_model("bert", kind="single-label")
    encoded = encode_texts([text_of(40), text_of(5)], None, tokenizer, LIMIT, long=long)
    batch = encoded.batch([0, 1])
    logits = head_logits(model(**model_inputs(batch)), batch)
    assert logits.shape == (2, 2)
    logits.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("long", ["head-tail", "chunks", "chunks-max"])
def test_a_bundle_predicts_as_it_was_trained(make_model, make_task, tokenizer, tmp_path, long):
    model = make_model("bert", kind="single-label")
    task = make_task()
    save_bundle(tmp_path / "b", model, tokenizer, task, max_length=LIMIT, precision="float32", long=long)
    bundle = load_bundle(str(tmp_path / "b"))
    assert bundle.long == long
    texts = [text_of(n, seed=n) for n in (4, 60, 31)]
    encoded = encode_texts(texts, None, tokenizer, LIMIT, long=long)
    assert np.allclose(Predictor(bundle).logits(texts), score_encoded(model, encoded), atol=1e-6)
    Predictor(bundle).save(str(tmp_path / "copy"))
    assert load_bundle(str(tmp_path / "copy")).long == long


def test_a_bundle_that_reads_heads_has_no_word_on_it(make_model, make_task, tokenizer, tmp_path):
    save_bundle(tmp_path / "b", make_model(kind="single-label"), tokenizer, make_task(), max_length=9, precision="auto")
    assert "long" not in (tmp_path / "b" / "attar.json").read_text()
    assert load_bundle(str(tmp_path / "b")).long == "truncate"


def test_a_teacher_of_chunks_has_signals_of_its_own(make_model, tokenizer, rows):
    def scorer(long):
        load = lambda: (make_model("bert", kind="single-label"), tokenizer)  # noqa: E731
        return Scorer(load=load, fingerprint="f", signal="logits", max_length=LIMIT, long=long)

    keys = {long: scorer(long).key() for long in ("truncate", "windowed", "chunks", "chunks-max", "head-tail")}
    assert keys["truncate"] == keys["windowed"]
    assert len(set(keys.values())) == 4
    split = rows([text_of(40), text_of(5)])
    found = [scorer(long).score([split], "score").take(np.arange(2)) for long in ("truncate", "chunks")]
    assert not np.allclose(found[0][0], found[1][0])
    assert np.allclose(found[0][1], found[1][1], atol=1e-6)


def test_batches_of_chunks_keep_the_budget_with_their_padding(tokenizer):
    """Texts of one full chunk, and texts of two halves that would be padded to it."""
    encoded = encode_texts([text_of(n) for n in (17, 17, 22, 22, 5, 60)], None, tokenizer, LIMIT, long="chunks")
    counts, longest = encoded.lines
    seen = []
    for rows, batch in encoded.batches(3 * LIMIT):
        assert len(rows) == 1 or batch["input_ids"].numel() <= 3 * LIMIT
        assert batch["input_ids"].shape == (counts[rows].sum(), longest[rows].max())
        seen.extend(rows.tolist())
    assert sorted(seen) == list(range(6))


def test_states_of_a_frozen_prefix_keep_their_chunks(make_model, tokenizer):
    """Stored states stand where the token ids stood."""
    encoded = encode_texts([text_of(40), text_of(5)], None, tokenizer, LIMIT, long="chunks")

    def states():
        for places, batch in encoded.batches(10**6):
            ids = batch["input_ids"][batch["attention_mask"].bool()]
            yield places, np.repeat(ids.numpy()[:, None], 3, 1).astype(np.float32)

    stored = store_states(encoded, states(), torch.float16)
    plain, other = encoded.batch([1, 0]), stored.batch([1, 0])
    assert torch.equal(other["inputs_embeds"][..., 0].long(), plain["input_ids"])
    assert torch.equal(other["chunks_mean"], plain["chunks_mean"])


@pytest.mark.parametrize("long", ["head-tail", "chunks"])
def test_refuses_pairs_and_words(tokenizer, long):
    with pytest.raises(ConfigError, match="single texts; found pairs"):
        encode_texts(["a"], ["b"], tokenizer, LIMIT, long=long)
    with pytest.raises(ConfigError, match="single texts; found lists of words"):
        encode_texts([["a"]], None, tokenizer, LIMIT, words=True, long=long)


def test_settings_are_checked():
    with pytest.raises(ConfigError, match=r"train.long.* expects one of truncate, head-tail"):
        from_table(TrainConfig, {"long": "tail"}, "train.")
    with pytest.raises(ValueError, match="for texts with labels"):
        PretrainConfig(teacher="t", text=TextConfig(paths=("x",)), method=MlmHead(), train=TrainConfig(long="chunks"))

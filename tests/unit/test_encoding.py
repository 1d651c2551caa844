import numpy as np
import pytest
import torch

from attar.data import texts as texts_module
from attar.data.encoding import encode, encode_texts
from attar.data.texts import TextSource


def row(encoded, i, name="input_ids"):
    return encoded.columns[name][encoded.offsets[i] : encoded.offsets[i + 1]].tolist()


@pytest.fixture
def small_chunks(monkeypatch):
    """Make streaming cross chunk borders."""
    monkeypatch.setattr(texts_module, "_CHUNK", 7)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("max_length", [6, 64])
def test_streaming_in_memory_and_the_plain_tokenizer_agree_row_by_row(tokenizer, rows, sentences, max_length):
    texts = sentences(40)
    parts = [rows(texts[:13]), rows(texts[13:14]), rows(texts[14:])]
    streamed = encode(parts, tokenizer, max_length)
    memory = encode_texts(texts, None, tokenizer, max_length)
    assert len(streamed) == len(memory) == 40
    for i, text in enumerate(texts):
        plain = tokenizer(text, truncation=True, max_length=max_length)
        assert row(streamed, i) == row(memory, i) == plain["input_ids"]
        assert row(streamed, i, "token_type_ids") == row(memory, i, "token_type_ids") == plain["token_type_ids"]
    assert max(streamed.lengths) <= max_length


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("max_length", [9, 64])
def test_pairs_keep_their_segments(tokenizer, rows, sentences, max_length):
    first, second = sentences(20, seed=1), sentences(20, seed=2)
    streamed = encode(rows(first, second), tokenizer, max_length)
    memory = encode_texts(first, second, tokenizer, max_length)
    for i in range(20):
        plain = tokenizer(first[i], second[i], truncation=True, max_length=max_length)
        assert row(streamed, i) == row(memory, i) == plain["input_ids"]
        segments = row(streamed, i, "token_type_ids")
        assert segments == row(memory, i, "token_type_ids") == plain["token_type_ids"]
        assert set(segments) == {0, 1}


@pytest.mark.parametrize("special", [True, False])
def test_what_the_tokenizer_is_set_to_holds(make_tokenizer, special):
    tokenizer = make_tokenizer()
    tokenizer.truncation_side, tokenizer.split_special_tokens = "left", special
    texts = ["good [SEP] film", "the film was not very good"]
    plain = tokenizer(texts, truncation=True, max_length=5)["input_ids"]
    assert (plain[0].count(3) == 1) == special
    tokenizer(texts, padding="max_length", max_length=9, split_special_tokens=not special)
    encoded = encode_texts(texts, None, tokenizer, 5)
    assert [row(encoded, i) for i in range(2)] == plain


def test_a_tokenizer_whose_model_reads_no_segments_gives_none(make_tokenizer):
    encoded = encode_texts(["a film"], ["a plot"], make_tokenizer(segments=False, seps=2), 64)
    assert set(encoded.columns) == {"input_ids"}
    assert row(encoded, 0).count(3) == 3


def test_a_batch_is_padded_to_its_own_longest_row(tokenizer):
    texts = ["good", "the film was not very good", "bad plot"]
    encoded = encode_texts(texts, None, tokenizer, 64)
    batch = encoded.batch([2, 0])
    expected = tokenizer([texts[2], texts[0]], padding=True, return_tensors="pt")
    assert batch["input_ids"].shape == (2, 4)
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert torch.equal(batch[name], expected[name])


def test_padding_uses_the_tokenizers_own_pad_id(make_tokenizer):
    tokenizer = make_tokenizer()
    tokenizer.pad_token = "!"
    batch = encode_texts(["good", "very good film"], None, tokenizer, 64).batch([0, 1])
    assert batch["input_ids"][0, 3:].tolist() == [tokenizer.convert_tokens_to_ids("!")] * 2
    assert batch["attention_mask"].sum(-1).tolist() == [3, 5]


@pytest.mark.parametrize("budget", [1, 20, 64, 10_000])
def test_batches_cover_every_row_once_within_the_budget(tokenizer, sentences, budget):
    encoded = encode_texts(sentences(50), None, tokenizer, 64)
    seen = []
    for numbers, batch in encoded.batches(budget):
        seen.extend(numbers.tolist())
        assert len(numbers) == 1 or batch["input_ids"].numel() <= budget
        for place, number in enumerate(numbers):
            real = batch["attention_mask"][place].bool()
            assert batch["input_ids"][place][real].tolist() == row(encoded, number)
    assert sorted(seen) == list(range(50))


def test_batches_fill_the_budget(tokenizer, sentences):
    encoded = encode_texts(sentences(50), None, tokenizer, 64)
    sizes = [batch["input_ids"].shape for _, batch in encoded.batches(64)]
    assert all((b + 1) * t > 64 for b, t in sizes[:-1])
    assert sum(b * t for b, t in sizes) < 1.25 * encoded.lengths.sum()


@pytest.mark.parametrize(("mask", "id_"), [("<mask>", 4), ("[MASK]", 4)])
def test_the_mask_placeholder_becomes_the_tokenizers_own_mask(make_tokenizer, rows, mask, id_):
    tokenizer = make_tokenizer(mask=mask)
    text, pair = "a [MASK] film", "[MASK] [MASK]"
    for encoded in (encode_texts([text], [pair], tokenizer, 64), encode(rows([text], [pair]), tokenizer, 64)):
        assert row(encoded, 0) == tokenizer(f"a {mask} film", f"{mask} {mask}")["input_ids"]
        assert row(encoded, 0).count(id_) == 3


def test_the_mask_placeholder_stays_as_it_is_without_a_mask_token(make_tokenizer):
    tokenizer = make_tokenizer(mask="<mask>")
    tokenizer.mask_token = None
    assert row(encode_texts(["a [MASK] film"], None, tokenizer, 64), 0) == tokenizer("a [MASK] film")["input_ids"]


TOKENS = [["unhappy", "film", "plays"], ["bad"], ["\u200d", "good", " ", "unhappyly"], [], ["\u200d"]]


@pytest.mark.parametrize("max_length", [64, 5])
def test_a_word_is_marked_on_its_first_piece_unless_cut_off_or_empty(tokenizer, rows, max_length):
    """Independently: a word has a prediction where tokenizing it alone gives pieces that fit before the limit."""
    for encoded in (
        encode_texts(TOKENS, None, tokenizer, max_length, words=True),
        encode(rows(TOKENS), tokenizer, max_length),
    ):
        for i, words in enumerate(TOKENS):
            place, expected, ids = 1, {}, []
            for number, word in enumerate(words):
                pieces = tokenizer(word, add_special_tokens=False)["input_ids"]
                if pieces and place < max_length - 1:
                    expected[number] = place
                place += len(pieces)
                ids.extend(pieces)
            assert row(encoded, i) == [2, *ids[: max_length - 2], 3]
            assert encoded.words(i).tolist() == list(expected)
            starts = encoded.batch([i])["word_starts"][0]
            assert starts.nonzero().flatten().tolist() == list(expected.values())
        assert encoded.counts.tolist() == [len(encoded.words(i)) for i in range(len(TOKENS))]


def test_words_that_yield_no_piece_and_words_cut_off_have_no_prediction(tokenizer):
    encoded = encode_texts(TOKENS, None, tokenizer, 64, words=True)
    assert encoded.counts.tolist() == [3, 1, 2, 0, 0]
    assert encoded.words(2).tolist() == [1, 3]
    assert encode_texts(TOKENS, None, tokenizer, 4, words=True).counts.tolist() == [1, 1, 2, 0, 0]


def test_texts_count_one_line_each(tokenizer):
    assert encode_texts(["a", "good film"], None, tokenizer, 64).counts.tolist() == [1, 1]


@pytest.fixture
def source(rows):
    return TextSource([rows(["a", "b"], ["1", "2"]), rows(["c"], ["3"]), rows(["d", "e", "a"], ["4", "5", "1"])])


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 2, 0, 2, 4], [3], [1, 1, 1]])
def test_take_gives_the_rows_of_all_parts_in_the_order_asked_for(source, order):
    assert len(source) == 6
    assert source.take(np.array(order)) == (["abcdea"[i] for i in order], ["123451"[i] for i in order])


def test_take_of_single_texts_has_no_second_texts(rows):
    assert TextSource([rows(["a"]), rows(["b"])]).take(np.array([1, 0])) == (["b", "a"], None)


def test_equal_examples_have_equal_digests_and_others_do_not(source):
    digests = source.digests()
    assert digests.dtype == "S16"
    assert digests[0] == digests[5]
    assert len(set(digests.tolist())) == 5


def test_digests_tell_how_an_example_is_cut(rows):
    examples = [
        rows(["ab"]),
        rows(["a"], ["b"]),
        rows([""], ["ab"]),
        rows(["ab"], [""]),
        rows([["a", "b"]]),
        rows([["a b"]]),
        rows([["", "ab"]]),
    ]
    assert len({TextSource([example]).digests()[0] for example in examples}) == len(examples)


@pytest.mark.usefixtures("small_chunks")
def test_digests_do_not_depend_on_parts_or_chunks(rows, sentences):
    texts = sentences(30)
    whole, parts = TextSource([rows(texts)]), TextSource([rows(texts[:11]), rows(texts[11:])])
    assert whole.digests().tolist() == parts.digests().tolist()


def test_digests_leave_other_columns_out(rows):
    assert TextSource([rows(["a"], label=[1])]).digests() == TextSource([rows(["a"], label=[0])]).digests()

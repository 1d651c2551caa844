import gzip
import struct

import numpy as np
import pytest
import torch
from transformers import AutoModel

from attar.config import TrainConfig
from attar.data.task import TaskData
from attar.data.vectors import read_vectors
from attar.errors import ConfigError, DataError
from attar.methods.bilstm_soft.config import BilstmSoft
from attar.methods.bilstm_soft.plan import plan
from attar.methods.bilstm_soft.vectors import encoder_vectors, word_vectors
from attar.methods.bilstm_soft.vocabulary import build_tokenizer, words_of
from attar.methods.contract import Context
from attar.nets.loading import load_tokenizer
from attar.nets.vocabulary import whole_words
from attar.teacher.scores import ScoreColumns, Scores

VECTORS = {"good": [1.0, -2.0, 0.5], "film": [0.25, 0.0, -8.0], "Paris": [3.0, 3.0, 3.0], "the": [9.0, 9.0, 9.0]}
SPECIAL = ["[PAD]", "[UNK]", "[MASK]"]


def glove(vectors):
    return "".join(f"{word} {' '.join(map(str, values))}\n" for word, values in vectors.items()).encode()


def word2vec_text(vectors):
    # word2vec writes a blank behind the last number.
    return f"{len(vectors)} 3\n".encode() + glove(vectors).replace(b"\n", b" \n")


def word2vec_binary(vectors, newline=b"\n"):
    rows = [word.encode() + b" " + struct.pack("<3f", *values) + newline for word, values in vectors.items()]
    return f"{len(vectors)} 3\n".encode() + b"".join(rows)


FORMATS = {
    "glove.txt": glove(VECTORS),
    "glove.txt.gz": gzip.compress(glove(VECTORS)),
    "w2v.vec": word2vec_text(VECTORS),
    "w2v.bin": word2vec_binary(VECTORS),
    "w2v-no-newline.bin": word2vec_binary(VECTORS, b""),
    "w2v.bin.gz": gzip.compress(word2vec_binary(VECTORS)),
}


@pytest.fixture
def write(tmp_path):
    def _write(name, content):
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return _write


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_words_asked_for(write, name):
    found = read_vectors(write(name, FORMATS[name]), {"good", "film", "paris", "plot"})
    assert {word: vector.tolist() for word, vector in found.items()} == {
        "good": VECTORS["good"],
        "film": VECTORS["film"],
        "paris": VECTORS["Paris"],
    }
    assert all(vector.dtype == np.float32 for vector in found.values())


def test_the_word_in_its_own_case_comes_before_another_case_wherever_it_stands(write):
    path = write("a.txt", glove({"US": [1, 1, 1], "Us": [2, 2, 2], "us": [3, 3, 3], "IT": [4, 4, 4], "It": [5, 5, 5]}))
    found = read_vectors(path, {"us", "it"})
    assert found["us"].tolist() == [3, 3, 3]
    assert found["it"].tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"good 1 2 3\nbad 1 2\n", r"line 2: expected a word and 3 numbers, found 2"),
        (b"good 1 2 3\nbad 1 2 3 4\n", r"line 2: expected a word and 3 numbers, found 4"),
        (b"good 1 2 3\nfilm 1 2 3\nbad 1 x 3\n", r"line 3: expected a word and 3 numbers .*'x'"),
        (b"2 3\ngood 1 2 3\nbad 1 2\n", r"line 3: expected a word and 3 numbers, found 2"),
        (b"good\n", "line 1: expected a word and 0 numbers"),
    ],
)
def test_a_wrong_line_is_named(write, content, message):
    with pytest.raises(DataError, match=message):
        read_vectors(write("a.txt", content), {"good"})


def test_words_with_blanks_in_them_are_passed_over(write):
    """GloVe's glove.840B.300d has fifteen, such as '. . .' and 'at name@domain.com'."""
    content = b"the 1 2 3\n. . . 4 5 6\nat name@domain.com 7 8 9\ngood 1 2 4\n"
    assert {word: v.tolist() for word, v in read_vectors(write("a.txt", content), {"good", ".", "at"}).items()} == {
        "good": [1, 2, 4]
    }


@pytest.mark.parametrize("cut", [2, 13, 17])
def test_a_cut_off_binary_is_refused(write, cut):
    with pytest.raises(DataError, match="ends in the middle of a vector; the file is cut off"):
        read_vectors(write("a.bin", word2vec_binary(VECTORS)[:-cut]), {"good"})


def test_a_binary_without_its_counts_is_refused(write):
    with pytest.raises(DataError, match="starts with two counts"):
        read_vectors(write("a.bin", glove(VECTORS)), {"good"})


@pytest.mark.parametrize("name", ["a.txt.gz", "a.bin.gz"])
def test_a_cut_off_gzip_file_is_refused(write, name):
    content = glove(VECTORS) if "txt" in name else word2vec_binary(VECTORS)
    with pytest.raises(DataError, match="expected a whole gzip file"):
        read_vectors(write(name, gzip.compress(content)[:-12]), {"good"})


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="not found"):
        read_vectors(str(tmp_path / "none.txt"), {"good"})


WORDS = ["good", "bad", "film", "unhappyly", "plot", "awful", "paris", "never", "scene"]


@pytest.fixture
def encoder(make_folder):
    return make_folder("encoder")


def states_by_hand(folder, tokenizer):
    """Mean of the last states of a word's pieces, the special tokens left out."""
    model = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        found = [model(**tokenizer(w, return_tensors="pt")).last_hidden_state[0, 1:-1].mean(0) for w in WORDS]
    return torch.stack(found).double().numpy()


@pytest.mark.parametrize(("width", "components"), [(4, 4), (300, 9)])
def test_encoder_vectors_are_mean_pooled_states_on_their_principal_axes(encoder, tokenizer, width, components):
    found = np.stack([encoder_vectors(encoder, WORDS, width)[word] for word in WORDS])
    states = states_by_hand(encoder, tokenizer)
    u, s, _ = np.linalg.svd(states - states.mean(0), full_matrices=False)
    expected = (u * s)[:, :components]
    assert found.shape == (9, components)
    signs = np.sign((found * expected).sum(0))
    assert found == pytest.approx(expected * signs, abs=1e-4)


def test_encoder_vectors_do_not_depend_on_a_warm_cache_or_the_call(encoder, monkeypatch, tmp_path):
    cold = encoder_vectors(encoder, WORDS, 4)
    warm = encoder_vectors(encoder, WORDS, 4)
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "other"))
    again = encoder_vectors(encoder, WORDS, 4)
    assert all(np.array_equal(cold[word], warm[word]) for word in WORDS)
    assert all(np.array_equal(cold[word], again[word]) for word in WORDS)


def test_a_second_student_does_not_run_the_encoder(encoder, monkeypatch):
    first = encoder_vectors(encoder, WORDS, 4)

    def refuse(_):
        raise AssertionError("the encoder was loaded again")

    monkeypatch.setattr("attar.teacher.words.load_encoder", refuse)
    assert all(np.array_equal(first[word], encoder_vectors(encoder, WORDS, 4)[word]) for word in WORDS)


VOCABULARY = [*SPECIAL, *WORDS]


@pytest.mark.parametrize("source", ["teacher", "encoder:{}", "random"])
def test_the_table_has_zeros_for_pad_and_random_vectors_for_the_other_special_words(encoder, source):
    table, _ = word_vectors(source.format(encoder), VOCABULARY, width=4, teacher=encoder, seed=0)
    assert table.shape == (12, 4)
    assert table.dtype == np.float32
    assert not table[0].any()
    assert table[1].all()
    assert table[2].all()
    assert len(np.unique(table, axis=0)) == 12


def test_the_table_of_an_encoder_is_its_vectors_up_to_one_scale(encoder):
    table, note = word_vectors("teacher", VOCABULARY, width=4, teacher=encoder, seed=0)
    known = encoder_vectors(encoder, WORDS, 4)
    ratio = table[3:] / np.stack([known[word] for word in WORDS])
    assert ratio == pytest.approx(np.full((9, 4), ratio[0, 0]), rel=1e-4)
    assert table[3:].std() == pytest.approx(0.15, rel=1e-4)
    assert "9 of 9 words, width 4" in note


def test_words_that_a_file_lacks_get_random_vectors_of_its_width_and_scale(write):
    known = {word: np.random.default_rng(i).normal(size=50).tolist() for i, word in enumerate(WORDS[:4])}
    path = write("a.txt", glove(known))
    many = [*VOCABULARY, *(f"word{i}" for i in range(200))]
    table, note = word_vectors(f"file:{path}", many, width=300, teacher=None, seed=0)
    assert table.shape == (212, 50)
    assert "4 of 209 words, width 50" in note
    assert table[3:7].std() == pytest.approx(0.15, rel=1e-3)
    assert table[7:].std() == pytest.approx(0.15, rel=0.05)
    assert np.abs(table[7:]).max() <= 0.15 * np.sqrt(3) + 1e-6


@pytest.mark.parametrize("source", ["random", "teacher"])
def test_random_vectors_depend_on_the_seed_alone(encoder, source):
    def table(seed):
        return word_vectors(source, VOCABULARY, width=4, teacher=encoder, seed=seed)[0]

    assert np.array_equal(table(1), table(1))
    assert not np.array_equal(table(1)[1], table(2)[1])


def test_random_vectors_need_no_model_and_write_no_cache(cache):
    table, note = word_vectors("random", VOCABULARY, width=7, teacher=None, seed=0)
    assert table.shape == (12, 7)
    assert "0 of 9 words, width 7" in note
    assert not cache.exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("teacher", "this teacher is score columns; set method.vectors to encoder:NAME, file:PATH or random"),
        ("glove", "expects teacher, encoder:NAME, file:PATH, spacy:PIPELINE or random; found 'glove'"),
        ("encoder:", "found 'encoder:'"),
        ("file:", "found 'file:'"),
        ("Random", "found 'Random'"),
    ],
)
def test_a_source_that_cannot_be_is_refused(source, message):
    with pytest.raises(ConfigError, match=message):
        word_vectors(source, VOCABULARY, width=4, teacher=None, seed=0)


def test_a_file_with_none_of_the_words_is_refused(write):
    path = write("a.txt", b"xyzzy 1 2 3\n")
    with pytest.raises(DataError, match="a vector for none of the 9 words"):
        word_vectors(f"file:{path}", VOCABULARY, width=4, teacher=None, seed=0)


def test_a_plan_with_score_columns_refuses_the_teachers_vectors_by_default(rows, make_task):
    task = make_task()
    split = rows(["good film", "bad plot"], label=[1, 0], a=[0.1, 0.9], b=[0.9, 0.1])
    data = TaskData(task=task, source="x", fingerprint="x", train=split, dev=split, test=None, unlabelled=None)
    teacher = ScoreColumns(Scores("probs", ("a", "b")), task)
    context = Context(data=data, train=TrainConfig(), teacher=teacher)
    with pytest.raises(ConfigError, match="this teacher is score columns"):
        plan(BilstmSoft(), context)
    (stage,) = plan(BilstmSoft(vectors="random", width=4), context)
    assert stage.model.tuned_vectors.weight.shape == (7, 4)


def build(*splits, **settings):
    return build_tokenizer(
        list(splits), **{"min_count": 1, "max_words": 100, "lowercase": True, "max_length": 16, **settings}
    )


def tokens(tokenizer, *texts):
    return tokenizer.convert_ids_to_tokens(tokenizer(*texts)["input_ids"])


def test_special_words_come_first_and_then_the_most_frequent(rows):
    tokenizer = build(rows(["b b c", "a c b"]))
    assert words_of(tokenizer) == [*SPECIAL, "b", "c", "a"]
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.mask_token_id) == (0, 1, 2)


def test_the_mask_is_one_word_in_text_and_no_word_of_the_counts(rows):
    tokenizer = build(rows(["a [MASK] film", "[MASK]"]))
    assert words_of(tokenizer) == [*SPECIAL, "a", "film"]
    assert tokens(tokenizer, "A [MASK] film, [MASK]film") == ["a", "[MASK]", "film", "[UNK]", "[MASK]", "film"]


def test_pairs_are_one_row_with_token_types_and_both_count(rows):
    tokenizer = build(rows(["good film"], ["bad film"]))
    found = tokenizer("good", "bad film")
    assert tokenizer.convert_ids_to_tokens(found["input_ids"]) == ["good", "bad", "film"]
    assert found["token_type_ids"] == [0, 1, 1]
    assert words_of(tokenizer) == [*SPECIAL, "film", "bad", "good"]


def test_rare_words_and_words_past_the_limit_are_unknown(rows):
    split = rows(["c c c b b a", "d d"])
    assert words_of(build(split, min_count=2)) == [*SPECIAL, "c", "b", "d"]
    assert words_of(build(split, max_words=2)) == [*SPECIAL, "c", "b"]
    assert tokens(build(split, max_words=2), "c d b") == ["c", "[UNK]", "b"]


def test_the_vocabulary_does_not_depend_on_the_order_of_rows_or_splits(rows, sentences):
    texts = sentences(40)
    expected = words_of(build(rows(texts)))
    assert words_of(build(rows(texts[::-1]))) == expected
    assert words_of(build(rows(texts[25:]), rows(texts[:25]))) == expected


def test_case_is_kept_or_folded(rows):
    split = rows(["Paris PARIS paris É"])
    assert words_of(build(split)) == [*SPECIAL, "paris", "é"]
    assert set(words_of(build(split, lowercase=False))) == {*SPECIAL, "Paris", "PARIS", "paris", "É"}
    assert tokens(build(split), "pArIs") == ["paris"]
    assert tokens(build(split, lowercase=False), "pArIs") == ["[UNK]"]


def test_composed_and_combining_characters_are_one_word(rows):
    tokenizer = build(rows(["caf\u00e9"]))
    assert tokens(tokenizer, "cafe\u0301") == ["caf\u00e9"]


def test_long_texts_and_pairs_are_cut(rows):
    tokenizer = build(rows(["a b c d e f"]), max_length=4)
    assert len(tokenizer("a b c d e f", truncation=True)["input_ids"]) == 4
    found = tokenizer("a b c d e", "f a", truncation=True)
    assert found["token_type_ids"] == [0, 0, 1, 1]


def test_extra_words_follow_those_of_the_texts_once_and_only_if_text_can_match_them(rows):
    tokenizer = build(rows(["good good film"]), extra=["good", "zebra", "Paris", "[UNK]"])
    assert words_of(tokenizer) == [*SPECIAL, "good", "film", "zebra"]
    cased = build(rows(["good film"]), extra=["Paris"], lowercase=False)
    assert words_of(cased)[-1] == "Paris"


def test_the_whole_words_of_an_encoder_are_neither_pieces_nor_marks_nor_letters(encoder):
    tokenizer = load_tokenizer(encoder)
    found = whole_words(tokenizer)
    assert {"good", "never", "un"} <= set(found.values())
    assert all(tokenizer.convert_ids_to_tokens(i) == word for i, word in found.items())
    assert not {"a", "##s", "happy", ",", "[PAD]", "PAD"} & set(found.values())

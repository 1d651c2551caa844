"""Augmentation of Tang et al.: shares, tags, pairs, duplicates, seeds, the cache."""

import functools
import math
import sys
import types
from collections import Counter

import numpy as np
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.config import Tang
from attar.data.augmentation import tang
from attar.data.augmentation.pos import load_tagger
from attar.data.augmentation.store import write_rows
from attar.data.augmentation.tang import augment, augmented_dataset
from attar.data.augmentation.words import MASK, split_words, words_of
from attar.data.task import Task
from attar.errors import ConfigError, MissingExtra

TAGS = "abcde"
hanta = functools.cache(load_tagger)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def letters(monkeypatch):
    """Tag every word with its first letter, so that same tag means same first letter."""
    monkeypatch.setattr(tang, "load_tagger", lambda name: lambda words: [word[0] for word in words])


def numbered_texts(n_texts=20, n_words=50):
    """Texts in which no word occurs twice, with the tags a to e in turn."""
    return [" ".join(f"{TAGS[i % 5]}{t * n_words + i}" for i in range(n_words)) for t in range(n_texts)]


def close(found, expected, n, sigmas=5):
    return abs(found - expected) < sigmas * math.sqrt(expected * (1 - expected) / n)


def aligned_words(texts, **settings):
    """Return (original word, word in its place) over all draws, without n-grams."""
    config = Tang(p_ngram=0, **settings)
    rows = augment(Dataset.from_dict({"text": texts}), config)
    return [pair for row in rows for pair in zip(texts[row["origin"]].split(), row["text"].split(), strict=True)]


@given(st.text() | st.text("aé1'’-_[MASK] \n\t.,😀"))
def test_splitting_loses_nothing(text):
    pieces = split_words(text)
    assert "".join(pieces) == text
    assert all(word and not any(c.isspace() for c in word) for word in words_of(pieces))
    assert not "".join(pieces[0::2]).strip()


def test_words_keep_contractions_and_the_mask_whole():
    text = f"It isn't state-of-the-art ({MASK})!"
    assert words_of(split_words(text)) == ["It", "isn't", "state-of-the-art", "(", MASK, ")", "!"]


@pytest.mark.parametrize(("p_mask", "p_pos"), [(0.1, 0.1), (0.3, 0.05), (0.0, 0.4)])
def test_words_are_masked_and_replaced_as_often_as_asked(letters, p_mask, p_pos):
    pairs = aligned_words(numbered_texts(), p_mask=p_mask, p_pos=p_pos, n_iter=20)
    masked = sum(new == MASK for _, new in pairs) / len(pairs)
    replaced = sum(new not in (MASK, old) for old, new in pairs) / len(pairs)
    assert len(pairs) == 20_000
    assert masked == 0 if p_mask == 0 else close(masked, p_mask, len(pairs))
    assert close(replaced, p_pos * (1 - 1 / 200), len(pairs))  # 1 in 200 draws finds the word itself


def test_a_word_is_masked_or_replaced_never_both(letters):
    pairs = aligned_words(numbered_texts(), p_mask=0.5, p_pos=0.5, n_iter=10)
    assert close(sum(new == MASK for _, new in pairs) / len(pairs), 0.5, len(pairs))
    assert sum(new == old for old, new in pairs) < len(pairs) / 100


def test_replacements_have_the_same_tag(letters):
    pairs = aligned_words(numbered_texts(), p_mask=0, p_pos=1, n_iter=5)
    assert all(old[0] == new[0] for old, new in pairs)
    assert len({new for _, new in pairs}) > 900


def test_replacements_are_drawn_as_often_as_the_texts_have_them():
    unigrams = tang.build_unigrams([{"common": 30, "crisp": 10}, {"z": 1}])
    words = tang.draw_words(unigrams, np.zeros(4000, dtype=np.int64), np.random.default_rng(0).random(4000))
    assert close(words.count("common") / 4000, 0.75, 4000)
    assert tang.draw_words(unigrams, np.ones(3, dtype=np.int64), np.array([0.0, 0.5, 0.999])) == ["z"] * 3


def test_ngrams_are_as_frequent_as_asked_and_one_to_five_words_long(letters):
    texts = numbered_texts(n_texts=100)
    config = Tang(p_mask=0, p_pos=0, p_ngram=0.25, n_iter=20)
    unigrams = tang.build_unigrams([{"a": 1}])
    pieces, tags = split_words(texts[0]), np.zeros(50, dtype=np.int64)
    shares = {"p_mask": config.p_mask, "p_pos": config.p_pos, "p_ngram": config.p_ngram}
    versions = tang.edit_text(pieces, tags, unigrams, np.random.default_rng(0), n=4000, **shares)
    lengths = Counter(len(v.split()) for v in versions)
    assert all(v in texts[0] for v in versions)
    assert close(1 - lengths.pop(50) / 4000, 0.25, 4000)
    assert sorted(lengths) == [1, 2, 3, 4, 5]
    assert all(close(n / lengths.total(), 0.2, lengths.total()) for n in lengths.values())


def test_ngrams_are_cut_from_the_edited_text(letters):
    config = Tang(p_mask=1, p_pos=0, p_ngram=1, n_iter=50)
    found = {row["text"] for row in augment(Dataset.from_dict({"text": numbered_texts(1)}), config)}
    assert found == {" ".join([MASK] * n) for n in range(1, 6)}


def test_hanta_replaces_within_the_part_of_speech():
    texts = ["The film was dull.", "A critic isn't happy.", "An actor wasn't late.", "The plot is clever!"]
    tag = hanta("hanta")
    known = {}
    for words in (words_of(split_words(text)) for text in texts):
        known.update(zip(words, tag(words), strict=True))
    rows = augment(Dataset.from_dict({"text": texts}), Tang(p_mask=0, p_pos=1, p_ngram=0))
    for row in rows:
        old, new = (words_of(split_words(text)) for text in (texts[row["origin"]], row["text"]))
        assert [known[word] for word in old] == [known[word] for word in new]
    assert known["film"] == known["plot"] == "NN1"
    assert known["isn't"].endswith("+XX0")


@settings(max_examples=40, deadline=None)
@given(st.text())
def test_hanta_tags_any_text_word_for_word(text):
    words = [*words_of(split_words(text)), "x" * 3000]  # unshortened, this one would take most of a minute
    assert len(hanta("hanta")(words)) == len(words)


def test_pairs_cycle_over_first_second_and_both(letters):
    texts, pairs = numbered_texts(4, 60)[0::2], numbered_texts(4, 60)[1::2]
    examples = Dataset.from_dict({"text": texts, "pair": pairs, "label": [1, 0]})
    rows = list(augment(examples, Tang(n_iter=7)))
    assert len(rows) == 14
    for row, step in zip(rows, [*range(7), *range(7)], strict=True):
        changed = (row["text"] != texts[row["origin"]], row["pair"] != pairs[row["origin"]])
        assert changed == [(True, False), (False, True), (True, True)][step % 3]
        assert row["label"] == 1 - row["origin"]


def test_both_texts_of_every_pair_keep_their_tags(letters):
    words = numbered_texts(1)[0].split()
    columns = {"text": [" ".join(words[:n]) for n in (3, 1, 9)], "pair": [" ".join(words[n:]) for n in (40, 44, 20)]}
    rows = list(augment(Dataset.from_dict(columns), Tang(p_mask=0, p_pos=1, p_ngram=0)))
    assert {row["origin"] for row in rows} == {0, 1, 2}
    for row in rows:
        for side, texts in columns.items():
            assert [w[0] for w in row[side].split()] == [w[0] for w in texts[row["origin"]].split()]


def test_one_pass_over_pairs_edits_the_first_text(letters):
    examples = Dataset.from_dict({"text": ["a1 a2 a3"], "pair": ["b1 b2"]})
    (row,) = augment(examples, Tang(n_iter=1, p_mask=1, p_pos=0, p_ngram=0))
    assert row == {"text": f"{MASK} {MASK} {MASK}", "pair": "b1 b2", "origin": 0}


def test_originals_and_duplicates_are_dropped(letters):
    texts = ["a1 a2", "a2 a1", "a1", "", "  "]
    found = [row["text"] for row in augment(Dataset.from_dict({"text": texts}), Tang(n_iter=200))]
    assert len(found) == len(set(found)) > 5
    assert not set(found) & set(texts)


def test_the_seed_decides_and_the_order_of_rows_does_not(letters):
    texts = numbered_texts(12)
    config = Tang(n_iter=3)

    def made(order, config):
        rows = augment(Dataset.from_dict({"text": [texts[i] for i in order]}), config)
        return [(order[row["origin"]], row["text"]) for row in rows]

    straight = made(range(12), config)
    assert made(range(12), config) == straight
    assert sorted(made(range(11, -1, -1), config)) == sorted(straight)
    assert made(range(12), Tang(n_iter=3, seed=1)) != straight


def test_the_cache_is_used_for_the_same_texts_and_settings_only(letters, tmp_path, monkeypatch):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    examples = Dataset.from_dict({"text": numbered_texts(6), "label": [0, 1] * 3}, features=features)
    calls = []
    first = augmented_dataset(examples, Tang(n_iter=2), progress=lambda *done: calls.append(done))
    assert first.features == {**features, "origin": Value("int64")}
    assert first["label"] == [i % 2 for i in first["origin"]]
    assert first.cache_files
    assert calls[-1] == (12, 12)
    monkeypatch.setattr(tang, "load_tagger", lambda name: pytest.fail("made again"))
    moved = Dataset.from_dict({**examples.to_dict(), "other": range(6)}).cast_column("label", features["label"])
    second = augmented_dataset(moved, Tang(n_iter=2))
    assert second.to_dict() == first.to_dict()
    for other, config in [(examples.select(range(5)), Tang(n_iter=2)), (examples, Tang(n_iter=3))]:
        with pytest.raises(pytest.fail.Exception, match="made again"):
            augmented_dataset(other, config)
    assert len(list((tmp_path / "cache" / "augment").iterdir())) == 1  # nothing half-written is left


def test_labels_of_every_kind_and_no_rows_come_through(letters):
    texts = numbered_texts(2)
    for feature, labels in [(Value("float32"), [0.5, None]), (List(Value("float32")), [[0.0, 1.0], None])]:
        features = Features({"text": Value("string"), "label": feature})
        made = augmented_dataset(Dataset.from_dict({"text": texts, "label": labels}, features=features), Tang())
        assert made.features["label"] == feature
        assert {i: label for i, label in zip(made["origin"], made["label"], strict=True)} == dict(enumerate(labels))
    empty = Dataset.from_dict({"text": []}, features=Features({"text": Value("string")}))
    assert len(augmented_dataset(empty, Tang())) == 0


@pytest.mark.parametrize(
    ("columns", "config", "message"),
    [
        ({"text": [["a", "b"]]}, Tang(), "single texts or pairs"),
        ({"text": ["a"]}, Tang(p_mask=1.5), "p_mask expects a share from 0 to 1; found 1.5"),
        ({"text": ["a"]}, Tang(p_mask=0.6, p_pos=0.6), "p_mask . p_pos .* found 1.2"),
        ({"text": ["a"]}, Tang(n_iter=0), "n_iter of 1 or more"),
    ],
)
def test_what_cannot_be_augmented_is_refused_at_once(columns, config, message):
    with pytest.raises(ConfigError, match=message):
        augment(Dataset.from_dict(columns), config)


def test_rows_are_written_under_the_users_names_with_label_names(tmp_path):
    rows = Dataset.from_dict({"text": ["a", "b"], "label": [1, 0], "origin": [0, 0]})
    task = Task(kind="single-label", text="review", label=("mood",), labels=("bad", "good"))
    write_rows(rows, task, tmp_path / "new" / "more.parquet")
    found = pyarrow.parquet.read_table(tmp_path / "new" / "more.parquet").to_pydict()
    assert found == {"review": ["a", "b"], "mood": ["good", "bad"], "origin": [0, 0]}
    with pytest.raises(ConfigError, match=r"\.parquet; found 'x\.csv'"):
        write_rows(rows, task, tmp_path / "x.csv")


def test_missing_spacy_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(MissingExtra, match=r"attar\[spacy\]"):
        load_tagger("en_core_web_sm")


@pytest.fixture
def spacy(monkeypatch):
    """Stand in for spaCy, which is optional: pipelines ``tags`` and ``blank``, no others."""

    def load(name, exclude):
        if name not in ("tags", "blank"):
            raise OSError("[E050] Can't find model")
        return type("Pipeline", (), {"vocab": name, "__call__": lambda self, doc: doc})()

    def doc(vocab, words):
        return [types.SimpleNamespace(tag_=word[0].upper() if vocab == "tags" else "", pos_="") for word in words]

    monkeypatch.setitem(sys.modules, "spacy", types.SimpleNamespace(load=load))
    monkeypatch.setitem(sys.modules, "spacy.tokens", types.SimpleNamespace(Doc=doc))


def test_a_spacy_pipeline_tags_contractions_by_their_parts(spacy):
    assert load_tagger("tags")(["it", "isn’t", "bad", ".", "ok"]) == ["I", "I+N", "B", ".", "O"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("nope", "found 'nope'; install it with: python -m spacy download nope"), ("blank", "'blank' does not")],
)
def test_spacy_pipelines_that_are_unknown_or_do_not_tag_are_refused(spacy, name, message):
    with pytest.raises(ConfigError, match=message):
        load_tagger(name)


def test_more_iterations_keep_the_versions_that_there_were(letters):
    examples = Dataset.from_dict({"text": numbered_texts(10), "pair": numbered_texts(10, 8)})
    few, many = ({(row["text"], row["pair"]) for row in augment(examples, Tang(n_iter=n))} for n in (3, 9))
    assert few < many


@pytest.mark.parametrize(
    ("task_label", "wanted"),
    [
        (("tags",), {"text": ["a", "b"], "tags": [["red", "big"], []], "origin": [0, 0]}),
        (("red", "big"), {"text": ["a", "b"], "red": [1, 0], "big": [1, 0], "origin": [0, 0]}),
    ],
)
def test_several_labels_are_written_as_they_came(tmp_path, task_label, wanted):
    rows = Dataset.from_dict({"text": ["a", "b"], "label": [[1.0, 1.0], [0.0, 0.0]], "origin": [0, 0]})
    task = Task(kind="multi-label", text="text", label=task_label, labels=("red", "big"))
    write_rows(rows, task, tmp_path / "more.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "more.parquet").to_pydict() == wanted

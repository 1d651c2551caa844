"""Augmentation of TinyBERT (Jiao et al. 2020, Algorithm 1): candidates, shares, pairs, words, seeds, the cache."""

import dataclasses
import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForMaskedLM, PreTrainedTokenizerFast

from attar.augment import masked_lm
from attar.augment.candidates import carry_case, word_candidates
from attar.augment.neighbours import nearest_words
from attar.augment.pieces import cut_texts, mask_each
from attar.augment.synthetic import synthetic_texts
from attar.config import Tang, TinyBertAugmentation
from attar.data.augmentation.store import write_rows
from attar.data.augmentation.tinybert import augment, is_replaceable, text_pieces
from attar.data.augmentation.words import split_words, words_of
from attar.data.vectors import first_vectors
from attar.errors import CacheError, DataError, ModelError
from attar.nets import scoring
from attar.nets.loading import require_masked_lm
from attar.nets.vocabulary import whole_words
from attar.teacher import scoring as teacher_scoring

TEXTS = [
    "The film was very good.",
    "A bad story, bad actor; great music",
    "anna met bob replays in paris",
    "a dull plot",
    "",
    "it is 5 of 10",
]


@pytest.fixture
def save_mlm(tmp_path, make_model, tokenizer):
    """Save a masked language model of a family with random weights; return its folder."""

    def _save(family="bert", name="mlm", tokenizer=tokenizer, seed=0):
        config = make_model(family).config
        torch.manual_seed(seed)
        model = AutoModelForMaskedLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        return str(tmp_path / name)

    return _save


@pytest.fixture
def mlm(save_mlm):
    return save_mlm()


def rows_of(examples, **settings):
    return list(synthetic_texts(examples, TinyBertAugmentation(**settings)))


def candidates_of(texts, **settings):
    (found,) = word_candidates(Dataset.from_dict({"text": texts}), TinyBertAugmentation(**settings))
    return list(found)


def words_in(text):
    return words_of(split_words(text))


def told(monkeypatch):
    """Count the texts that the masked language model and the encoder are run on."""
    counts = []
    real = scoring.score_encoded

    def counting(model, encoded, **settings):
        counts.append(len(encoded))
        return real(model, encoded, **settings)

    monkeypatch.setattr(masked_lm, "score_encoded", counting)
    monkeypatch.setattr(teacher_scoring, "score_encoded", counting)
    return counts


# Candidates ----------------------------------------------------------------------------------------------------------


def by_hand(folder, tokenizer, text, word, n):
    """The likeliest whole words at a word's place, by one forward pass of the whole model on one text."""
    pieces = tokenizer.tokenize(text)
    ids = tokenizer.convert_tokens_to_ids(["[CLS]", *pieces, "[SEP]"])
    ids[1 + pieces.index(word)] = tokenizer.mask_token_id
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, 1 + pieces.index(word)]
    ranked = tokenizer.convert_ids_to_tokens(logits.argsort(descending=True).tolist())
    known = [piece for piece in ranked if piece and piece.isalpha() and len(piece) > 1]  # no ids past the vocabulary
    return sorted(known[:n])


def test_candidates_of_a_single_piece_are_the_top_k_of_a_forward_one_at_a_time(family, save_mlm, tokenizer):
    folder = save_mlm(family)
    found = candidates_of(TEXTS, model=folder, n_candidates=4)
    checked = 0
    for text, candidates in zip(TEXTS, found, strict=True):
        for word, proposed in zip(words_in(text), candidates, strict=True):
            if is_replaceable(word) and tokenizer.tokenize(word) == [word] and words_in(text).count(word) == 1:
                assert sorted(proposed) == by_hand(folder, tokenizer, text, word, 4)
                checked += 1
    assert checked == 12


def test_words_that_stay_have_no_candidates(mlm):
    found = dict(zip(words_in(TEXTS[0]), candidates_of(TEXTS, model=mlm)[0], strict=True))
    assert [bool(found[word]) for word in ("The", "film", "was", "very", "good", ".")] == [0, 1, 0, 0, 1, 0]
    assert candidates_of(TEXTS, model=mlm)[5] == [[], [], [], [], []]
    assert not any(map(is_replaceable, ["isn't", "5", "b2b", "state-of-the-art", "!", "[MASK]", "Not", ""]))


def test_words_of_several_pieces_and_unknown_words_use_vectors(mlm, tmp_path):
    file = tmp_path / "glove.txt"
    file.write_text("replays 1 0\nsadly 2 0.1\ngladly -1 0\nfilm 0 1\n, 1 0\nxyzzy 0 -1\nplugh 0 -2\n")
    text = "replays Xyzzy good"
    ((split, unknown, single),) = candidates_of([text], model=mlm, vectors=f"file:{file}", n_candidates=1)
    assert split == ["sadly"]  # the comma is nearer, and no word
    assert unknown == ["Plugh"]
    assert len(single) == 1


def test_a_word_without_vector_stays(mlm, tmp_path):
    file = tmp_path / "glove.txt"
    file.write_text("sadly 2 0.1\ngladly -1 0\n")
    assert candidates_of(["replays"], model=mlm, vectors=f"file:{file}") == [[[]]]


def test_neighbours_of_an_encoder_are_nearest_by_cosine_off_the_mean(mlm, tokenizer):
    known = sorted(whole_words(tokenizer).values())
    model = AutoModelForMaskedLM.from_pretrained(mlm).base_model.eval()
    with torch.no_grad():
        states = torch.stack(
            [
                model(**tokenizer(word, return_tensors="pt")).last_hidden_state[0, 1:-1].mean(0)
                for word in [*known, "replays"]
            ]
        )
    states = states - states[:-1].mean(0)
    order = torch.cosine_similarity(states[-1], states[:-1]).argsort(descending=True)[:3]
    assert nearest_words(["replays"], f"encoder:{mlm}", n=3) == {"replays": sorted(known[i] for i in order)}
    assert "good" not in nearest_words(["Good"], f"encoder:{mlm}", n=30)["Good"]
    assert nearest_words([], f"encoder:{mlm}", n=3) == {}


def test_vectors_may_come_from_another_encoder(mlm, save_mlm):
    other = save_mlm(name="other", seed=1)
    one, two = (candidates_of(["replays good"], model=mlm, vectors=v)[0] for v in ("model", f"encoder:{other}"))
    assert one[0] != two[0]
    assert one[1] == two[1]


def test_the_first_words_of_a_file_are_read_and_no_more(tmp_path):
    file = tmp_path / "glove.txt"
    file.write_text("a 1 2\nb 3 4\nc 5 broken\n")
    assert {word: v.tolist() for word, v in first_vectors(str(file), 2).items()} == {"a": [1, 2], "b": [3, 4]}
    with pytest.raises(DataError, match="line 3"):
        first_vectors(str(file), 3)


@pytest.mark.parametrize("kind", ["byte-level", "metaspace"])
def test_tokenizers_that_mark_the_beginning_of_a_word_are_read_right(kind):
    words = ["film", "good", "café", "paris"]
    lines = [f"the {word} was {other}" for word, other in itertools.permutations(words, 2)] * 20
    core = Tokenizer(models.BPE())
    if kind == "byte-level":
        core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        core.post_processor = processors.ByteLevel(trim_offsets=True)
    else:
        core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    core.train_from_iterator(lines, trainers.BpeTrainer(special_tokens=["<pad>", "<unk>", "<mask>"], vocab_size=400))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", mask_token="<mask>", model_max_length=64
    )
    assert {"film", "good", "café", "paris"} <= set(whole_words(fast).values())
    (cut,) = cut_texts(["the film was good, a café unseen"], fast)
    assert [cut.words[number] for number, _ in cut.single] == ["film", "good", "café"]
    assert [cut.words[number] for number in cut.several] == ["unseen"]
    known = whole_words(fast)
    assert [known[int(cut.ids[place])] for _, place in cut.single] == ["film", "good", "café"]


def test_a_row_masks_one_word_and_changes_nothing_else(tokenizer):
    (cut,) = cut_texts(["a [MASK] film was replays good"], tokenizer)
    masked = mask_each([cut], tokenizer, 64)
    rows = [tokenizer.decode(masked.columns["input_ids"][a:b]) for a, b in itertools.pairwise(masked.offsets)]
    assert rows == [
        "[CLS] a [UNK] [MASK] was re ##play ##s good [SEP]",
        "[CLS] a [UNK] film was re ##play ##s [MASK] [SEP]",
    ]


@pytest.mark.parametrize("length", [8, 9, 30])
def test_of_a_long_text_the_model_sees_the_part_around_the_word(tokenizer, length):
    words = ["good", "bad", "great", "awful", "dull", "bright", "story", "actor", "music", "scene", "plot", "rome"]
    (cut,) = cut_texts([" ".join(words)], tokenizer)
    masked = mask_each([cut], tokenizer, length)
    ids = tokenizer.convert_tokens_to_ids(words)
    assert len(masked) == len(words)
    for i, (start, end) in enumerate(itertools.pairwise(masked.offsets)):
        row = masked.columns["input_ids"][start:end].tolist()
        assert len(row) == min(length, len(words) + 2)
        (place,) = [at for at, token in enumerate(row) if token == tokenizer.mask_token_id]
        around = ids[i - place + 1 :][: len(row) - 2]
        around[place - 1] = tokenizer.mask_token_id
        assert row == [tokenizer.cls_token_id, *around, tokenizer.sep_token_id]


def test_candidates_do_not_depend_on_batches_order_or_other_rows(mlm, sentences, monkeypatch, tmp_path):
    texts = sentences(60)
    expected = candidates_of(texts, model=mlm)
    for budget, shard in [(8, 10_000), (100_000, 7)]:
        monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / f"cache-{budget}"))
        monkeypatch.setitem(scoring.TOKENS_PER_BATCH, "cpu", budget)
        monkeypatch.setattr(masked_lm, "_SHARD_WORDS", shard)
        assert candidates_of(texts[::-1], model=mlm) == expected[::-1]
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache-one"))
    assert candidates_of(texts[:1], model=mlm) == expected[:1]


@pytest.mark.parametrize(
    ("word", "candidate", "written"),
    [("Film", "plot", "Plot"), ("FILM", "plot", "PLOT"), ("film", "Paris", "Paris"), ("eBay", "plot", "plot")],
)
def test_a_candidate_is_written_as_the_word_was(word, candidate, written):
    assert carry_case(word, candidate) == written


# Replacement ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p_replace", [0.1, 0.4, 1.0])
def test_words_change_as_often_as_asked_less_the_draws_that_find_the_word_itself(mlm, sentences, p_replace):
    texts = sentences(80)
    config = TinyBertAugmentation(model=mlm, n_iter=40, p_replace=p_replace, n_candidates=10)
    proposed = candidates_of(texts, model=mlm, n_candidates=10)
    kept = np.mean([
        candidates.count(word) / len(candidates)
        for text, row in zip(texts, proposed, strict=True)
        for word, candidates in zip(words_in(text), row, strict=True)
        if candidates
    ])  # fmt: skip
    # With duplicates dropped, texts that change little would be counted less often; a mark apiece keeps all of them.
    marked = Dataset.from_dict({"text": texts})
    changed = total = 0
    for round_ in range(30):
        seeded = TinyBertAugmentation(**{**vars(config), "n_iter": 1, "seed": round_})
        made = {row["origin"]: row["text"] for row in augment(marked, seeded, [proposed])}
        for i, text in enumerate(texts):
            new = words_in(made.get(i, text))
            for old, now, candidates in zip(words_in(text), new, proposed[i], strict=True):
                assert now == old or now in candidates
                total += bool(candidates)
                changed += now != old
    expected = p_replace * (1 - kept)
    assert changed / total <= p_replace
    # Texts dropped as equal to another original count as unchanged here; they are few.
    assert abs(changed / total - expected) < 5 * math.sqrt(expected * (1 - expected) / total) + 0.02


def test_all_candidates_are_drawn_equally_often():
    examples = Dataset.from_dict({"text": ["w " * 200]})
    names = [f"c{i}" for i in range(5)]
    config = TinyBertAugmentation(model="-", n_iter=20, p_replace=1)
    words = [word for row in augment(examples, config, [[[names] * 200]]) for word in row["text"].split()]
    assert len(words) == 4000
    assert all(abs(words.count(name) / 4000 - 0.2) < 0.03 for name in names)


def test_the_text_between_replaced_words_is_kept_to_the_character(mlm):
    text = "  The film,\tit was (very) good…\n"
    for row in rows_of(Dataset.from_dict({"text": [text]}), model=mlm, p_replace=1):
        assert split_words(row["text"])[0::2] == split_words(text)[0::2]
        assert [len(row["text"]) - len(text)] == [sum(map(len, words_in(row["text"]))) - sum(map(len, words_in(text)))]


def test_pairs_change_one_side_at_a_time_beside_the_other_as_it_was(mlm):
    pairs = {"text": ["a good film", "dull plot"], "pair": ["bad music", "great scene"], "label": [1, 0]}
    rows = rows_of(Dataset.from_dict(pairs), model=mlm, n_iter=10)
    for row in rows:
        same = [row[side] == pairs[side][row["origin"]] for side in ("text", "pair")]
        assert sorted(same) == [False, True]
        assert row["label"] == pairs["label"][row["origin"]]
    assert {row["text"] == "a good film" for row in rows if row["origin"] == 0} == {True, False}


def test_the_candidates_of_a_side_do_not_depend_on_the_other(mlm):
    pairs = Dataset.from_dict({"text": ["good film", "good film"], "pair": ["bad music", "paris"]})
    first, second = (list(side) for side in word_candidates(pairs, TinyBertAugmentation(model=mlm)))
    assert first[0] == first[1] == candidates_of(["good film"], model=mlm)[0]
    assert second[0] == candidates_of(["bad music"], model=mlm)[0]


def test_tokens_are_replaced_word_for_word_so_labels_stay_aligned(mlm, make_task, tmp_path):
    tokens = [["anna", "saw", "a", "film", "in", "New York"], ["replays", "dull"]]
    labels = [[1, 0, 0, 0, 0, 3], [0, 0]]
    features = Features({"text": List(Value("string")), "label": List(Value("int64"))})
    examples = Dataset.from_dict({"text": tokens, "label": labels}, features=features)
    made = synthetic_texts(examples, TinyBertAugmentation(model=mlm))
    assert made.features == {**features, "origin": Value("int64")}
    assert len(made) > 10
    for row in made:
        old = tokens[row["origin"]]
        assert len(row["text"]) == len(old)
        assert row["label"] == labels[row["origin"]]
        assert row["text"] != old
        assert all(now == word for word, now in zip(old, row["text"], strict=True) if word in ("a", "in", "New York"))
    write_rows(made, make_task("token"), tmp_path / "out.parquet")
    names = make_task("token").labels
    for row, written in zip(made, Dataset.from_parquet(str(tmp_path / "out.parquet")), strict=True):
        assert written["label"] == [names[i] for i in row["label"]]


def test_a_list_of_words_and_a_text_have_their_words_at_the_same_places():
    assert text_pieces(["a", "b", "c"]) == split_words("a b c")
    assert text_pieces(["a"]) == split_words("a")
    assert words_of(text_pieces([])) == []


def test_originals_and_duplicates_are_dropped_and_few_candidates_make_few_texts(mlm):
    texts = ["good", "bad", "a", ""]
    made = [row["text"] for row in rows_of(Dataset.from_dict({"text": texts}), model=mlm, n_iter=200, n_candidates=5)]
    assert 3 <= len(made) == len(set(made)) <= 10
    assert not set(made) & set(texts)


def test_the_seed_decides_and_the_order_of_rows_does_not(mlm, sentences):
    texts = sentences(12)

    def made(order, **settings):
        rows = rows_of(Dataset.from_dict({"text": [texts[i] for i in order]}), model=mlm, n_iter=3, **settings)
        return sorted((order[row["origin"]], row["text"]) for row in rows)

    straight = made(range(12))
    assert made(range(11, -1, -1)) == straight
    assert made(range(12), seed=1) != straight


def test_more_versions_begin_with_the_fewer(mlm, sentences):
    pairs = Dataset.from_dict({"text": sentences(6), "pair": sentences(6, seed=1)})
    few, many = ({(row["text"], row["pair"]) for row in rows_of(pairs, model=mlm, n_iter=n)} for n in (3, 9))
    assert few < many


# The cache -----------------------------------------------------------------------------------------------------------


def test_a_second_call_runs_nothing_and_another_seed_no_model(mlm, sentences, monkeypatch):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    columns = {"text": [*sentences(6), "replays"], "label": [0, 1, 0, 1, 0, 1, 1]}
    examples = Dataset.from_dict(columns, features=features)
    counts = told(monkeypatch)
    first = rows_of(examples, model=mlm)
    assert sum(counts) > 0
    monkeypatch.setattr(masked_lm, "require_masked_lm", lambda name: pytest.fail("loaded again"))
    counts.clear()
    assert rows_of(examples, model=mlm, seed=1, p_replace=0.2, n_iter=5) != first
    monkeypatch.setattr("attar.augment.synthetic.word_candidates", lambda *_: pytest.fail("made again"))
    assert rows_of(examples, model=mlm) == first
    assert not counts


def test_a_text_that_occurs_twice_is_run_once_and_new_texts_alone_later(mlm, monkeypatch):
    counts = told(monkeypatch)
    candidates_of(["good film", "good film"], model=mlm)
    assert counts == [2]
    candidates_of(["good film", "dull"], model=mlm)
    assert counts == [2, 1]


def test_another_model_at_the_same_place_is_another_model(mlm, save_mlm):
    before = rows_of(Dataset.from_dict({"text": ["good film"]}), model=mlm)
    save_mlm(seed=1)
    assert rows_of(Dataset.from_dict({"text": ["good film"]}), model=mlm) != before


def test_another_vector_file_at_the_same_place_is_another_file(mlm, tmp_path):
    file = tmp_path / "glove.txt"
    for word in ("sadly", "gladly"):
        file.write_text(f"replays 1 0\n{word} 2 0.1\n")
        rows = rows_of(Dataset.from_dict({"text": ["replays"]}), model=mlm, vectors=f"file:{file}", n_candidates=1)
        assert [row["text"] for row in rows] == [word]


def test_a_kill_in_the_middle_leaves_whole_shards_and_nothing_wrong(mlm, sentences, cache, monkeypatch, tmp_path):
    texts = sentences(30)
    examples = Dataset.from_dict({"text": texts})
    monkeypatch.setattr(masked_lm, "_SHARD_WORDS", 20)
    expected = rows_of(examples, model=mlm)
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "fresh"))
    counts = told(monkeypatch)
    whole = masked_lm.score_encoded

    def dying(model, encoded, **settings):
        if len(counts) == 2:
            raise KeyboardInterrupt
        return whole(model, encoded, **settings)

    monkeypatch.setattr(masked_lm, "score_encoded", dying)
    with pytest.raises(KeyboardInterrupt):
        rows_of(examples, model=mlm)
    assert not list((tmp_path / "fresh").glob("augment/*"))
    done = sum(counts)
    monkeypatch.setattr(masked_lm, "score_encoded", whole)
    counts.clear()
    assert rows_of(examples, model=mlm) == expected
    assert done
    assert done + sum(counts) == sum(map(len, [c for row in candidates_of(texts, model=mlm) for c in row if c])) / 15


def test_a_cache_that_cannot_be_written_is_one_clear_line(mlm, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "file"))
    with pytest.raises(CacheError, match="set ATTAR_CACHE"):
        candidates_of(["good"], model=mlm)


def test_no_rows_make_no_rows(mlm):
    empty = Dataset.from_dict({"text": []}, features=Features({"text": Value("string")}))
    assert rows_of(empty, model=mlm) == []
    assert rows_of(Dataset.from_dict({"text": ["it was 5"]}), model=mlm) == []


# Bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"p_replace": 1.5}, "p_replace expects a share from 0 to 1; found 1.5"),
        ({"n_iter": 0}, "n_iter expects a whole number of 1 or more; found 0"),
        ({"n_candidates": 0}, "n_candidates expects"),
        ({"vectors": "glove"}, "vectors expects model, encoder:NAME or file:PATH; found 'glove'"),
        ({"vectors": "file:"}, "found 'file:'"),
        ({"seed": -1}, "seed expects"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TinyBertAugmentation(model="-", **settings)


def test_an_encoder_without_head_is_refused_with_what_to_do(make_folder):
    with pytest.raises(ModelError, match=r"no masked-language-model head.*attar pretrain --method mlm-head"):
        rows_of(Dataset.from_dict({"text": ["good"]}), model=make_folder())


def test_a_head_that_the_weights_lack_is_refused_even_where_the_config_promises_it(make_folder):
    folder = make_folder()
    with pytest.raises(ModelError, match=r"no masked-language-model head.*attar pretrain --method mlm-head"):
        require_masked_lm(folder)


def test_a_model_that_is_not_there_a_missing_file_and_too_many_candidates_are_named(mlm, tmp_path):
    examples = Dataset.from_dict({"text": ["good replays"]})
    with pytest.raises(ModelError, match="nowhere"):
        rows_of(examples, model=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"glove.txt not found; set augment.vectors"):
        rows_of(examples, model=mlm, vectors=f"file:{tmp_path / 'glove.txt'}")
    with pytest.raises(ModelError, match="n_candidates = 99 expects as many whole words"):
        rows_of(examples, model=mlm, n_candidates=99)


def test_a_tokenizer_without_mask_is_refused(save_mlm, make_tokenizer):
    plain = make_tokenizer()
    plain.mask_token = None
    with pytest.raises(ModelError, match="a tokenizer with a mask token"):
        rows_of(Dataset.from_dict({"text": ["good"]}), model=save_mlm(tokenizer=plain))


def test_the_other_method_still_goes_the_same_way(monkeypatch):
    monkeypatch.setattr("attar.data.augmentation.tang.load_tagger", lambda name: lambda words: ["X"] * len(words))
    made = synthetic_texts(Dataset.from_dict({"text": ["a b c", "d e f"]}), Tang(n_iter=3))
    assert made.column_names == ["text", "origin"]
    assert len(made)


def test_the_page_tells_the_true_defaults():
    page = (Path(__file__).parents[2] / "docs" / "augmentation.md").read_text()
    found = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", page, re.MULTILINE))
    settings = {f.name: str(f.default) for f in dataclasses.fields(TinyBertAugmentation)}
    assert found == {name: default for name, default in settings.items() if name not in ("method", "model")}

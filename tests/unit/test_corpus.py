"""Texts to pre-train on: which files, which windows, what is dropped, what is held out, and what is refused."""

import gzip
import json

import numpy as np
import pytest
from datasets import Dataset

from attar.config import TextConfig
from attar.data.corpus import Corpus, open_documents, read_corpus, write_corpus
from attar.errors import DataError

DOCUMENT = "the film was very good and the story was bright and it was a lovely scene"
UNKNOWN = " ".join(["zzz"] * 20)


def documents(n, length=15):
    """Texts of one word each, so that a window tells its document."""
    words = "film good bad great awful dull bright story actor music scene plot boring lovely anna bob".split()  # noqa: SIM905
    return [" ".join([words[i % 16], words[i // 16], *["the"] * (length - 2)]) for i in range(n)]


def lines(file, texts):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(texts))
    return str(file)


@pytest.fixture
def build(tokenizer, tmp_path):
    """Encode texts as a corpus; ``max_length`` counts the two special tokens."""

    def make(texts, *, max_length=32, folder="corpus", **settings) -> Corpus:
        config = TextConfig(paths=(lines(tmp_path / "texts.txt", texts),), **settings)
        write_corpus(open_documents(config), config, tokenizer, max_length, tmp_path / folder)
        return read_corpus(tmp_path / folder, tokenizer.pad_token_id)

    return make


def rows_of(encoded):
    ids = encoded.columns["input_ids"]
    return [ids[a:b].tolist() for a, b in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)]


# Windows ------------------------------------------------------------------------------------------------------------


def test_a_long_document_is_split_and_every_window_has_its_special_tokens(build, tokenizer):
    long = " ".join([DOCUMENT] * 9)
    corpus = build([long, long], max_length=20)
    windows = rows_of(corpus.train)
    assert all(row[0] == tokenizer.cls_token_id and row[-1] == tokenizer.sep_token_id for row in windows)
    assert all(len(row) == 20 for row in windows[:-1])
    whole = tokenizer(long, add_special_tokens=False)["input_ids"]
    assert [token for row in windows for token in row[1:-1]] == whole[: sum(len(row) - 2 for row in windows)]
    assert len(whole) - sum(len(row) - 2 for row in windows) < 10  # a rest of 11 tokens or fewer is dropped


def test_no_segments_and_no_pairs_enter_a_batch(build):
    batch = build(documents(10)).train.batch([0, 1])
    assert set(batch) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize(("words", "kept"), [(9, False), (10, True)])
def test_11_tokens_are_too_few_and_12_are_enough(build, words, kept):
    corpus = build([*documents(10), " ".join(["story"] * words)], dev_share=0.01)
    assert corpus.facts["rows"]["too_short"] == (0 if kept else 1)


def test_the_rule_for_short_texts_is_a_setting(build):
    assert build([*documents(5), "film"], min_tokens=3).facts["rows"]["too_short"] == 0


@pytest.mark.parametrize(("known", "kept"), [(8, False), (9, True)])
def test_half_unknown_is_dropped_and_counted(build, known, kept):
    # Two special tokens are known too: 10 of 20 unknown is half.
    text = " ".join(["film"] * known + ["zzz"] * 10)
    assert build([*documents(10), text]).facts["rows"]["unknown"] == (0 if kept else 1)


def test_empty_cells_are_short_documents(tokenizer, tmp_path):
    Dataset.from_dict({"text": [*documents(38), None, " "]}).to_parquet(tmp_path / "a.parquet")
    config = TextConfig(paths=(str(tmp_path / "a.parquet"),))
    write_corpus(open_documents(config), config, tokenizer, 32, tmp_path / "corpus")
    assert read_corpus(tmp_path / "corpus", 0).facts["rows"] == {
        "documents": 40, "train": 36, "dev": 2, "too_short": 2, "unknown": 0,
    }  # fmt: skip


def test_counts_and_facts_are_those_of_the_windows(build, tokenizer):
    corpus = build([*documents(40), UNKNOWN, "short"])
    ids = [token for row in rows_of(corpus.train) for token in row]
    assert np.array_equal(corpus.counts, np.bincount(ids, minlength=len(corpus.counts)))
    assert len(corpus.counts) == len(tokenizer)
    assert corpus.facts["tokens"]["train"] == len(ids)
    assert corpus.facts["rows"]["train"] == len(corpus.train)
    assert "dropped 1 too short and 1 of mostly unknown" in corpus.notes()[0]


def test_windows_lie_on_disk(build):
    assert isinstance(build(documents(10)).train.columns["input_ids"], np.memmap)


# What is held out -----------------------------------------------------------------------------------------------------


def test_documents_are_held_out_whole(build):
    texts = [" ".join([text] * 5) for text in documents(16)]
    corpus = build(texts, max_length=20, dev_share=0.25)
    common = set.intersection(*map(set, rows_of(corpus.train)))
    train, dev = ({frozenset(row) - common for row in rows_of(part)} for part in (corpus.train, corpus.dev))
    assert (len(train), len(dev)) == (12, 4)
    assert not train & dev
    assert len(corpus.dev) == 4 * len(corpus.train) / 12 > 4


def test_the_held_out_share_is_that_of_the_documents_and_seeded(build):
    first = build(documents(100), dev_share=0.2, folder="a")
    again = build(documents(100), dev_share=0.2, folder="b")
    other = build(documents(100), dev_share=0.2, split_seed=1, folder="c")
    assert (len(first.train), len(first.dev)) == (80, 20)
    assert rows_of(first.dev) == rows_of(again.dev)
    assert rows_of(first.dev) != rows_of(other.dev)
    assert not {tuple(row) for row in rows_of(first.train)} & {tuple(row) for row in rows_of(first.dev)}
    assert first.facts["fingerprint"] == again.facts["fingerprint"] != other.facts["fingerprint"]


def test_even_two_documents_give_one_to_hold_out(build):
    corpus = build(documents(2))
    assert (len(corpus.train), len(corpus.dev)) == (1, 1)


# Files ----------------------------------------------------------------------------------------------------------------


def test_files_of_all_formats_and_columns_are_one_corpus(tmp_path):
    texts = documents(20)
    lines(tmp_path / "folder" / "deep" / "a.txt", texts[:4])
    (tmp_path / "folder" / "b.jsonl").write_text("\n".join(json.dumps({"body": t, "n": 1}) for t in texts[4:8]))
    Dataset.from_dict({"id": ["x"] * 4, "review": texts[8:12]}).to_parquet(tmp_path / "folder" / "c.parquet")
    with gzip.open(tmp_path / "folder" / "d.txt.gz", "wt") as file:
        file.write("\n".join(texts[12:16]))
    (tmp_path / "folder" / ".hidden").write_text("nothing")
    (tmp_path / "more.csv").write_text("text,label\n" + "\n".join(f"{t},1" for t in texts[16:]))
    found = open_documents(TextConfig(paths=(str(tmp_path / "folder"), str(tmp_path / "more.csv"))))
    assert {text for part in found for text in part["text"]} == set(texts)
    assert all(part.column_names == ["text"] for part in found)


def test_a_folder_of_splits_gives_its_train_split_alone(tmp_path):
    for split, part in (("train", documents(4)), ("test", ["secret one", "secret two"])):
        Dataset.from_dict({"text": part, "label": [0] * len(part)}).to_parquet(tmp_path / f"{split}.parquet")
    (found,) = open_documents(TextConfig(paths=(str(tmp_path),)))
    assert found["text"] == documents(4)


def test_the_column_can_be_named_for_files_that_have_columns(tmp_path):
    Dataset.from_dict({"text": ["no"] * 3, "other": documents(3)}).to_parquet(tmp_path / "a.parquet")
    lines(tmp_path / "b.txt", documents(2))
    found = open_documents(TextConfig(paths=(str(tmp_path / "a.parquet"), str(tmp_path / "b.txt")), column="other"))
    assert [len(part) for part in found] == [3, 2]
    assert found[0]["text"] == documents(3)


def broken_parquet(folder):
    lines(folder / "a.txt", documents(3))
    (folder / "broken.parquet").write_bytes(b"PAR1 this is none")


def unknown_format(folder):
    lines(folder / "a.txt", documents(3))
    (folder / "notes.docx").write_bytes(b"x")


def no_extension(folder):
    lines(folder / "wiki_00", documents(3))


def no_utf8(folder):
    (folder / "latin.txt").write_bytes(b"good\ncaf\xe9\n")


def empty_file(folder):
    (folder / "empty.txt").write_bytes(b"")


def two_columns(folder):
    table = {"premise": documents(30), "hypothesis": [f"never {t}" for t in documents(30)]}
    Dataset.from_dict(table).to_parquet(folder / "pairs.parquet")


def numbers(folder):
    Dataset.from_dict({"n": [1, 2]}).to_parquet(folder / "numbers.parquet")


def one_document(folder):
    lines(folder / "one.txt", documents(1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (broken_parquet, r"broken\.parquet: expected a whole Parquet file"),
        (unknown_format, r"notes\.docx: expected .* or \.txt, found '\.docx'"),
        (no_extension, r"wiki_00: expected .* found 'no extension'"),
        (no_utf8, r"latin\.txt, line 2: expected UTF-8, found the byte 0xe9"),
        (empty_file, r"empty\.txt: .*found an empty file"),
        (two_columns, r"pairs\.parquet: expected one column of texts .*premise, hypothesis; name it \(--column\)"),
        (numbers, r"numbers\.parquet: expected one column of texts"),
        (one_document, r"expected at least two documents.*found one"),
        (lambda folder: None, r"expected text files .* found none"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_name_in_one_line(tmp_path, make, message):
    folder = tmp_path / "corpus"
    folder.mkdir()
    make(folder)
    with pytest.raises(DataError, match=message) as caught:
        open_documents(TextConfig(paths=(str(folder),)))
    assert "\n" not in str(caught.value)


def test_a_path_that_is_not_there_and_a_column_that_is_not_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        open_documents(TextConfig(paths=(str(tmp_path / "nowhere.txt"),)))
    Dataset.from_dict({"text": documents(3), "n": [1, 2, 3]}).to_parquet(tmp_path / "a.parquet")
    for column, message in (("txt", "'txt', found text, n; did you mean 'text'"), ("n", "expected text in column 'n'")):
        with pytest.raises(DataError, match=message):
            open_documents(TextConfig(paths=(str(tmp_path / "a.parquet"),), column=column))


def test_texts_that_are_all_dropped_are_refused_and_leave_nothing(build, tmp_path):
    with pytest.raises(DataError, match=r"at least 12 tokens, found none to learn from \(3 too short, 0 of mostly"):
        build(["film", "good film", "bad"])
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["texts.txt"]

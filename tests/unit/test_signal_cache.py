import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from attar.errors import CacheError, ModelError
from attar.nets.loading import fingerprint
from attar.teacher import scoring
from attar.teacher.cache import SignalCache
from attar.teacher.scoring import Scorer


def digest_of(*numbers):
    return np.array([bytes([n]) * 16 for n in numbers], "S16")


def values_of(*numbers, width=2, dtype=np.float32):
    return np.array([[n + i / 10 for i in range(width)] for n in numbers], dtype)


def ones(n):
    return np.ones(n, np.int64)


def read(cache, digests):
    shards, shard, start, count = cache.find(digests)
    return [shards[s][a : a + n].tolist() for s, a, n in zip(shard, start, count, strict=True)]


@pytest.fixture
def store(tmp_path):
    return tmp_path / "signals"


@pytest.fixture
def filled(store):
    """Two shards of three texts each."""
    cache = SignalCache(store)
    cache.add(digest_of(1, 2, 3), values_of(1, 2, 3), ones(3))
    cache.add(digest_of(4, 5, 6), values_of(4, 5, 6), ones(3))
    return store


def test_values_come_back_in_the_order_asked_for(filled):
    order = (6, 1, 4, 1, 3)
    found = read(SignalCache(filled), digest_of(*order))
    assert found == [values_of(n).tolist() for n in order]


def test_a_digest_that_ends_in_zero_bytes_is_itself(store):
    digests = np.array([b"\1" * 15 + b"\0", b"\1" * 14 + b"\0\0", b"\0" * 16, b"\0" * 15 + b"\1"], "S16")
    SignalCache(store).add(digests, values_of(1, 2, 3, 4), ones(4))
    cache = SignalCache(store)
    assert not len(cache.missing(digests))
    assert read(cache, digests[::-1]) == [values_of(n).tolist() for n in (4, 3, 2, 1)]


def test_missing_names_the_first_occurrence_of_what_is_not_there(filled):
    missing = SignalCache(filled).missing(digest_of(9, 1, 7, 9, 4, 8, 7))
    assert missing.tolist() == [0, 2, 5]


def test_everything_is_missing_from_an_empty_cache(store):
    assert SignalCache(store).missing(digest_of(3, 1, 3)).tolist() == [0, 1]


def test_texts_may_have_any_number_of_lines(store):
    lines = values_of(*range(7), width=3)
    SignalCache(store).add(digest_of(1, 2, 3, 4), lines, np.array([2, 0, 4, 1]))
    found = read(SignalCache(store), digest_of(3, 2, 4, 1))
    assert found == [lines[2:6].tolist(), [], lines[6:].tolist(), lines[:2].tolist()]


def test_half_precision_stays_half(store):
    values = values_of(1, 2, dtype=np.float16)
    SignalCache(store).add(digest_of(1, 2), values, ones(2))
    cache = SignalCache(store)
    assert cache.find(digest_of(1))[0][0].dtype == np.float16
    assert read(cache, digest_of(2, 1)) == values[::-1, None].tolist()


def test_values_are_mapped_and_not_copied(filled):
    shards, *_ = SignalCache(filled).find(digest_of(1))
    before = pa.total_allocated_bytes()
    SignalCache(filled).find(digest_of(1))
    assert not shards[0].flags.owndata
    assert pa.total_allocated_bytes() == before


def test_a_text_that_is_not_there_cannot_be_found(filled):
    with pytest.raises(CacheError, match="lost shards"):
        SignalCache(filled).find(digest_of(1, 7))
    with pytest.raises(CacheError, match="lost shards"):
        SignalCache(filled / "empty").find(digest_of(1))


def test_two_writers_see_each_others_shards(store):
    one, other = SignalCache(store), SignalCache(store)
    one.add(digest_of(1, 2), values_of(1, 2), ones(2))
    assert other.missing(digest_of(1, 2, 3)).tolist() == [2]
    other.add(digest_of(2, 3), values_of(2, 3), ones(2))  # text 2 was scored by both
    assert not len(one.missing(digest_of(1, 2, 3)))
    for cache in (one, other):
        assert read(cache, digest_of(3, 2, 1)) == [values_of(n).tolist() for n in (3, 2, 1)]


def shards_of(folder):
    return sorted(folder.glob("*.arrow"))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.97, 0.999])
def test_a_truncated_shard_is_ignored_and_its_texts_are_missing(filled, share):
    torn = shards_of(filled)[0]
    held = [n for n in range(1, 7) if digest_of(n).tobytes() in torn.read_bytes()]
    torn.write_bytes(torn.read_bytes()[: int(share * torn.stat().st_size)])
    cache = SignalCache(filled)
    whole = [n for n in range(1, 7) if n not in held]
    assert (cache.missing(digest_of(*range(1, 7))) + 1).tolist() == held
    assert read(cache, digest_of(*whole)) == [values_of(n).tolist() for n in whole]


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"ARROW1\0\0" + b"\xff" * 500, b"digest,values\n1,2\n"])
def test_a_file_of_garbage_is_ignored(filled, content):
    (filled / "garbage.arrow").write_bytes(content)
    assert not len(SignalCache(filled).missing(digest_of(*range(1, 7))))


def test_a_shard_with_damaged_column_names_is_ignored(filled):
    file = shards_of(filled)[0]
    head, _, tail = file.read_bytes().rpartition(b"digest")
    file.write_bytes(head + b"\xc6igest" + tail)
    assert len(SignalCache(filled).missing(digest_of(*range(1, 7)))) == 3


def test_an_unfinished_temporary_file_is_not_read(filled):
    (filled / "unfinished.tmp").write_bytes(shards_of(filled)[0].read_bytes())
    for shard in shards_of(filled):
        shard.unlink()
    assert len(SignalCache(filled).missing(digest_of(*range(1, 7)))) == 6


def test_a_cache_that_cannot_be_created_says_what_to_set(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="set ATTAR_CACHE"):
        SignalCache(tmp_path / "file" / "signals")


def test_a_failed_write_leaves_no_file_behind(filled, monkeypatch):
    def full(_):
        raise OSError("No space left on device")

    before = sorted(filled.iterdir())
    monkeypatch.setattr("attar.teacher.cache.os.fsync", full)
    with pytest.raises(CacheError, match="No space left"):
        SignalCache(filled).add(digest_of(9), values_of(9), ones(1))
    assert sorted(filled.iterdir()) == before


class Counted:
    """A tiny teacher and how many texts it was run on."""

    def __init__(self, folder):
        self.folder = folder
        self.loads = self.texts = 0

    def load(self):
        self.loads += 1
        model = AutoModelForSequenceClassification.from_pretrained(self.folder)
        model.register_forward_pre_hook(self.count, with_kwargs=True)
        return model, AutoTokenizer.from_pretrained(self.folder)

    def count(self, _, __, inputs):
        self.texts += len(inputs["input_ids"])

    def scorer(self, **settings):
        defaults = {"fingerprint": fingerprint(self.folder), "signal": "logits", "max_length": 32}
        return Scorer(load=self.load, **{**defaults, "precision": "float32", **settings})

    def direct(self, texts):
        """Each text alone, without any of attar's code."""
        model = AutoModelForSequenceClassification.from_pretrained(self.folder).eval()
        tokenizer = AutoTokenizer.from_pretrained(self.folder)
        with torch.no_grad():
            found = [model(**tokenizer(t, truncation=True, max_length=32, return_tensors="pt")).logits for t in texts]
        return torch.cat(found).numpy()


@pytest.fixture
def teacher(make_folder):
    return Counted(make_folder(kind="single-label"))


def everything(signals, n):
    return signals.take(np.arange(n))


def test_scores_are_those_of_every_text_alone(teacher, rows, sentences, monkeypatch):
    monkeypatch.setattr(scoring, "SHARD_ROWS", 7)
    texts = sentences(20)
    found = everything(teacher.scorer().score([rows(texts[:9]), rows(texts[9:])], "score"), 20)
    assert found.dtype == np.float32
    assert found == pytest.approx(teacher.direct(texts), abs=1e-5)


def test_a_second_call_runs_the_model_zero_times(teacher, rows, sentences):
    texts = sentences(20)
    first = everything(teacher.scorer().score([rows(texts)], "score"), 20)
    assert (teacher.loads, teacher.texts) == (1, 20)
    second = everything(teacher.scorer().score([rows(texts)], "score"), 20)
    assert (teacher.loads, teacher.texts) == (1, 20)
    assert np.array_equal(first, second)


def test_shuffled_and_repeated_rows_get_the_values_of_their_text(teacher, rows, sentences):
    texts = sentences(12)
    first = everything(teacher.scorer().score([rows(texts)], "score"), 12)
    order = np.random.default_rng(0).integers(0, 12, 40)
    again = teacher.scorer().score([rows([texts[i] for i in order[:25]]), rows([texts[i] for i in order[25:]])], "s")
    assert np.array_equal(everything(again, 40), first[order])
    assert teacher.texts == 12


def test_duplicates_are_scored_once(teacher, rows):
    found = everything(teacher.scorer().score([rows(["good", "bad", "good"]), rows(["bad"])], "score"), 4)
    assert teacher.texts == 2
    assert np.array_equal(found[[0, 1]], found[[2, 3]])
    assert not np.array_equal(found[0], found[1])


def test_a_second_student_with_overlapping_texts_scores_only_the_new_ones(teacher, rows, sentences):
    texts = sentences(30)
    teacher.scorer().score([rows(texts[:20])], "score")
    found = teacher.scorer().score([rows(texts[25:]), rows(texts[10:25])], "score")
    assert teacher.texts == 30
    assert everything(found, 20) == pytest.approx(teacher.direct(texts[25:] + texts[10:25]), abs=1e-5)


def test_pairs_are_scored_as_pairs(teacher, rows):
    first = teacher.scorer().score([rows(["good", "bad"], ["film", "plot"])], "score")
    tokenizer = AutoTokenizer.from_pretrained(teacher.folder)
    model = AutoModelForSequenceClassification.from_pretrained(teacher.folder).eval()
    expected = model(**tokenizer("bad", "plot", return_tensors="pt")).logits.detach().numpy()
    assert first.take(np.array([1])) == pytest.approx(expected, abs=1e-5)
    teacher.scorer().score([rows(["bad", "good"], ["film", "film"])], "score")
    assert teacher.texts == 3  # ("good", "film") was there


def test_token_signals_have_a_line_a_word(make_folder, make_task, rows):
    teacher = Counted(make_folder(kind="token", labels=make_task("token").labels))
    tokens = [["anna", "saw", "unhappyly"], ["\u200d"], ["bob"]]

    def load():
        from attar.nets.loading import load_for_task, load_tokenizer

        return load_for_task(teacher.folder, "token"), load_tokenizer(teacher.folder)

    scorer = Scorer(load=load, fingerprint="f", signal="logits", max_length=32, precision="float32", words=True)
    found = scorer.score([rows(tokens)], "score")
    assert found.count.tolist() == [3, 0, 1]
    assert found.take(np.array([2, 0])).shape == (4, 5)
    whole = found.take(np.array([0]))
    model, tokenizer = load()
    logits = model.eval()(**tokenizer([tokens[0]], is_split_into_words=True, return_tensors="pt")).logits[0]
    assert whole == pytest.approx(logits[[1, 2, 3]].detach().numpy(), abs=1e-5)


@pytest.mark.parametrize(
    "change", [{"fingerprint": "other"}, {"max_length": 16}, {"signal": "embedding"}, {"words": True}]
)
def test_another_setting_is_another_key(teacher, change):
    assert teacher.scorer(**change).key() != teacher.scorer().key()
    assert teacher.scorer().key() == teacher.scorer().key()


def test_another_length_limit_does_not_reuse_signals(teacher, rows):
    texts = ["good film " * 10]
    long = everything(teacher.scorer(max_length=32).score([rows(texts)], "score"), 1)
    short = everything(teacher.scorer(max_length=8).score([rows(texts)], "score"), 1)
    assert teacher.texts == 2
    assert np.abs(long - short).max() > 1e-3


def test_two_copies_of_a_model_share_a_fingerprint_and_other_weights_do_not(make_folder):
    one, copy = make_folder("one", kind="single-label"), make_folder("copy", kind="single-label")
    assert fingerprint(one) == fingerprint(copy)
    assert fingerprint(one) != fingerprint(make_folder("other", kind="single-label", seed=1))


def test_a_model_replaced_in_its_folder_gets_another_fingerprint(make_folder):
    before = fingerprint(make_folder(kind="single-label"))
    after = fingerprint(make_folder(kind="single-label", seed=1))
    assert before != after


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_the_fingerprint_covers_configuration_and_tokenizer(make_folder, name):
    folder = make_folder(kind="single-label")
    before = fingerprint(folder)
    file = Path(folder) / name
    file.write_text(file.read_text() + "\n")
    assert fingerprint(folder) != before


def test_a_folder_without_weights_has_no_fingerprint(tmp_path):
    with pytest.raises(ModelError, match="holds no weights"):
        fingerprint(str(tmp_path))


KILLED = """
import sys, time
import torch
from datasets import Dataset
from attar.nets.loading import load_for_task, load_tokenizer
from attar.teacher import cache, scoring

torch.set_num_threads(1)
folder, print_, *texts = sys.argv[1:]
scoring.SHARD_ROWS = 8
sync, writes = cache.os.fsync, []

def fsync(handle):
    writes.append(handle)
    if len(writes) == 5:  # four whole shards, and a fifth whose bytes are written but which has no name yet
        time.sleep(600)
    sync(handle)

cache.os.fsync = fsync
load = lambda: (load_for_task(folder, "single-label"), load_tokenizer(folder))
scorer = scoring.Scorer(load=load, fingerprint=print_, signal="logits", max_length=32, precision="float32")
scorer.score([Dataset.from_dict({"text": texts})], "score")
"""


def test_after_kill_9_in_the_middle_only_unfinished_texts_are_scored_again(
    teacher, rows, sentences, cache, monkeypatch
):
    texts = sentences(80)
    scorer = teacher.scorer()
    folder = cache / "signals" / scorer.key()
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, teacher.folder, scorer.fingerprint, *texts],
        env={**os.environ, "ATTAR_CACHE": str(cache)},
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 120
        while not (len(list(folder.glob("*.arrow"))) == 4 and list(folder.glob("*.tmp"))):
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert len(list(folder.glob("*.arrow"))) == 4
    assert len(list(folder.glob("*.tmp"))) == 1

    found = everything(scorer.score([rows(texts)], "score"), 80)
    assert teacher.texts == 80 - 4 * 8
    monkeypatch.setenv("ATTAR_CACHE", str(cache / "fresh"))
    uncached = everything(scorer.score([rows(texts)], "score"), 80)
    assert teacher.texts == 80 - 4 * 8 + 80
    assert found == pytest.approx(uncached, abs=1e-6)
    assert found == pytest.approx(teacher.direct(texts), abs=1e-5)

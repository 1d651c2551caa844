"""Facts about the data, measured and not asked."""

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from attar.data.encoding import tokenize
from attar.data.labels import plain_labels
from attar.data.task import TaskData
from attar.data.texts import TextSource

#: Rows that are tokenized, and rows that the cross-validated naive Bayes reads, at most.
_SAMPLE = 500
_NOISE_ROWS = 1200
#: Rows that are looked at for duplicates, at most.
_DIGESTS = 200_000
_WORDS = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the data is like. Lengths are of whole texts in the encoder's tokens, special tokens counted."""

    kind: str
    pair: bool
    labels: int
    train: int
    dev: int
    test: int
    unlabelled: int
    smallest_class: int | None
    """Training rows of the rarest class; None where there are no classes."""
    majority: float | None
    """Share of the most frequent class."""
    length_median: int
    length_p95: int
    length_max: int
    limit: int
    """Tokens that the encoder reads at most."""
    cut: float
    """Share of the texts that the encoder's limit would cut."""
    lost: float
    """Share of all tokens that the encoder's limit would cut off."""
    duplicates: int
    """Training rows whose text was there before."""
    leaked: int
    """Rows of dev and test whose text is in train, too."""
    conflicts: int
    """Training rows whose text occurs with another label, too."""
    linear: float | None
    """Cross-validated accuracy of naive Bayes over TF-IDF on a sample of the training rows."""
    doubtful: float | None
    """Share of those rows where it is sure of another label than the given one."""
    words: int
    """Different words of the training and unlabelled texts, by Heaps' law from the sample."""
    words_per_text: float
    lengths: tuple[int, ...]
    """Lengths of the sampled texts."""
    sampled: int

    def tokens(self, max_length: int) -> float:
        """Return the mean length where texts are cut at ``max_length``."""
        return float(np.minimum(self.lengths, max_length).mean())

    def attended(self, max_length: int) -> float:
        """Return the length of the text that a token stands in, in the mean, where texts are cut at ``max_length``.

        What a token costs grows with it in a straight line, so that the mean's cost is the mean cost.
        """
        lengths = np.minimum(self.lengths, max_length)
        return float(np.square(lengths, dtype=float).sum() / lengths.sum())

    def longest(self, max_length: int) -> int:
        """Return the longest length where texts are cut at ``max_length``."""
        return min(self.length_max, max_length)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready table, without the single lengths."""
        return {key: value for key, value in asdict(self).items() if key != "lengths"}


def gather(data: TaskData, tokenizer: PreTrainedTokenizerBase, limit: int) -> Facts:
    """Measure the data of a task under an encoder's tokenizer; large data by samples.

    Args:
        data: the task and its splits.
        tokenizer: the encoder's.
        limit: tokens that the encoder reads at most.
    """
    task, train = data.task, data.train
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(len(train), min(_SAMPLE, len(train)), replace=False))
    texts, pairs = TextSource([train]).take(rows)
    lengths = np.array(text_lengths(train.select(rows), tokenizer, task.kind))
    counts = _class_counts(train, task.kind)
    vocabulary, per_text = _vocabulary(texts, pairs, len(train) + len(data.unlabelled or ()))
    linear, doubtful = _noise(train, data, rng)
    return Facts(
        kind=task.kind,
        pair=task.pair is not None,
        labels=task.n_outputs,
        train=len(train),
        dev=len(data.dev),
        test=len(data.test) if data.test is not None else 0,
        unlabelled=len(data.unlabelled) if data.unlabelled is not None else 0,
        smallest_class=min(counts) if counts else None,
        majority=round(max(counts) / sum(counts), 4) if counts else None,
        length_median=int(np.median(lengths)),
        length_p95=int(np.percentile(lengths, 95)),
        length_max=int(lengths.max()),
        limit=limit,
        cut=round(float((lengths > limit).mean()), 4),
        lost=round(float(np.maximum(lengths - limit, 0).sum() / lengths.sum()), 4),
        linear=linear,
        doubtful=doubtful,
        **_repeats(data),
        words=vocabulary,
        words_per_text=per_text,
        lengths=tuple(map(int, lengths)),
        sampled=len(rows),
    )


def text_lengths(rows: Dataset, tokenizer: PreTrainedTokenizerBase, kind: str) -> list[int]:
    """Return the lengths of whole texts in tokens, special ones counted."""
    texts, pairs = TextSource([rows]).take(np.arange(len(rows)))
    encoded = tokenize(texts, pairs, tokenizer, 10**6, words=kind == "token")
    return [len(ids) for ids in encoded["input_ids"]]


def _class_counts(train: Dataset, kind: str) -> list[int]:
    return list(Counter(train["label"]).values()) if kind == "single-label" else []


def _vocabulary(texts: list, pairs: list | None, rows: int) -> tuple[int, float]:
    """Return the number of different words of ``rows`` texts, extrapolated by Heaps' law, and words a text."""
    found = [_words(text) + (_words(pair) if pair else []) for text, pair in zip(texts, pairs or texts, strict=True)]
    if pairs is None:
        found = [_words(text) for text in texts]
    whole = len({w for text in found for w in text})
    half = len({w for text in found[: max(1, len(found) // 2)] for w in text})
    power = float(np.log2(max(1.0, whole / max(1, half)))) if len(found) > 1 else 0.5
    size = whole * (max(rows, len(texts)) / len(texts)) ** min(power, 1.0)
    return int(size), round(float(np.mean([len(text) for text in found])), 1)


def _words(text: str | list[str]) -> list[str]:
    return _WORDS.findall((text if isinstance(text, str) else " ".join(text)).lower())


def _repeats(data: TaskData) -> dict[str, int]:
    """Count duplicates, texts that are in train and elsewhere, and equal texts with different labels."""
    train = data.train.select(range(min(len(data.train), _DIGESTS)))
    digests = TextSource([train]).digests()
    _, places, times = np.unique(digests, return_inverse=True, return_counts=True)
    others = [split for split in (data.dev, data.test) if split is not None]
    elsewhere = np.concatenate([TextSource([split]).digests() for split in others])
    _, labels = np.unique([json.dumps(label) for label in train["label"]], return_inverse=True)
    kinds = np.unique(np.stack([places, labels], axis=1), axis=0)  # every text's different labels
    several = np.bincount(kinds[:, 0], minlength=len(times)) > 1
    return {
        "duplicates": len(train) - len(times),
        "leaked": int(np.isin(elsewhere, digests).sum()),
        "conflicts": int(times[several].sum()),
    }


def _noise(train: Dataset, data: TaskData, rng: np.random.Generator) -> tuple[float | None, float | None]:
    """Cross-validate naive Bayes over TF-IDF; a sure answer against the label hints at a wrong label."""
    if data.task.kind != "single-label":
        return None, None
    rows = np.sort(rng.choice(len(train), min(_NOISE_ROWS, len(train)), replace=False))
    texts, pairs = TextSource([train]).take(rows)
    labels, _ = plain_labels(train.select(rows), data.task)
    labels = np.asarray(labels)
    common = np.isin(labels, [k for k, n in Counter(labels.tolist()).items() if n >= 3])
    if common.sum() < 30 or len(set(labels[common].tolist())) < 2:
        return None, None
    documents = [f"{t} {p or ''}"[:1500] for t, p in zip(texts, pairs or [""] * len(texts), strict=True)]
    try:
        chances = _out_of_fold([d for d, keep in zip(documents, common, strict=True) if keep], labels[common])
    except ValueError:  # no text has a word that is no stop word
        return None, None
    names = np.unique(labels[common])
    own = chances[np.arange(len(chances)), np.searchsorted(names, labels[common])]
    right = names[chances.argmax(1)] == labels[common]
    # 20 to 1 against the given label, by a model that has not seen it.
    sure = (chances.max(1) > 20 * own) & (chances.max(1) > 0.8)
    return round(float(right.mean()), 4), round(float(sure.mean()), 4)


def _out_of_fold(documents: list[str], labels: np.ndarray) -> np.ndarray:
    """Return every document's class probabilities by naive Bayes, fitted on the two thirds that do not hold it."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.naive_bayes import MultinomialNB

    features = TfidfVectorizer(sublinear_tf=True, stop_words="english").fit_transform(documents)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    return cross_val_predict(MultinomialNB(alpha=0.05), features, labels, cv=folds, method="predict_proba")


def tokenizer_bytes(folder: str) -> int:
    """Return the size of the tokenizer's files in a local folder; about that of BERT's for a hub name."""
    files = [Path(folder) / name for name in ("tokenizer.json", "vocab.txt", "merges.txt", "sentencepiece.bpe.model")]
    return sum(file.stat().st_size for file in files if file.exists()) or 1_000_000

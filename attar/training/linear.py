"""The baseline that every model has to beat: TF-IDF of words and word pairs, and a linear model."""

import re
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline

from attar.data.labels import plain_labels
from attar.data.task import Task
from attar.data.texts import TextSource

#: Training rows that the baseline reads at most; more change little and take long.
MAX_ROWS = 50_000


class LinearModel:
    """A fitted baseline. Token classification sees each word with its neighbours."""

    def __init__(self, pipeline: Pipeline, task: Task) -> None:
        self.pipeline, self.task = pipeline, task

    def logits(self, split: Dataset) -> np.ndarray:
        """Return scores as logits (N, C), a row a text, or a row a word."""
        texts = _documents(split, self.task)
        if self.task.kind == "regression":
            return self.pipeline.predict(texts).reshape(-1, 1)
        one_class = isinstance(self.pipeline[-1], DummyClassifier)
        scores = np.zeros((len(texts), 1)) if one_class else self.pipeline.decision_function(texts)
        if self.task.kind == "multi-label":
            return scores.reshape(len(texts), -1)
        # Two classes have one score, the second class's against the first's. Classes that training lacks score lowest.
        scores = np.stack([-scores / 2, scores / 2], -1) if scores.ndim == 1 else scores
        full = np.full((len(texts), self.task.n_outputs), scores.min() - 10.0)
        full[:, self.pipeline[-1].classes_] = scores
        return full

    @property
    def size(self) -> int:
        """Number of coefficients."""
        model = self.pipeline[-1]
        parts = model.estimators_ if hasattr(model, "estimators_") else [model]
        # A label that training always or never sets has a constant, not coefficients.
        return int(sum(np.size(p.coef_) + np.size(p.intercept_) for p in parts if hasattr(p, "coef_")))

    def speed(self, split: Dataset) -> dict[str, Any]:
        """Return texts a second over the split and the milliseconds of one text, medians after a warm-up."""
        rows = split.select(range(min(len(split), 1000)))
        one = split.select([0])
        many = _median_seconds(lambda: self.logits(rows), 5)
        single = _median_seconds(lambda: self.logits(one), 20)
        return {
            "texts_per_second": round(len(rows) / many, 1),
            "ms_per_text": round(single * 1000, 3),
            "texts": len(rows),
            "device": "cpu",
        }


def fit_linear(split: Dataset, task: Task, seed: int = 0) -> LinearModel:
    """Fit the baseline on at most :data:`MAX_ROWS` labelled rows, drawn with ``seed``."""
    if len(split) > MAX_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(len(split), MAX_ROWS, replace=False))
        split = split.select(rows)
    targets, _ = plain_labels(split, task)
    documents = _documents(split, task)
    pipeline = make_pipeline(_features(documents, task), _estimator(targets, task))
    return LinearModel(pipeline.fit(documents, targets), task)


def _features(documents: Sequence[str], task: Task) -> TfidfVectorizer:
    if task.kind == "token":
        return TfidfVectorizer(analyzer=str.split, use_idf=False, norm=None, binary=True)
    # To scikit-learn a word has two characters; sequences of amino acids, say, may have none.
    words = any(re.search(r"\w\w", document) for document in documents)
    analyzer = "word" if words else "char"
    return TfidfVectorizer(analyzer=analyzer, sublinear_tf=True, ngram_range=(1, 2), max_features=200_000)


def _estimator(targets: np.ndarray, task: Task) -> Any:
    if task.kind == "regression":
        return Ridge(alpha=1.0)
    if task.kind != "multi-label" and len(np.unique(targets)) < 2:
        return DummyClassifier()  # a few drawn rows may be all of one class
    if task.kind == "token":
        # Many rows times many tags: stochastic descent takes seconds where lbfgs takes minutes.
        return SGDClassifier(loss="log_loss", alpha=1e-6, max_iter=5, tol=None, random_state=0)
    logistic = LogisticRegression(C=10.0, max_iter=300)
    return OneVsRestClassifier(logistic) if task.kind == "multi-label" else logistic


def _documents(split: Dataset, task: Task) -> list[str]:
    texts, pairs = TextSource([split]).take(np.arange(len(split)))
    if task.kind == "token":
        return [window for words in texts for window in _windows(words)]
    if pairs is None:
        return texts
    # The two sides keep apart by a prefix; words that both have are features of their own.
    return [_pair_document(a, b) for a, b in zip(texts, pairs, strict=True)]


def _pair_document(first: str, second: str) -> str:
    a, b = first.lower().split(), second.lower().split()
    shared = [f"both_{word}" for word in set(a) & set(b)]
    return " ".join([*(f"a_{w}" for w in a), *(f"b_{w}" for w in b), *shared])


def _windows(words: Sequence[str]) -> list[str]:
    """Describe each word by itself, its ends, its case and its neighbours, as one string of features."""
    padded = ["<s>", *words, "</s>"]
    return [
        f"w={w.lower()} s3={w[-3:].lower()} s2={w[-2:].lower()} cap={w[:1].isupper()} digit={w[:1].isdigit()} "
        f"p={before.lower()} n={after.lower()}"
        for before, w, after in zip(padded, words, padded[2:], strict=False)
    ]


def _median_seconds(call: Any, repeats: int) -> float:
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))

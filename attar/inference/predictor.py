"""Predict with a bundle: texts in, labels and confidences out."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from attar.bundle import Bundle, copy_bundle, load_bundle
from attar.data.encoding import Encoded, encode_texts
from attar.data.outputs import decode, probabilities
from attar.data.task import Task
from attar.engines.contract import Engine
from attar.engines.exported import Exported, load_exported
from attar.engines.torch_engine import TorchEngine
from attar.errors import BundleError, DataError
from attar.records import is_exported


@dataclass(frozen=True)
class Prediction:
    """What a model says of one text.

    ``label`` is a label name, a list of names (multi-label), a value (regression), or a list with one name a word
    (token; None for words beyond the length limit). ``confidence`` is the probability of the label (multi-label: of
    the least certain decision; token: a list; regression: None). ``scores`` has the probability of every label by
    name; it is empty for regression and token classification.
    """

    label: Any
    confidence: Any
    scores: dict[str, float]


class Predictor:
    """A loaded bundle, or an exported one, that predicts.

    Args:
        bundle: task, tokenizer and length limit, and for a :class:`Bundle` the model.
        engine: what turns token ids into logits; by default PyTorch, with the bundle's model.
    """

    def __init__(self, bundle: Bundle | Exported, engine: Engine | None = None) -> None:
        self.bundle = bundle
        if engine is None:
            assert isinstance(bundle, Bundle), "an exported model comes with its engine"
            engine = TorchEngine(bundle.model, bundle.precision)
        self.engine = engine

    @property
    def task(self) -> Task:
        """The task of the model."""
        return self.bundle.task

    @property
    def model(self) -> PreTrainedModel:
        """The PyTorch model.

        Raises:
            BundleError: for an exported one, whose engine alone has the weights.
        """
        if not isinstance(self.bundle, Bundle):
            raise BundleError(f"{self.bundle.path} is an exported model; expected the bundle that it was made of")
        return self.bundle.model

    def predict(self, texts: Sequence[Any], pairs: Sequence[str] | None = None) -> list[Prediction]:
        """Return a prediction for every text, in order.

        Args:
            texts: strings, or lists of words for token classification.
            pairs: second texts, for a task of pairs.

        Raises:
            DataError: for anything but texts of the task's form.
        """
        if not len(texts):
            return []
        encoded = self.encode(texts, pairs)
        logits = self.engine.score(encoded)
        words = [encoded.words(i) for i in range(len(texts))] if self.task.kind == "token" else None
        return predictions(logits, self.task, words, [len(text) for text in texts])

    def logits(self, texts: Sequence[Any], pairs: Sequence[str] | None = None) -> np.ndarray:
        """Return raw outputs, float32 (N, C): a row a text, or a row a word for token classification."""
        if not len(texts):
            return np.zeros((0, self.task.n_outputs), np.float32)
        return self.engine.score(self.encode(texts, pairs))

    def encode(self, texts: Sequence[Any], pairs: Sequence[str] | None = None) -> Encoded:
        """Return the token ids of texts, as the engine reads them.

        Raises:
            DataError: for anything but texts of the task's form.
        """
        self._check(texts, pairs)
        second = None if pairs is None else list(pairs)
        words = self.task.kind == "token"
        b = self.bundle
        try:
            return encode_texts(list(texts), second, b.tokenizer, b.max_length, words=words, long=b.long)
        except TypeError:  # so tokenizers say of text that UTF-8 cannot hold
            _refuse_half_characters(texts)
            _refuse_half_characters(second or [])
            raise

    def save(self, folder: str) -> None:
        """Write the model to another folder, without its record."""
        target = Path(folder)
        if target.exists():
            raise BundleError(f"{folder} exists already; choose another folder or delete it")
        if isinstance(self.bundle, Bundle):
            copy_bundle(self.bundle, target)
        else:
            shutil.copytree(self.bundle.path, target)

    def _check(self, texts: Sequence[Any], pairs: Sequence[str] | None) -> None:
        if isinstance(texts, str):
            raise DataError("predict expects a list of texts, found one string; write predict([text])")
        token = self.task.kind == "token"
        for i, text in enumerate(texts):
            if not isinstance(text, list | tuple if token else str):
                wanted = "a list of words" if token else "a string"
                raise DataError(f"text {i + 1}: expected {wanted}, found {type(text).__name__}")
            if token and not all(isinstance(word, str) for word in text):
                raise DataError(f"text {i + 1}: expected a list of words, found one that is no string")
        if token and pairs is not None:
            raise DataError("this model labels words; it takes no second texts")
        if self.task.pair is not None and pairs is None:
            raise DataError("this model labels pairs of texts; give the second texts too")
        if pairs is not None and len(pairs) != len(texts):
            raise DataError(f"expected as many second texts as texts, found {len(pairs)} and {len(texts)}")
        for i, pair in enumerate(pairs or ()):
            if not isinstance(pair, str):
                raise DataError(f"second text {i + 1}: expected a string, found {type(pair).__name__}")


def _refuse_half_characters(texts: Sequence[Any]) -> None:
    for i, text in enumerate(texts):
        try:
            "".join(text).encode()
        except UnicodeEncodeError as error:
            raise DataError(f"text {i + 1}: expected text that UTF-8 can hold, found half of a character") from error


def load(path: str, *, encoder: str | None = None) -> Predictor:
    """Load a bundle, any fine-tuned transformers folder, a delta, or an exported model, for prediction.

    Args:
        path: folder or hub name.
        encoder: for a delta whose encoder was moved, where it is now.
    """
    if is_exported(path) and encoder is None:
        return Predictor(*load_exported(path))
    return Predictor(load_bundle(path, encoder=encoder))


def predictions(
    logits: np.ndarray, task: Task, words: Sequence[np.ndarray] | None = None, lengths: Sequence[int] = ()
) -> list[Prediction]:
    """Return what raw outputs say, a prediction a text.

    Args:
        logits: (N, C), a row a text or, for token classification, a row a word.
        task: of the model.
        words: for token classification, the numbers of the words of every text that the rows are of.
        lengths: for token classification, the words of every text.
    """
    labels, confidences = decode(logits, task)
    if words is not None:
        return _by_word(labels, confidences, words, lengths)
    if task.kind == "regression":
        return [Prediction(label, None, {}) for label in labels]
    scores = probabilities(logits, task.kind)
    named = [dict(zip(task.labels, row, strict=True)) for row in scores.tolist()]
    return [Prediction(*found) for found in zip(labels, confidences, named, strict=True)]


def _by_word(labels: list, confidences: list, words: Sequence[np.ndarray], lengths: Sequence[int]) -> list[Prediction]:
    """Hand one label to every word; words that were cut off get None."""
    found = []
    start = 0
    for kept, length in zip(words, lengths, strict=True):
        here = slice(start, start + len(kept))
        start += len(kept)
        by_word = dict(zip(kept.tolist(), zip(labels[here], confidences[here], strict=True), strict=True))
        pairs = [by_word.get(i, (None, None)) for i in range(length)]
        found.append(Prediction([p[0] for p in pairs], [p[1] for p in pairs], {}))
    return found

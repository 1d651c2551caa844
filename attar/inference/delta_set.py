"""Several deltas over one encoder in memory."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.bundle import load_bundle
from attar.data.encoding import encode_texts
from attar.errors import ConfigError, DataError, nearest
from attar.inference.many.answers import answer_rows, decode_rows
from attar.inference.many.rows import Member, Row, check_rows
from attar.inference.predictor import Prediction, Predictor
from attar.nets.deltas.format import is_delta
from attar.nets.hardware import pick_device
from attar.nets.loading import load_encoder
from attar.nets.mixed.changes import find_changes
from attar.nets.mixed.tree import MixedTree
from attar.nets.parameters import tensor_bytes


class DeltaSet:
    """One encoder in memory, and the tasks that named deltas make of it.

    Every task is a :class:`Predictor` with its own labels, head and kind. Their models hold the encoder's own
    parameters wherever the delta leaves them as they are, and nothing is ever written into those
    (:func:`attar.nets.deltas.sharing.share_parameters`): the order of calls does not matter, and without its tasks
    the encoder is bit for bit what it was.

    Args:
        encoder: local folder or hub name.

    Raises:
        ConfigError: for a delta in the place of the encoder.
        ModelError: where it cannot be loaded.
    """

    def __init__(self, encoder: str) -> None:
        if is_delta(encoder):
            raise ConfigError(f"a DeltaSet expects the encoder that deltas share; found the delta {encoder}")
        self.encoder = encoder
        self._base = load_encoder(encoder).eval().requires_grad_(False).to(pick_device())
        self._tree = MixedTree(self._base)
        self._tokenizers: dict[tuple[int, str], PreTrainedTokenizerBase] = {}
        self._changing = threading.Lock()
        # Replaced as a whole, never changed: a call that is under way keeps the tasks that it began with.
        self._members: dict[str, Member] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the deltas, in the order in which they were added."""
        return tuple(self._members)

    def add(self, name: str, folder: str) -> None:
        """Load a delta under a name. The encoder's checkpoint is read again meanwhile, and not kept.

        Raises:
            ConfigError: for a name that is taken.
            BundleError: where the folder holds no delta, or a torn one.
            ModelError: for a delta that was trained on another encoder.
        """
        with self._changing:
            if name in self._members:
                raise ConfigError(f"there is a delta named {name!r} already; remove it first, or give another name")
            self._members = {**self._members, name: self._load(folder)}

    def _load(self, folder: str) -> Member:
        bundle = load_bundle(folder, encoder=self.encoder, over=self._base)
        tokenizer = self._tokenizers.setdefault((bundle.max_length, bundle.long), bundle.tokenizer)
        # A tokenizer keeps the limit of its last call: with one for each way to cut, threads cannot mix them up.
        encode_texts(["a"], None, tokenizer, bundle.max_length, long=bundle.long)
        predictor = Predictor(replace(bundle, tokenizer=tokenizer))
        self._tree.add_head(bundle.model)
        return Member(predictor, find_changes(bundle.model, self._base))

    def remove(self, name: str) -> None:
        """Forget a delta. Calls that are under way with it still end well.

        Raises:
            ConfigError: for a name that is not there.
        """
        with self._changing:
            self.use(name)
            self._members = {other: member for other, member in self._members.items() if other != name}

    def use(self, name: str) -> Predictor:
        """Return the task of a delta, ready to predict.

        Raises:
            ConfigError: for a name that is not there.
        """
        members = self._members
        if name not in members:
            there = ", ".join(members) or "none"
            raise ConfigError(f"no delta is named {name!r}{nearest(name, members)} (there are: {there})")
        return members[name].predictor

    def base(self) -> PreTrainedModel:
        """Return the encoder without any delta; do not change it, all tasks use it."""
        return self._base

    def predict(self, name: str, texts: Sequence[Any], pairs: Sequence[str] | None = None) -> list[Prediction]:
        """Return what a delta's task says of texts (:meth:`Predictor.predict`)."""
        return self.use(name).predict(texts, pairs)

    def logits(self, name: str, texts: Sequence[Any], pairs: Sequence[str] | None = None) -> np.ndarray:
        """Return the raw outputs of a delta's task (:meth:`Predictor.logits`)."""
        return self.use(name).logits(texts, pairs)

    def predict_rows(self, rows: Sequence[Row]) -> list[Prediction]:
        """Return a prediction for every row, in order; rows of different tasks run together.

        Args:
            rows: (delta, text), or (delta, text, second text) for a task of pairs; a list of words is the text of a
                token task.

        Raises:
            ConfigError: for a delta that is not there.
            DataError: for a row of another form, with its number.
        """
        asked = check_rows(rows, self._members)
        return decode_rows(asked, answer_rows(asked, self._tree))

    def logits_rows(self, rows: Sequence[Row]) -> list[np.ndarray]:
        """Return the raw outputs of every row, float32: (C,), or (words, C) for token classification.

        Args and errors are those of :meth:`predict_rows`.
        """
        return [answer.logits for answer in answer_rows(check_rows(rows, self._members), self._tree)]

    def predict_all(self, texts: Sequence[Any], names: Sequence[str] | None = None) -> dict[str, list[Prediction]]:
        """Return what several tasks say of the same texts; what the tasks have in common runs once a text.

        Args:
            texts: strings, or lists of words for token classification.
            names: of the deltas; all of them by default.

        Returns:
            A prediction for every text, in order, by the delta's name.

        Raises:
            ConfigError: for a delta that is not there.
            DataError: for anything but texts of every task's form.
        """
        if isinstance(texts, str):
            raise DataError("predict_all expects a list of texts, found one string; write predict_all([text])")
        members = self._members
        chosen = list(dict.fromkeys(members if names is None else names))
        asked = check_rows([(name, text) for name in chosen for text in texts], members)
        found = decode_rows(asked, answer_rows(asked, self._tree))
        return {name: found[i * len(texts) : (i + 1) * len(texts)] for i, name in enumerate(chosen)}

    def memory(self) -> dict[str, int]:
        """Return bytes of weights in memory: of the ``encoder``, and of all that the ``deltas`` have of their own."""
        encoder = tensor_bytes([self._base])
        models = [member.predictor.model for member in self._members.values()]
        return {"encoder": encoder, "deltas": tensor_bytes([self._base, *models]) - encoder}

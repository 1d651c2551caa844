"""Plain texts to pre-train on: documents of any number, cut into windows of token ids that lie on disk."""

import hashlib
import json
import shutil
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from attar.config import TextConfig
from attar.data.columns import text_column
from attar.data.encoding import Encoded
from attar.data.readers import read_documents
from attar.errors import DataError
from attar.progress import progress
from attar.records import write_json

_LARGEST_DEV = 2_000
#: Documents that are tokenized at a time.
_CHUNK = 512
_FACTS = "corpus.json"


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Texts as windows of token ids, each with its special tokens; no pairs, no segments."""

    train: Encoded
    dev: Encoded
    """Windows of the documents that are held out."""
    counts: np.ndarray
    """How often each token id stands in ``train``, (tokenizer's size,) int64."""
    facts: dict[str, Any]
    """``{fingerprint, rows: {documents, train, dev, too_short, unknown}, tokens: {train, dev}}``; rows are windows."""

    def notes(self) -> list[str]:
        """Return what was kept and dropped, as sentences for the user."""
        rows, tokens = self.facts["rows"], self.facts["tokens"]
        dropped = f"dropped {rows['too_short']:,} too short and {rows['unknown']:,} of mostly unknown tokens"
        return [
            f"{rows['documents']:,} documents: {rows['train']:,} windows ({tokens['train']:,} tokens) to learn from, "
            f"{rows['dev']:,} ({tokens['dev']:,} tokens) of held-out documents to judge by; {dropped}"
        ]


def open_documents(config: TextConfig) -> list[Dataset]:
    """Open all files of the texts, memory-mapped, each with its one column ``text``.

    Raises:
        DataError: for a file that cannot be read or has no column of texts, by its name; for a path without any
            file; and for fewer than two documents.
    """
    found = [part for path in config.paths for part in read_documents(path)]
    parts = []
    for name, rows in found:
        column = text_column(rows, config.column if rows.column_names != ["text"] else None, name)
        parts.append(rows.select_columns([column]).rename_column(column, "text") if column != "text" else rows)
    if sum(map(len, parts)) < 2:
        raise DataError(
            f"{', '.join(config.paths)}: expected at least two documents, one to learn from and one to hold out, "
            "found one; plain text has one document a line"
        )
    return [part.select_columns(["text"]) for part in parts]


def write_corpus(
    documents: Sequence[Dataset],
    config: TextConfig,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    folder: Path,
) -> None:
    """Tokenize the documents once, window by window, into ``folder``, which appears complete or not at all.

    A document longer than ``max_length`` tokens is split, and every window has its own special tokens. Windows with
    fewer than ``config.min_tokens`` tokens (special ones counted), or with a share of ``config.max_unknown`` unknown
    ones or more, are dropped (Sanh et al. 2019, released code).

    Raises:
        DataError: where no window is left to learn from or to judge by.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    n = sum(map(len, documents))
    held = _held_out(n, config)
    n_ids = max(tokenizer.get_vocab().values()) + 1
    writers = {name: _Writer(temporary / name, n_ids) for name in ("train", "dev")}
    dropped = {"too_short": 0, "unknown": 0}
    with progress("tokenize", n, unit=" documents") as bar:
        for first, texts in _chunks(documents):
            kept: dict[str, list[list[int]]] = {"train": [], "dev": []}
            for document, ids in _windows(texts, tokenizer, max_length):
                reason = _reason_to_drop(ids, config, tokenizer.unk_token_id)
                if reason:
                    dropped[reason] += 1
                else:
                    kept["dev" if held[first + document] else "train"].append(ids)
            for name, windows in kept.items():
                writers[name].extend(windows)
            bar.update(len(texts))
    facts = {
        "fingerprint": hashlib.sha256("".join(w.close() for w in writers.values()).encode()).hexdigest()[:16],
        "rows": {"documents": n, **{name: len(w.lengths) for name, w in writers.items()}, **dropped},
        "tokens": {name: sum(w.lengths) for name, w in writers.items()},
    }
    empty = [name for name, writer in writers.items() if not writer.lengths]
    if empty:
        shutil.rmtree(temporary)
        what = "to learn from" if "train" in empty else "in the held-out documents"
        raise DataError(
            f"{', '.join(config.paths)}: expected texts of at least {config.min_tokens} tokens, found none {what} "
            f"({dropped['too_short']} too short, {dropped['unknown']} of mostly unknown tokens); give more text, or "
            "lower text.min_tokens"
        )
    write_json(facts, temporary / _FACTS)
    temporary.replace(folder)


def read_corpus(folder: Path, pad_id: int) -> Corpus:
    """Open what :func:`write_corpus` left, memory-mapped; ``pad_id`` fills the rows of a batch."""
    parts = {}
    for name in ("train", "dev"):
        lengths = np.load(folder / f"{name}.lengths.npy")
        ids = np.memmap(folder / f"{name}.ids", np.int32, mode="r")
        parts[name] = Encoded({"input_ids": ids}, np.concatenate([[0], np.cumsum(lengths)]), pad_id)
    facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    return Corpus(**parts, counts=np.load(folder / "train.counts.npy"), facts=facts)


def _held_out(n: int, config: TextConfig) -> np.ndarray:
    """Mark the documents to judge by; at least one, and never all."""
    size = min(max(1, round(n * config.dev_share)), _LARGEST_DEV, n - 1)
    held = np.zeros(n, bool)
    held[np.random.default_rng(config.split_seed).choice(n, size, replace=False, shuffle=False)] = True
    return held


def _chunks(documents: Sequence[Dataset]) -> Iterator[tuple[int, list[str | None]]]:
    """Yield (number of the first document, texts)."""
    first = 0
    for part in documents:
        for start in range(0, len(part), _CHUNK):
            texts = part[start : start + _CHUNK]["text"]
            yield first, texts
            first += len(texts)


def _windows(
    texts: list[str | None], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Iterator[tuple[int, list[int]]]:
    """Yield (number of the text, token ids) of every window; a long text makes several."""
    found = tokenizer(
        [text or "" for text in texts],
        truncation=True,
        max_length=max_length,
        return_overflowing_tokens=True,
        return_attention_mask=False,
        return_token_type_ids=False,
    )
    return zip(found["overflow_to_sample_mapping"], found["input_ids"], strict=True)


def _reason_to_drop(ids: list[int], config: TextConfig, unknown: int | None) -> str | None:
    if len(ids) < config.min_tokens:
        return "too_short"
    return "unknown" if unknown is not None and ids.count(unknown) >= config.max_unknown * len(ids) else None


class _Writer:
    """Appends windows to ``NAME.ids``; lengths and counts of the token ids are kept in memory until the end."""

    def __init__(self, place: Path, n_ids: int) -> None:
        self.place = place
        self.lengths = array("i")
        self._counts = np.zeros(n_ids, np.int64)
        self._digest = hashlib.sha256()
        self._file = place.with_suffix(".ids").open("wb")

    def extend(self, windows: list[list[int]]) -> None:
        flat = np.fromiter(chain.from_iterable(windows), np.int32)
        self._file.write(flat.tobytes())
        self._digest.update(flat.tobytes())
        self._counts += np.bincount(flat, minlength=len(self._counts))
        self.lengths.extend(map(len, windows))

    def close(self) -> str:
        """Write what is in memory; return a digest of all windows."""
        self._file.close()
        np.save(self.place.with_suffix(".lengths.npy"), np.array(self.lengths, np.int32))
        np.save(self.place.with_suffix(".counts.npy"), self._counts)
        return self._digest.hexdigest()

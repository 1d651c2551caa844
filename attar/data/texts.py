"""Several splits seen as one long list of texts."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from datasets import Dataset

#: A text, a list of tokens, in either case with an optional second text.
Texts = tuple[list, list | None]

_CHUNK = 8192


class TextSource:
    """The texts of several splits with canonical columns, in order, never in memory at once."""

    def __init__(self, parts: Sequence[Dataset]) -> None:
        self.parts = [part.select_columns([c for c in ("text", "pair") if c in part.column_names]) for part in parts]
        self._starts = np.cumsum([0, *map(len, self.parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, rows: np.ndarray) -> Texts:
        """Return (texts, second texts or None) of the given rows, in the order given."""
        rows = np.asarray(rows)
        texts: list = [None] * len(rows)
        pairs: list = [None] * len(rows)
        owner = np.searchsorted(self._starts, rows, side="right") - 1
        for k in np.unique(owner):
            places = np.flatnonzero(owner == k)
            found = self.parts[k][(rows[places] - self._starts[k]).tolist()]
            second = found.get("pair", [None] * len(places))
            for place, text, pair in zip(places, found["text"], second, strict=True):
                texts[place], pairs[place] = text, pair
        return texts, (pairs if any(p is not None for p in pairs) else None)

    def chunks(self) -> Iterator[Texts]:
        """Yield all texts in order, a few thousand at a time."""
        for part in self.parts:
            for start in range(0, len(part), _CHUNK):
                found = part[start : start + _CHUNK]
                yield found["text"], found.get("pair")

    def digests(self) -> np.ndarray:
        """Return a 16-byte digest of every text, dtype ``S16``."""
        found = [digest(text, pair) for texts, pairs in self.chunks() for text, pair in _zip(texts, pairs)]
        return np.array(found, dtype="S16")


def _zip(texts: list, pairs: list | None) -> Iterator[tuple]:
    return zip(texts, pairs or [None] * len(texts), strict=True)


def digest(text: str | list[str], pair: str | None) -> bytes:
    """Return a 16-byte hash of one example; its parts are told apart, so that ("a", "b") is not "ab"."""
    joined = text if isinstance(text, str) else "\x1e".join(text)
    whole = joined if pair is None else f"{joined}\x1f{pair}"
    return hashlib.blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=16).digest()

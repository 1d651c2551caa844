"""What happened in a teacher's layers on texts, in a temporary file, text by text."""

import hashlib
import logging
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attar.nets.taps import Tapped
from attar.sizes import room_for_temporary_files, show_size

log = logging.getLogger("attar")

#: Bytes of a number in half precision.
_BYTES = 2
#: A kind of signal, as a field of :class:`attar.nets.taps.Tapped` is named, and a layer.
Part = tuple[str, int]


@dataclass(frozen=True)
class Text:
    """A text as a teacher reads it."""

    digest: bytes
    """Of its ids: texts of the same ids are one text."""
    tokens: int


def texts_of(inputs: Mapping[str, Tensor]) -> list[Text]:
    """Return the texts of a padded batch of ids and masks, (B, T)."""
    mask = inputs["attention_mask"].bool().cpu()
    lengths = (mask * torch.arange(1, mask.shape[1] + 1)).amax(1).tolist()
    columns = [tensor.cpu().numpy() for name, tensor in inputs.items() if name != "attention_mask"]
    found = []
    for row, length in enumerate(lengths):
        digest = hashlib.blake2b(digest_size=16)
        for column in columns:
            digest.update(column[row, :length].tobytes())
        found.append(Text(digest.digest(), length))
    return found


class LayerStore:
    """Texts with what was seen of them, in float16, in an unnamed file that is gone with the process.

    Args:
        parts: what is kept of a text, in the file's order.
        width: W of the teacher.
        heads: its H attention heads.
        limit: bytes that the file may have.
    """

    def __init__(self, parts: Sequence[Part], *, width: int, heads: int, limit: int) -> None:
        self.parts, self._width, self._heads = list(parts), width, heads
        self._room = min(limit, room_for_temporary_files())
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the store lives)
        self._end, self._places = 0, dict[bytes, int]()

    def __contains__(self, text: Text) -> bool:
        return text.digest in self._places

    def shape(self, kind: str, tokens: int) -> tuple[int, ...]:
        """Return the shape of one signal of one text."""
        if kind in ("embeddings", "hidden"):
            return tokens, self._width
        return self._heads, tokens, tokens if kind == "scores" else self._width // self._heads

    def add(self, texts: Sequence[Text], seen: Tapped) -> None:
        """Keep what was seen of texts, in their order, as far as there is room and float16 holds it."""
        fresh = {text: row for row, text in enumerate(texts) if text not in self and self._make_room(text)}
        if not fresh:
            return
        places = {text: self._places[text.digest] for text in fresh}
        try:
            for kind, layer in self.parts:
                values = signal(seen, kind, layer).to(torch.float16).cpu()
                for text, row in fresh.items():
                    own = values[row][tuple(map(slice, self.shape(kind, text.tokens)))]
                    if not own.isfinite().all():
                        self._places.pop(text.digest, None)
                    self._file.seek(places[text])
                    self._file.write(own.contiguous().numpy().tobytes())
                    places[text] += own.numel() * _BYTES
            self._file.flush()
        except OSError as error:  # another program took the rest of the disk
            log.warning("%s: %s; no more of the teacher's layers are kept", tempfile.gettempdir(), error.strerror)
            self._room = 0
            for text in fresh:
                self._places.pop(text.digest, None)

    def _make_room(self, text: Text) -> bool:
        """Give a text its place, where there is room."""
        size = _BYTES * sum(math.prod(self.shape(kind, text.tokens)) for kind, _ in self.parts)
        if self._end + size > self._room:
            if self._room:
                log.info(
                    "the teacher's layers of %s texts fill %s (train.cache_limit): other texts run in every epoch",
                    f"{len(self._places):,}", show_size(self._room),
                )  # fmt: skip
            self._room = 0  # said once
            return False
        self._places[text.digest] = self._end
        self._end += size
        return True

    def read(self, text: Text, part: Part) -> Tensor:
        """Return one signal of a text that is kept, float16."""
        before = self.parts[: self.parts.index(part)]
        skipped = sum(math.prod(self.shape(kind, text.tokens)) for kind, _ in before)
        shape = self.shape(part[0], text.tokens)
        size = math.prod(shape)
        self._file.seek(self._places[text.digest] + _BYTES * skipped)
        return torch.from_numpy(np.frombuffer(bytearray(self._file.read(_BYTES * size)), np.float16)).view(shape)


def signal(seen: Tapped, kind: str, layer: int) -> Tensor:
    """Return one signal of a batch."""
    found: Tensor = seen.embeddings if kind == "embeddings" else getattr(seen, kind)[layer]
    return found

"""Hidden states of encoded texts in half precision, memory-mapped, under the same row numbers."""

import tempfile
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from attar.data.encoding import Encoded

#: Bytes of a number in half precision.
_BYTES = 2


class EncodedStates(Encoded):
    """Encoded texts whose batches carry hidden states in place of token ids.

    Args:
        encoded: the texts.
        bits: (tokens, W) int16, the numbers of ``dtype`` bit for bit (NumPy has no bfloat16).
        dtype: ``torch.float16`` or ``torch.bfloat16``.
    """

    def __init__(self, encoded: Encoded, bits: np.ndarray, dtype: torch.dtype) -> None:
        kept = {name: column for name, column in encoded.columns.items() if name.endswith("_starts")}
        super().__init__(kept, encoded.offsets, 0, encoded.pool)
        self.bits, self.dtype = bits, dtype

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """Return ``inputs_embeds`` (B, T, W), zero beyond each row's end, and the masks."""
        batch = super().batch(rows)
        real, flat, _ = self.places(rows)
        padded = np.zeros((*real.shape, self.bits.shape[1]), np.int16)
        padded[real] = self.bits[flat]
        batch["inputs_embeds"] = torch.from_numpy(padded).view(self.dtype)
        return batch


def states_size(encoded: Encoded, width: int) -> int:
    """Return the bytes that the states of all tokens take."""
    return int(encoded.offsets[-1]) * width * _BYTES


def store_states(
    encoded: Encoded, states: Iterable[tuple[np.ndarray, np.ndarray]], dtype: torch.dtype
) -> EncodedStates | None:
    """Write states to an unnamed temporary file, gone with the process, and return them mapped into memory.

    Args:
        encoded: the texts, at least one.
        states: (row numbers, float32 states (tokens of these rows, W)) until every row has come once.
        dtype: half precision to store in.

    Returns:
        None where a state is beyond the range of ``dtype``.

    Raises:
        OSError: where the disk is full.
    """
    file = tempfile.TemporaryFile()  # noqa: SIM115 (kept open: the map reads from it)
    width = 0
    for rows, values in states:
        half = torch.from_numpy(values).to(dtype)
        if not half.isfinite().all():
            return None
        lines, start, width = half.view(torch.int16).numpy(), 0, values.shape[1]
        for row in rows:
            end = start + int(encoded.lengths[row])
            file.seek(int(encoded.offsets[row]) * width * _BYTES)
            file.write(lines[start:end].tobytes())
            start = end
    file.flush()
    bits = np.memmap(file, np.int16, mode="r", shape=(int(encoded.offsets[-1]), width))
    return EncodedStates(encoded, bits, dtype)

"""The order in which examples are seen, shuffled, yet each batch of nearly one length; large batches in pieces."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

#: Batches that are sorted together. More waste less padding and shuffle less.
_POOL = 50


class LengthBucketSampler(Sampler[int]):
    """Row numbers in an order whose consecutive runs of ``batch_size`` are of nearly one length.

    All rows are shuffled, cut into pools of 50 batches, each pool is sorted by length and cut into batches, and
    the batches are shuffled. The order depends on (seed, epoch) alone, so a resumed or distributed run sees the same.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(len(self.lengths))
        pool = self.batch_size * _POOL
        batches: list[np.ndarray] = []
        for start in range(0, len(order), pool):
            rows = order[start : start + pool]
            rows = rows[np.argsort(self.lengths[rows], kind="stable")]
            batches.extend(rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size))
        # A short batch anywhere but at the end would shift the borders of all after it.
        full = [b for b in batches if len(b) == self.batch_size]
        rest = [b for b in batches if len(b) < self.batch_size]
        for i in generator.permutation(len(full)):
            yield from full[i].tolist()
        for batch in rest:
            yield from batch.tolist()


def split_batch(lengths: np.ndarray, most: int, lines: np.ndarray | None = None) -> list[slice]:
    """Cut a batch of rows into pieces of at most ``most`` tokens with their padding; a longer row is one by itself.

    Args:
        lengths: tokens of every row, or of the longest of its lines.
        most: tokens of a piece.
        lines: lines that every row takes, where texts were cut into chunks.
    """
    pieces, start, longest, held = [], 0, 0, 0
    counts = np.ones(len(lengths), np.int64) if lines is None else lines
    for end, (length, count) in enumerate(zip(lengths.tolist(), counts.tolist(), strict=True)):
        longest, held = max(longest, length), held + count
        if end > start and held * longest > most:
            pieces.append(slice(start, end))
            start, longest, held = end, length, count
    return [*pieces, slice(start, len(lengths))]

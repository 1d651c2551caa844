"""The Pareto front of quality against a cost."""

from collections.abc import Sequence


def front(points: Sequence[tuple[float | None, float | None]]) -> list[int]:
    """Return which points no other beats: none is as good and cheaper, or better and as cheap. Cheapest first.

    Args:
        points: quality (more is better) and cost (less is better); one that is not known is on no front.
    """
    known = [(c, -q, i) for i, (q, c) in enumerate(points) if q is not None and c is not None]
    kept: list[int] = []
    best = None
    for _, minus, i in sorted(known):
        if best is None or -minus > best:
            kept.append(i)
            best = -minus
    return kept

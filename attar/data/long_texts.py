"""What is read of a text that is longer than the length limit: ``long``, a setting of training that a bundle keeps.

``truncate``
    its head. ``windowed`` is the same for the data: there it is the encoder that reads more.
``head-tail``
    its first and its last tokens, in the proportion of Sun et al. 2019 (arXiv 1905.05583, section 5.3.1): the first
    128 and the last 382 of 510.
``chunks``, ``chunks-max``
    all of it, in chunks: the mean (or the maximum) of their logits is the text's. A text is cut into as few chunks as
    possible, all equally long, without overlap; of a text that needs more than :data:`MAX_CHUNKS` the rest is cut.

Texts within the limit are encoded the same in all of them.
"""

from itertools import pairwise

from transformers import BatchEncoding

from attar.errors import ConfigError

HEAD_TAIL = "head-tail"
#: How the logits of chunks become a text's.
POOLS = {"chunks": "mean", "chunks-max": "max"}
#: Chunks that a text has at most: at 512 tokens each, some 8,000 tokens are read.
MAX_CHUNKS = 16
#: Share of the tokens of head and tail that the head has.
_HEAD = 128 / 510


def require_single(long: str, *, pairs: bool, words: bool) -> None:
    """Refuse what cannot be cut in the middle.

    Raises:
        ConfigError: for pairs of texts, and for words with a label each.
    """
    if pairs or words:
        found = "pairs of texts" if pairs else "lists of words"
        raise ConfigError(f"--long {long} reads single texts; found {found}: use --long truncate or windowed")


def cut_long(
    rows: dict[str, list[list[int]]], found: BatchEncoding, max_length: int, long: str
) -> dict[str, list[list[int]]]:
    """Return the rows with the long ones cut; in chunks, they follow one another, marked in ``chunk_starts``.

    Args:
        rows: ids and segments of whole texts, special tokens included.
        found: what the tokenizer said of them.
        max_length: tokens of a row, or of a chunk, with its own special tokens.
        long: ``head-tail``, ``chunks`` or ``chunks-max``.
    """
    cut: dict[str, list[list[int]]] = {name: [] for name in rows}
    starts: list[list[int]] = []
    for i, ids in enumerate(rows["input_ids"]):
        pieces = [list(range(len(ids)))]
        if len(ids) > max_length:
            own = [place for place, part in enumerate(found.sequence_ids(i)) if part is not None]
            before, after = list(range(own[0])), list(range(own[-1] + 1, len(ids)))
            room = max(1, max_length - len(before) - len(after))
            pieces = [[*before, *part, *after] for part in _parts(own, room, long)]
        for name, values in rows.items():
            cut[name].append([values[i][place] for piece in pieces for place in piece])
        starts.append([int(k == 0) for piece in pieces for k in range(len(piece))])
    return cut if long == HEAD_TAIL else {**cut, "chunk_starts": starts}


def _parts(places: list[int], room: int, long: str) -> list[list[int]]:
    """Return which of a text's tokens are read together, ``room`` of them at most."""
    if long == HEAD_TAIL:
        head = round(room * _HEAD)
        return [places[:head] + places[head - room :]]
    places = places[: MAX_CHUNKS * room]
    n = -(-len(places) // room)
    ends = [len(places) * k // n for k in range(n + 1)]
    return [places[a:b] for a, b in pairwise(ends)]

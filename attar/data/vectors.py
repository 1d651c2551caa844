"""Read GloVe and word2vec files, text or binary, plain or gzipped, keeping only the words asked for."""

import itertools
from collections.abc import Iterator, Set
from pathlib import Path
from typing import IO

import numpy as np

from attar.data.formats.raw import open_bytes
from attar.errors import DataError


def read_vectors(path: str, words: Set[str]) -> dict[str, np.ndarray]:
    """Return the vectors of those of ``words`` that the file has; cased words match where the lower-cased do not.

    Raises:
        DataError: for a missing file, or a line of another width than the first, with its number.
    """
    found: dict[str, np.ndarray] = {}
    lowered: dict[str, np.ndarray] = {}
    for word, vector in _rows(path):
        if word in words:
            found.setdefault(word, vector)
        elif word.lower() in words:
            lowered.setdefault(word.lower(), vector)
    return {**lowered, **found}


def first_vectors(path: str, n: int) -> dict[str, np.ndarray]:
    """Return the vectors of the first ``n`` words of a file; published files begin with the most frequent words.

    Raises:
        DataError: as :func:`read_vectors`.
    """
    found: dict[str, np.ndarray] = {}
    for word, vector in itertools.islice(_rows(path), n):
        found.setdefault(word, vector)
    return found


def _rows(path: str) -> Iterator[tuple[str, np.ndarray]]:
    file = Path(path)
    if not file.is_file():
        raise DataError(f"word vector file {path} not found")
    with open_bytes(file) as content:
        for word, vector in _binary_rows(content, path) if ".bin" in file.suffixes else _text_rows(content, path):
            if not np.isfinite(vector).all():
                raise DataError(f"{path}: expected numbers for the word {word!r}, found NaN or infinity")
            yield word, vector


def _text_rows(content: IO[bytes], path: str) -> Iterator[tuple[str, np.ndarray]]:
    """GloVe has one word a line; word2vec's text form starts with a line of two counts."""
    width = 0
    for number, line in enumerate(content, 1):
        word, *values = line.decode("utf-8", "replace").rstrip().split(" ")
        if not line.strip() or (number == 1 and len(values) == 1):
            continue
        width = width or len(values)
        if len(values) > width and not _is_number(values[0]):
            continue  # GloVe's 840B file has words with blanks in them, such as ". . ."; no text has them
        try:
            vector = np.array(values, np.float32)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: expected a word and {width} numbers ({error})") from error
        if len(vector) != width or not width:
            raise DataError(f"{path}, line {number}: expected a word and {width} numbers, found {len(vector)}")
        yield word, vector


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _binary_rows(content: IO[bytes], path: str) -> Iterator[tuple[str, np.ndarray]]:
    try:
        count, width = map(int, content.readline().split())
    except ValueError as error:
        raise DataError(f"{path}: expected word2vec's binary form, which starts with two counts") from error
    for _ in range(count):
        word = b""
        while (byte := content.read(1)) not in (b" ", b""):
            word += byte
        raw = content.read(4 * width)
        if len(raw) < 4 * width:
            raise DataError(f"{path}: ends in the middle of a vector; the file is cut off")
        yield word.decode("utf-8", "replace").lstrip("\n"), np.frombuffer(raw, "<f4").copy()

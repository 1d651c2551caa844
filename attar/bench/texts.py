"""The texts of a benchmark."""

import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from attar.data.readers import read_texts
from attar.data.sample_reviews import sample_path
from attar.data.task import Task
from attar.errors import ConfigError, DataError
from attar.records import PREDICTIONS_FILE, read_manifest

#: As many texts as any measurement uses.
_MOST = 4000


def bench_texts(bundle: str, data: str | None, lengths: str | None) -> tuple[list[Any], list[str] | None, str]:
    """Return texts, second texts for a task of pairs, and a sentence on where they are from.

    Args:
        bundle: whose task says what a text is: a string, a pair, or a list of words; its own texts are taken where
            neither data nor lengths are given.
        data: the user's file.
        lengths: words a text, such as ``12`` or ``8,16,64``; texts of these lengths are cut out of the bundled film
            reviews in turn.

    Raises:
        ConfigError: for both, or a profile that cannot be read.
        DataError: where there are no texts.
    """
    if data and lengths:
        raise ConfigError("attar bench expects --data FILE or --lengths PROFILE; found both")
    manifest = read_manifest(bundle)
    task = Task.from_dict(manifest["task"]) if manifest else None
    words = task is not None and task.kind == "token"
    if lengths:
        first, second = (_cut(_parse(lengths), start, words) for start in (0, 7))
        return first, second if task and task.pair else None, f"{len(first):,} texts of {lengths} words"
    if data:
        return _of_file(data, task)
    file = Path(bundle) / PREDICTIONS_FILE
    if not file.exists():
        raise DataError(f"{bundle} keeps no texts to measure with; give some: --data FILE, or --lengths 16,64")
    kept = pq.read_table(file).slice(0, _MOST).to_pydict()
    texts = kept["text"]
    return texts, kept["pair"] if task and task.pair else None, f"{len(texts):,} texts kept with {bundle}"


def _of_file(data: str, task: Task | None) -> tuple[list[Any], list[str] | None, str]:
    rows = read_texts(data)
    rows = rows.select(range(min(len(rows), _MOST)))
    names = rows.column_names
    text = task.text if task is not None and task.text in names else "text"
    for name in [text, *([task.pair] if task is not None and task.pair else [])]:
        if name not in names:
            raise DataError(f"{data}: expected a column {name!r}; found {', '.join(names)}")
    pairs = rows[task.pair][:] if task is not None and task.pair else None
    return rows[text][:], pairs, f"{len(rows):,} texts of {data}"


def _parse(profile: str) -> list[int]:
    found = re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", profile.replace(" ", ""))
    if found is None:
        raise ConfigError(f"--lengths expects words a text, such as 12 or 8,16,64; found {profile!r}")
    return [int(part) for part in found[0].split(",")]


def _cut(lengths: list[int], start: int, as_words: bool) -> list[Any]:
    words = " ".join(read_texts(str(sample_path() / "test.csv.gz"))["text"]).split()
    texts: list[Any] = []
    for i in range(2000):
        n = lengths[i % len(lengths)]
        some = [words[(start + k) % len(words)] for k in range(n)]
        start += n
        texts.append(some if as_words else " ".join(some))
    return texts

"""The folder of a comparison: one process at a time, and what came of every run so far."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attar.errors import BundleError
from attar.records import write_json, write_text

#: Seconds until the run of a killed comparison has noticed that it is alone.
_PATIENCE = 20.0


@contextmanager
def sole_user(folder: Path, *, resume: bool) -> Iterator[int]:
    """Hold the folder; yield the descriptor of the lock, for the runs to inherit.

    Raises:
        BundleError: where something is in the way, or another comparison is at work in the folder.
    """
    if folder.is_file() or (folder.exists() and any(folder.iterdir()) and not resume):
        raise BundleError(f"{folder} exists already; --resume continues a comparison, or choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
    try:
        _lock(lock, folder)
        yield lock
    finally:
        os.close(lock)


def write_outcome(folder: Path, name: str, outcome: dict[str, Any]) -> None:
    """Keep what came of a run: its status, seconds and error."""
    (folder / "outcomes").mkdir(exist_ok=True)
    write_json(outcome, folder / "outcomes" / f"{name}.json")


def read_outcome(folder: Path, name: str) -> dict[str, Any] | None:
    """Return what came of a run; None where it never ended."""
    file = folder / "outcomes" / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def write_recipe(folder: Path, name: str, recipe: str) -> Path:
    """Write a run's recipe and return its file."""
    (folder / "recipes").mkdir(exist_ok=True)
    file = folder / "recipes" / f"{name}.toml"
    write_text(recipe, file)
    return file


def _lock(lock: int, folder: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise BundleError(f"another comparison is at work in {folder}; wait for it, or stop it") from error
            time.sleep(0.1)

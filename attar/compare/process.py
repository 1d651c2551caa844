"""One run in a process of its own, so that its crash stops no other."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

#: Lines of a log that are searched for the error.
_LAST = 40


def run_apart(recipe: Path, log: Path, *, limit: float | None, lock: int) -> dict[str, Any]:
    """Run a recipe to its end and return what came of it: ``status``, ``seconds`` and, where it failed, ``error``.

    Args:
        recipe: the run's TOML file.
        log: file that takes what the run says.
        limit: seconds after which the run is stopped; it can be resumed.
        lock: descriptor that the run keeps open as long as it lives.
    """
    log.parent.mkdir(exist_ok=True)
    start = time.monotonic()
    with log.open("ab") as said:
        begin = said.tell()  # before it, an earlier attempt speaks
        process = subprocess.Popen(_command(recipe), stdin=subprocess.PIPE, stdout=said, stderr=said, pass_fds=(lock,))
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            return {"status": "stopped", "seconds": round(time.monotonic() - start, 2)}
        finally:
            _end(process)
    seconds = round(time.monotonic() - start, 2)
    if code == 0:
        return {"status": "done", "seconds": seconds}
    return {"status": "failed", "seconds": seconds, "error": _error(code, log, begin)}


def _command(recipe: Path) -> list[str]:
    return [sys.executable, "-m", "attar.compare.child", str(recipe)]


def _end(process: subprocess.Popen) -> None:
    """Leave no process behind, whatever ended the wait."""
    if process.poll() is None:
        process.kill()
    assert process.stdin is not None
    process.stdin.close()
    process.wait()


def _error(code: int, log: Path, begin: int) -> str:
    """Return why a run failed, in one line."""
    if code < 0:
        name = signal.Signals(-code).name
        hint = "; out of memory, perhaps" if -code == signal.SIGKILL else ""
        return f"killed by {name}{hint}"
    with log.open("rb") as file:
        file.seek(max(begin, file.seek(0, os.SEEK_END) - 20_000))
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    told = [line.removeprefix("error: ") for line in lines[-_LAST:] if line.startswith("error: ")]
    return told[-1] if told else lines[-1] if lines else f"exit code {code}"

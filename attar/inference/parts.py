"""The work folder of an unfinished prediction: the job, and the parts that are done.

``OUT.work/`` holds ``job.json`` and a Parquet file for every finished window, whose name says which rows it has:
``000000000000-000000002048.parquet``. A part gets its name only when it is whole and on the disk, so a process may be
killed at any moment; the next one goes on after the last part.
"""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from attar.errors import BundleError
from attar.locks import WorkFolder
from attar.records import write_json

_JOB = "job.json"


class Parts(WorkFolder):
    """The finished parts of one output file.

    Args:
        out: the file that the job will leave.
        resume: go on with an interrupted job, where there is one.
        overwrite: replace what is at ``out`` in the end, and drop an interrupted job.

    Raises:
        BundleError: where something is in the way and neither flag says what to do. Nothing is written yet.
    """

    def __init__(self, out: Path, *, resume: bool = False, overwrite: bool = False) -> None:
        super().__init__(out.with_name(out.name + ".work"))
        self.out, self.resume = out, resume
        going_on = resume and self.folder.exists()
        if out.is_dir() or not out.parent.is_dir():
            what = "a folder" if out.is_dir() else f"no folder {out.parent}"
            raise BundleError(f"--out expects the name of a file to write; found {what}: {out}")
        if out.exists() and not overwrite and not going_on:
            raise BundleError(f"{out} exists already; choose another --out, or --overwrite to replace it")
        if self.folder.exists() and not resume and not overwrite:
            raise BundleError(
                f"{self.folder} holds an interrupted prediction; --resume continues it, --overwrite starts anew"
            )

    def start(self, job: dict[str, Any]) -> None:
        """Make the folder, or check that the one that is there has the same job.

        Raises:
            BundleError: where an interrupted job was started with another bundle, input or settings, or another process
                is at work in the folder.
        """
        self.take(empty=not self.resume)
        file = self.folder / _JOB
        if file.exists():
            self._same_job(json.loads(file.read_text(encoding="utf-8")), job)
        write_json(job, file)

    def _same_job(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        changed = [name for name in now if before.get(name) != now[name]]
        if changed:
            shown = "; ".join(f"{name}: before {before.get(name)!r}, now {now[name]!r}" for name in changed[:3])
            raise BundleError(
                f"{self.folder} was started with another {' and another '.join(changed)} ({shown}); "
                "use the same to --resume, or --overwrite to start anew"
            )

    def files(self) -> list[Path]:
        """Return the finished parts in order, up to the first gap."""
        found: list[Path] = []
        end = 0
        for file in sorted(self.folder.glob("[0-9]*.parquet")):
            start, stop = map(int, file.stem.split("-"))
            if start != end:
                break
            found.append(file)
            end = stop
        return found

    @property
    def done(self) -> int:
        """Rows in finished parts."""
        files = self.files()
        return int(files[-1].stem.split("-")[1]) if files else 0

    def add(self, start: int, table: pa.Table) -> None:
        """Keep the rows from number ``start`` on: written under another name, put on the disk, and moved.

        Raises:
            BundleError: where the disk is full or cannot be written.
        """
        temporary = self.folder / f".{start}.{os.getpid()}.tmp"
        try:
            with temporary.open("wb") as file:
                pq.write_table(table, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.folder / f"{start:012d}-{start + len(table):012d}.parquet")
        except OSError as error:
            reason = error.strerror or error
            raise BundleError(f"cannot write to {self.folder}: {reason}; free some space, then --resume") from error

    def finish(self, whole: Path) -> None:
        """Move the assembled file into place and delete the folder."""
        whole.replace(self.out)
        self.delete()

    def discard_empty(self) -> None:
        """Delete the folder where no part of it is done: bad input leaves nothing behind."""
        if self.folder.exists() and not self.files():
            self.delete()

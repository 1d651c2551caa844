"""One process at a time in a work folder."""

import logging
import shutil
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from attar.errors import BundleError

log = logging.getLogger("attar")

_FILE = ".lock"


class WorkFolder:
    """The folder of an unfinished job, held by one process; leaving a ``with`` gives it up, and so does any end of it.

    Args:
        folder: need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = FileLock(folder / _FILE)

    def take(self, *, empty: bool) -> None:
        """Make the folder where there is none, and hold it.

        Args:
            empty: delete what is in it.

        Raises:
            BundleError: where another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise BundleError(f"another process is at work in {self.folder}; wait for it, or stop it") from error
        except (NotImplementedError, OSError) as error:
            log.warning("%s cannot be locked (%s): start no second process on it", self.folder, error)
        if empty:
            for path in self.folder.iterdir():
                if path.name != _FILE:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def delete(self) -> None:
        """Give the folder up and delete it; an open file in it would keep it alive on a network's file system."""
        self._lock.release()
        shutil.rmtree(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

"""One process at a time in a work folder."""

import shutil
from pathlib import Path

from filelock import FileLock, Timeout

from attar.errors import BundleError

_FILE = ".lock"


def take_folder(folder: Path, *, empty: bool) -> FileLock:
    """Make a folder where there is none and hold it until the lock is dropped, or the process ends, however it ends.

    Args:
        folder: of an unfinished job.
        empty: delete what is in it.

    Raises:
        BundleError: where another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _FILE)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise BundleError(f"another process is at work in {folder}; wait for it, or stop it") from error
    except NotImplementedError:
        pass  # a file system without locks
    if empty:
        for path in folder.iterdir():
            if path.name != _FILE:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    return lock

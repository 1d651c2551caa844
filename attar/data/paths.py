"""Where attar keeps what it can make again."""

import os
from pathlib import Path


def cache_root() -> Path:
    """Return the cache folder: ``ATTAR_CACHE`` where that is set, else ``~/.cache/attar``. It may not exist yet."""
    return Path(os.environ.get("ATTAR_CACHE") or "~/.cache/attar").expanduser()

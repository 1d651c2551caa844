"""One run of a comparison, in a process of its own: ``python -m attar.compare.child RECIPE``.

The process lives no longer than the one that started it, even where that is killed: its stdin is a pipe from there,
and ends with it. Nobody then trains in a folder that the next comparison resumes.
"""

import logging
import os
import sys
import threading

from attar.errors import AttarError


def main() -> None:
    """Run the recipe; exit 2 with one line for what the user can mend."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    logging.getLogger("attar").setLevel(logging.INFO)

    from transformers.utils.logging import disable_progress_bar

    from attar.config import RunConfig, read_toml
    from attar.recipe import config_of
    from attar.runner import run

    disable_progress_bar()
    try:
        config = config_of(read_toml(sys.argv[1]))
        assert isinstance(config, RunConfig)
        run(config, resume=True)
    except AttarError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)


def _end_with_parent() -> None:
    # Not by sys.stdin: a thread that holds its lock aborts the interpreter when that ends.
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()

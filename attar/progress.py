"""Progress on stderr, with an estimate of the time left, for everything that takes more than a moment."""

import sys

from tqdm import tqdm

from attar.process_group import is_main


def progress(title: str, total: int, *, unit: str = "it", initial: int = 0) -> tqdm:
    """Return a tqdm bar on stderr; silent on every process but the first of a distributed run.

    Where stderr is a file or a pipe, a new state is written every 15 seconds instead of ten times a second.
    """
    terminal = sys.stderr.isatty()
    return tqdm(
        desc=title,
        total=total,
        initial=initial,
        unit=unit,
        file=sys.stderr,
        disable=not is_main(),
        mininterval=0.1 if terminal else 15,
        leave=terminal,
        dynamic_ncols=terminal,
    )

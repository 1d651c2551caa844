"""Every error that attar raises on purpose.

The message is for the person who runs the command. It says what was expected, what was found
(file, row, column, name) and what to do next, in one line. The command line prints it and exits
with code 2; anything else that escapes is a bug and keeps its traceback.
"""

import difflib
from collections.abc import Iterable
from typing import Any


class AttarError(Exception):
    """Base of all errors that a user can mend."""


class ConfigError(AttarError):
    """A setting is unknown, malformed, or contradicts another."""


class DataError(AttarError):
    """A data file is missing, malformed, or does not fit the task."""


class ModelError(AttarError):
    """A model cannot be loaded or does not fit what is asked of it."""


class CacheError(AttarError):
    """The signal cache cannot be read or written."""


class BundleError(AttarError):
    """A finished model on disk is incomplete, or an output folder is in the way."""


class QualityError(AttarError):
    """An exported model is worse than its source by more than the tolerance. ``report`` says what was tried."""

    def __init__(self, message: str, report: dict[str, Any]) -> None:
        super().__init__(message)
        self.report = report


class MissingExtra(AttarError):
    """An optional dependency is needed and not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs the package {package!r}; install it with: pip install 'attar[{extra}]'")


def nearest(name: str, names: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the closest of ``names``, or an empty string."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""

"""What the server answers where it does not answer the question: a status and one line."""

from collections.abc import Mapping

from attar.errors import AttarError


class Refusal(AttarError):
    """A request that gets a 4xx or 5xx with a message of one line, and why.

    Args:
        status: HTTP status.
        message: what was expected, what was found, what to do. Never a client's text.
        headers: more headers of the answer.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})

"""Bearer tokens: read from a file or the environment, compared in constant time."""

import hmac
import os
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request

from attar.errors import ConfigError
from attar.serving.refusal import Refusal


@dataclass(frozen=True, kw_only=True, repr=False)
class Tokens:
    """What clients have to show. Without ``user`` everybody may predict; without ``admin`` nobody may change tasks."""

    user: bytes | None = None
    admin: bytes | None = None

    def check_user(self, request: Request) -> None:
        """Raise a Refusal (401) unless the request shows one of the tokens, or none is needed."""
        if self.user is not None:
            _check(request, [token for token in (self.user, self.admin) if token])

    def check_admin(self, request: Request) -> None:
        """Raise a Refusal: 403 where the server has no admin token, 401 unless the request shows it."""
        if self.admin is None:
            raise Refusal(403, "this server was started without an admin token, so its tasks cannot be changed")
        _check(request, [self.admin])


def read_token(file: str | None, variable: str) -> bytes | None:
    """Return a token from a file, or else from an environment variable; None where neither is given.

    Never from a flag: other users of the machine see those.

    Raises:
        ConfigError: for a file that cannot be read, and a token that is empty or holds white space.
    """
    if file is not None:
        try:
            token, source = Path(file).read_bytes().strip(), file
        except OSError as error:
            raise ConfigError(f"expected a file with a token; {file} cannot be read ({error.strerror})") from error
    elif variable in os.environ:
        token, source = os.environ[variable].encode().strip(), variable
    else:
        return None
    if not token or token.split() != [token]:
        raise ConfigError(f"expected one token without white space in {source}")
    return token


def _check(request: Request, tokens: list[bytes]) -> None:
    given = next((value for name, value in request.scope["headers"] if name == b"authorization"), b"")
    scheme, _, shown = given.partition(b" ")
    # Every token is compared, so that the time says nothing about which one was nearly right.
    matches = [hmac.compare_digest(shown.strip(), token) for token in tokens]
    if scheme.lower() != b"bearer" or not any(matches):
        found = "another one" if given else "none"
        raise Refusal(
            401,
            f"expected the header Authorization: Bearer with this server's token; found {found}",
            {"WWW-Authenticate": "Bearer"},
        )

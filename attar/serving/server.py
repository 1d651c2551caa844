"""Run the application until it is told to stop, and then finish what was accepted."""

import math
import socket
import time
from types import FrameType

import uvicorn

from attar.errors import ConfigError
from attar.serving.app import create_app
from attar.serving.logs import LOG, log_as_json
from attar.serving.models import Models
from attar.serving.settings import ServeConfig
from attar.serving.tokens import Tokens

#: Seconds between the signal to stop and the closing of the door. Meanwhile every answer carries ``Connection: close``,
#: so that clients with an open connection leave it after an answer, and not in the middle of their next request.
_DRAIN = 1.0
#: Open connections beyond which more are turned away with 503; below the usual limit of open files.
_CONNECTIONS = 900


def serve(models: Models, config: ServeConfig, tokens: Tokens, *, host: str, port: int) -> None:
    """Answer requests until SIGTERM or SIGINT, then finish what was accepted and return.

    Args:
        models: what to serve.
        config: limits.
        tokens: what clients have to show.
        host: address to bind to.
        port: port to bind to; 0 takes a free one, which the log names.

    Raises:
        ConfigError: where the address cannot be bound.
    """
    door = _bind(host, port)
    log_as_json()
    app = create_app(models, config, tokens)
    own = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        loop="auto",
        timeout_keep_alive=75,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=math.ceil(config.timeout) + 5,
    )
    address, port = door.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    LOG.info("serving", extra={"fields": {"url": f"http://{shown}:{port}", "tasks": len(models.names)}})
    if tokens.user is None and not _loopback(address):
        LOG.warning("anybody who reaches this address may predict; set a token, or bind to 127.0.0.1")
    _Server(own).run(sockets=[door])
    LOG.info("stopped")


class _Server(uvicorn.Server):
    """Goes on for a moment after the signal; a second signal ends it at once."""

    _end = math.inf

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note a signal. Not passed on to be raised again: a server that was told to stop, and did, exits with 0."""
        if self._end < math.inf:
            self.should_exit = self.force_exit = True
            return
        self.config.app.state.service.draining = True  # type: ignore[union-attr]
        self._end = time.monotonic() + _DRAIN

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop taking connections."""
        return await super().on_tick(counter) or time.monotonic() >= self._end


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot listen on {host} port {port} ({reason}); choose another --host or --port") from error


def _loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"

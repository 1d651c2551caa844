"""Around every request: an id, headers, a log line, metrics, and an answer where something broke."""

import json
import secrets
import time
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from attar.serving.logs import LOG, error_fields

if TYPE_CHECKING:
    from attar.serving.app import Service

_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_BROKEN = json.dumps({"error": "the server failed on this request; its log says where"}).encode()


def observed(app: ASGIApp, service: "Service") -> ASGIApp:
    """Return the application with the above around it."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        identity, started, status = secrets.token_hex(8), time.monotonic(), 0
        scope["noted"] = {}

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_headers(message["headers"], identity, service)]
            await send(message)

        service.running += 1
        try:
            await app(scope, receive, send_marked)
        except Exception as error:
            LOG.error("a request failed", extra={"fields": {"id": identity, **error_fields(error)}})
            if not status:
                await _send_broken(send_marked)
        finally:
            service.running -= 1
            _note(service, scope, identity, status, time.monotonic() - started)

    return call


def _headers(present: list[tuple[bytes, bytes]], identity: str, service: "Service") -> list[tuple[bytes, bytes]]:
    names = {name.lower() for name, _ in present}
    own = [*_HEADERS, (b"x-request-id", identity.encode())]
    if b"cache-control" not in names:
        own.append((b"cache-control", b"no-store"))
    if service.draining and b"connection" not in names:  # so that the client comes back to another server
        own.append((b"connection", b"close"))
    return own


async def _send_broken(send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(_BROKEN)).encode())]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": _BROKEN})


def _note(service: "Service", scope: Scope, identity: str, status: int, seconds: float) -> None:
    """Log and count. The route stands for the path: a path that leads nowhere may hold anything, a text for one."""
    route = getattr(scope.get("route"), "path", None) or "elsewhere"
    fields: dict[str, Any] = {"id": identity, "method": scope["method"][:16], "route": route, "status": status}
    fields |= {"milliseconds": round(1000 * seconds, 3), **scope["noted"]}
    LOG.info("request", extra={"fields": fields})
    service.metrics.requests.labels(route, str(status)).inc()
    service.metrics.request_seconds.labels(route).observe(seconds)

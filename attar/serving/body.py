"""Read and check what clients send: bytes within limits, JSON, and then the rows that it asks for."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from pydantic_core import from_json
from starlette.requests import Request

from attar.data.task import Task
from attar.serving.batcher import Row
from attar.serving.models import Models
from attar.serving.refusal import Refusal
from attar.serving.settings import ServeConfig
from attar.sizes import show_size

#: Longest name of a task or a folder.
MAX_NAME = 100
#: Seconds for which the rest of a body that is refused is read and thrown away.
_PATIENCE = 2.0


class Bodies:
    """Reads bodies, and bounds how many bytes of them are held at once, over all requests.

    Args:
        config: the limits.
    """

    def __init__(self, config: ServeConfig) -> None:
        self._config = config
        self._held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[dict[str, Any]]:
        """Yield the JSON object of a request's body; its bytes count as held until the end.

        Raises:
            Refusal: 400, 413, 415, 422 or 429, as the message says.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # also what keeps foreign web pages from posting here unasked
            raise Refusal(415, f"expected the header Content-Type: application/json; found {kind[:80]!r}")
        body = bytearray()
        try:
            await self._collect(request, body)
            yield _object(bytes(body))
        finally:
            self._held -= len(body)

    async def _collect(self, request: Request, body: bytearray) -> None:
        declared, more = request.headers.get("content-length", ""), True
        try:
            if declared.isdecimal():
                self._check_size(int(declared[:20]))
            while more:
                chunk, more = await _receive(request)
                body += chunk
                self._held += len(chunk)
                self._check(len(body))
        except Refusal as refusal:
            if more and refusal.status != 499 and "expect" not in request.headers:
                await _discard(request, 4 * self._config.max_body)
            raise

    def _check(self, size: int) -> None:
        self._check_size(size)
        if self._held > self._config.max_held:
            raise Refusal(429, "too many large requests at once; try again in a second", {"Retry-After": "1"})

    def _check_size(self, size: int) -> None:
        limit = self._config.max_body
        if size > limit:
            raise Refusal(
                413,
                f"expected a body of at most {limit} bytes ({show_size(limit)}); send fewer texts a request",
                {"Connection": "close"},
            )


async def _receive(request: Request) -> tuple[bytes, bool]:
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise Refusal(499, "the client left before its body was complete")
    return message.get("body", b""), message.get("more_body", False)


async def _discard(request: Request, most: int) -> None:
    """Read on for a little: a client that still sends when the connection is closed does not see why."""
    with suppress(TimeoutError, Refusal):
        async with asyncio.timeout(_PATIENCE):
            more = True
            while more and most > 0:
                chunk, more = await _receive(request)
                most -= len(chunk)


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Refusal(400, f"the body is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise Refusal(422, f"expected a JSON object, found {_kind(found)}")
    return found


def parse_predict(body: dict[str, Any], models: Models, config: ServeConfig) -> tuple[list[str], list[Row]]:
    """Return the tasks that a request asks and its rows: for each task every text, in order.

    Raises:
        Refusal: 404 for an unknown task, 422 for everything else, with the place in the request.
    """
    _known_keys(body, ("texts", "pairs", "tasks"))
    texts = _listed(body, "texts")
    pairs = None if body.get("pairs") is None else _listed(body, "pairs")
    names = _names(body, models)
    n = len(texts) * len(names)
    if n > config.max_texts:
        times = f" times {len(names)} tasks" if len(names) > 1 else ""
        raise Refusal(422, f"expected at most {config.max_texts} texts a request, found {len(texts)}{times}")
    if pairs is not None and len(pairs) != len(texts):
        raise Refusal(422, f"expected as many pairs as texts, found {len(pairs)} and {len(texts)}")
    for i, text in enumerate(texts):
        _check_text(text, f"texts[{i}]", config.max_characters)
    for i, pair in enumerate(pairs or []):
        if not isinstance(pair, str):
            raise Refusal(422, f"pairs[{i}]: expected a string, found {_kind(pair)}")
        _check_text(pair, f"pairs[{i}]", config.max_characters)
    return names, [row for name in names for row in _rows(name, models.task(name), texts, pairs)]


def parse_delta(body: dict[str, Any]) -> tuple[str, str]:
    """Return the name and the folder of a delta to add; raises Refusal as :func:`parse_predict`."""
    _known_keys(body, ("name", "delta"))
    name = body.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable() or "/" in name:
        raise Refusal(422, f"name: expected 1 to {MAX_NAME} printable characters without '/'")
    delta = name if body.get("delta") is None else body["delta"]
    if not isinstance(delta, str) or not 0 < len(delta) <= MAX_NAME or not delta.isprintable():
        raise Refusal(422, f"delta: expected the name of a folder of at most {MAX_NAME} characters")
    return name, delta


def _known_keys(body: dict[str, Any], known: tuple[str, ...]) -> None:
    strange = next((key for key in body if key not in known), None)
    if strange is not None:
        raise Refusal(422, f"expected the keys {', '.join(known)}; found {strange[:80]!r}")


def _listed(body: dict[str, Any], key: str) -> list[Any]:
    if key not in body:
        raise Refusal(422, f"{key}: expected a string or a list of strings; the key is missing")
    value = body[key]
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise Refusal(422, f"{key}: expected a string or a list of strings, found {_kind(value)}")
    if not value:
        raise Refusal(422, f"{key}: expected at least one, found an empty list")
    return value


def _names(body: dict[str, Any], models: Models) -> list[str]:
    if body.get("tasks") is None:
        if len(models.names) == 1:
            return [*models.names]
        raise Refusal(422, f"tasks: expected one or several of the {len(models.names)} that GET /v1/tasks lists")
    names = _listed(body, "tasks")
    for i, name in enumerate(names):
        if not isinstance(name, str):
            raise Refusal(422, f"tasks[{i}]: expected a name, found {_kind(name)}")
        models.task(name)
    if len(set(names)) < len(names):
        raise Refusal(422, "tasks: expected each task once")
    return names


def _check_text(text: Any, where: str, limit: int) -> None:
    if isinstance(text, list):
        for i, word in enumerate(text):
            if not isinstance(word, str):
                raise Refusal(422, f"{where}[{i}]: expected a word, found {_kind(word)}")
    elif not isinstance(text, str):
        raise Refusal(422, f"{where}: expected a string (or a list of words), found {_kind(text)}")
    words = text if isinstance(text, list) else [text]
    if not words or not all(word.strip() for word in words):
        raise Refusal(422, f"{where}: expected a text, found an empty one")
    size = sum(map(len, words))
    if size > limit:
        raise Refusal(422, f"{where}: expected at most {limit} characters a text, found {size}")
    if any("\0" in word for word in words):
        raise Refusal(422, f"{where}: expected a text without NUL characters")


def _rows(name: str, task: Task, texts: list[Any], pairs: list[Any] | None) -> Iterator[Row]:
    if task.pair is not None and pairs is None:
        raise Refusal(422, f"the task {name!r} labels pairs of texts; give the second texts as pairs")
    if task.kind == "token" and pairs is not None:
        raise Refusal(422, f"the task {name!r} labels words of single texts; leave out pairs")
    for i, text in enumerate(texts):
        if task.kind == "token":
            yield name, text.split() if isinstance(text, str) else text, None
        elif isinstance(text, str):
            yield name, text, pairs[i] if pairs is not None else None
        else:
            raise Refusal(422, f"texts[{i}]: the task {name!r} expects a string, found a list of words")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "a string", list: "a list"}
    return kinds.get(type(value), "an object")

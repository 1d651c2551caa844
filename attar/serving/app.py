"""The HTTP application: what every address answers."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from attar.errors import AttarError
from attar.inference.predictor import Prediction
from attar.serving.answering import answer
from attar.serving.batcher import Answer, Batcher, Outcome, QueueFull
from attar.serving.body import Bodies, parse_delta, parse_predict
from attar.serving.logs import LOG, error_fields
from attar.serving.metrics import Metrics
from attar.serving.models import Models
from attar.serving.observing import observed
from attar.serving.openapi import describe
from attar.serving.page import add_page
from attar.serving.refusal import Refusal
from attar.serving.settings import ServeConfig
from attar.serving.tokens import Tokens


@dataclass
class Service:
    """What the routes of one application share."""

    models: Models
    config: ServeConfig
    tokens: Tokens
    batcher: Batcher
    bodies: Bodies
    metrics: Metrics = field(default_factory=Metrics)
    running: int = 0
    draining: bool = False


def create_app(models: Models, config: ServeConfig | None = None, tokens: Tokens | None = None) -> FastAPI:
    """Return the application over loaded models; ``app.state.service`` is its :class:`Service`.

    The thread that runs the models starts and ends with the application's lifespan.
    """
    config, tokens, metrics = config or ServeConfig(), tokens or Tokens(), Metrics()
    batcher = Batcher(models.score, batch=config.batch, wait=config.wait, queue=config.queue, observe=metrics.batch)
    service = Service(models, config, tokens, batcher, Bodies(config), metrics)
    metrics.watch(lambda: batcher.queued, lambda: service.running)
    app = FastAPI(docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=partial(_lifespan, batcher=batcher))
    app.state.service = service
    app.add_middleware(observed, service=service)
    app.add_exception_handler(AttarError, _refused)
    app.add_exception_handler(HTTPException, _not_here)
    app.openapi = lambda: describe(config, tokens)  # type: ignore[method-assign]
    _add_routes(app, service)
    add_page(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI, *, batcher: Batcher) -> AsyncIterator[None]:
    batcher.start()
    yield
    await asyncio.to_thread(batcher.close)


def _add_routes(app: FastAPI, service: Service) -> None:
    models, tokens = service.models, service.tokens

    @app.post("/v1/predict")
    async def predict(request: Request) -> Response:
        tokens.check_user(request)
        return await _predict(request, service)

    @app.get("/v1/tasks")
    async def tasks(request: Request) -> Response:
        tokens.check_user(request)
        return json_response({"tasks": models.table(), "change": tokens.admin is not None})

    @app.post("/v1/tasks")
    async def add_task(request: Request) -> Response:
        tokens.check_admin(request)
        async with asyncio.timeout(service.config.timeout), service.bodies.read(request) as body:
            name, delta = parse_delta(body)
        row = await _on_thread(service, partial(models.add, name, delta))
        LOG.info("task added", extra={"fields": {"task": name, "delta": delta}})
        return json_response(row, 201)

    @app.delete("/v1/tasks/{name}")
    async def remove_task(request: Request) -> Response:
        tokens.check_admin(request)
        name = request.path_params["name"]
        await _on_thread(service, partial(models.remove, name))
        service.metrics.forget(name)
        LOG.info("task removed", extra={"fields": {"task": name}})
        return json_response({"removed": name})

    @app.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> Response:
        alive = service.batcher.alive
        return json_response({"status": "ok" if alive else "the models' thread has ended"}, 200 if alive else 503)

    @app.api_route("/ready", methods=["GET", "HEAD"])
    async def ready() -> Response:
        full = service.batcher.queued >= service.config.queue
        why = "stopping" if service.draining else "the queue is full" if full else None
        if not service.batcher.alive:
            why = "the models do not run"
        return json_response({"status": why or "ok"}, 503 if why else 200)

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        tokens.check_user(request)
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _predict(request: Request, service: Service) -> Response:
    """Read, check, queue, wait, answer; bytes, seconds and rows are all bounded."""
    end = asyncio.get_running_loop().time() + service.config.timeout
    try:
        async with asyncio.timeout_at(end), service.bodies.read(request) as body:
            names, rows = parse_predict(body, service.models, service.config)
            request.scope["noted"] |= {"tasks": names[:20], "texts": len(rows)}
            future = service.batcher.submit(rows)
            found = await answer(request, future)
    except QueueFull as full:
        raise Refusal(429, str(full), {"Retry-After": str(full.retry_after)}) from full
    except TimeoutError as late:
        message = f"not answered within {service.config.timeout:g} s; try again, or send fewer texts a request"
        raise Refusal(503, message, {"Retry-After": "1"}) from late
    _count(service.metrics, names, found)
    return _answer(names, found)


def _answer(names: Sequence[str], found: Answer) -> Response:
    n = len(found.outcomes) // len(names)
    predictions = {
        name: [_shown(outcome, name, i) for i, outcome in enumerate(found.outcomes[k * n : (k + 1) * n])]
        for k, name in enumerate(names)
    }
    spent = {"waited": round(1000 * found.waited, 3), "computed": round(1000 * found.computed, 3)}
    try:
        return json_response({"predictions": predictions, "milliseconds": spent})
    except ValueError as error:
        raise Refusal(500, "a model's output is not a finite number; check its weights") from error


def _shown(outcome: Outcome, name: str, i: int) -> dict[str, Any]:
    if isinstance(outcome, Prediction):
        return {"label": outcome.label, "confidence": outcome.confidence, "scores": outcome.scores}
    if isinstance(outcome, Refusal):
        raise outcome
    if isinstance(outcome, AttarError):
        raise Refusal(422, f"texts[{i}], task {name!r}: {outcome}") from outcome
    LOG.error("a model failed", extra={"fields": {"task": name, **error_fields(outcome)}})
    raise Refusal(500, f"texts[{i}]: the model {name!r} failed on it ({type(outcome).__name__})") from outcome


def _count(metrics: Metrics, names: Sequence[str], found: Answer) -> None:
    n = len(found.outcomes) // len(names)
    metrics.waited_seconds.observe(found.waited)
    for k, name in enumerate(names):
        some = found.outcomes[k * n : (k + 1) * n]
        good = sum(isinstance(outcome, Prediction) for outcome in some)
        refused = sum(isinstance(outcome, AttarError) for outcome in some)
        for outcome, count in (("ok", good), ("refused", refused), ("failed", n - good - refused)):
            if count:
                metrics.texts.labels(name, outcome).inc(count)


async def _on_thread(service: Service, function: partial) -> Any:
    """Change the models between two batches; not cut off by a timeout, which would leave the caller in doubt."""
    try:
        return await asyncio.wrap_future(service.batcher.call(function))
    except QueueFull as full:
        raise Refusal(503, "the server is stopping") from full


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return compact JSON.

    Raises:
        ValueError: for numbers that JSON does not have.
    """
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode(errors="replace"), status, headers, media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:
    status, headers = (error.status, error.headers) if isinstance(error, Refusal) else (422, {})
    return json_response({"error": str(error)}, status, headers)


async def _not_here(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code != 405:
        return json_response({"error": "there is nothing at this address; see /openapi.json"}, error.status_code)
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    allowed = ", ".join(sorted({method for route in routes for method in route.methods}))
    return json_response({"error": f"expected one of the methods {allowed}"}, 405, {"Allow": allowed})

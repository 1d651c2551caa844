"""Whatever a client sends, the server answers as its description says, and goes on."""

import asyncio
import contextlib
import json

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from attar.data.task import Task
from attar.inference.predictor import Prediction
from attar.serving.app import create_app
from attar.serving.models import Models
from attar.serving.settings import ServeConfig
from attar.serving.tokens import Tokens

CONFIG = ServeConfig(max_body=2**20, max_texts=8, max_characters=200, wait=0.0)


class Fake:
    def __init__(self, kind="single-label", pair=None):
        self.task = Task(kind=kind, text="text", pair=pair, label=("label",), labels=("neg", "pos"))

    def predict(self, texts, pairs=None):
        "".join(" ".join(text) if isinstance(text, list) else text for text in texts).encode()
        return [Prediction("pos", 0.75, {"neg": 0.25, "pos": 0.75}) for _ in texts]


def application():
    models = Models({"tone": Fake(), "names": Fake("token"), "entails": Fake(pair="second")})
    return create_app(models, CONFIG, Tokens(admin=b"boss"))


def send(requests):
    """Send requests to one application; return (status, answer) of each, a good one last."""

    async def work():
        app = application()
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                good = ("POST", "/v1/predict", b'{"texts": "a", "tasks": "tone"}')
                headers = {"content-type": "application/json"}
                found = [await client.request(m, p, content=b, headers=headers) for m, p, b in [*requests, good]]
                return [(answer.status_code, answer) for answer in found]

    return asyncio.run(work())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["tone", "names", "\ud800"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
BODIES = st.fixed_dictionaries({}, optional=dict.fromkeys(("texts", "pairs", "tasks", "more"), VALUES))


def bytes_of(value):
    return json.dumps(value).encode()


def check(bodies):
    *found, (last, _) = send([("POST", "/v1/predict", body) for body in bodies])
    assert last == 200
    for status, answer in found:
        assert status in (200, 400, 404, 413, 422)
        if status != 200:
            assert isinstance(answer.json()["error"], str)


QUICK = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@QUICK
@given(st.lists(BODIES.map(bytes_of), min_size=1, max_size=10))
def test_any_json_gets_an_answer_or_a_reason(bodies):
    check(bodies)


@QUICK
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=10))
def test_any_bytes_get_a_reason(bodies):
    check(bodies)


def from_the_description(examples, mode):
    """Send what schemathesis makes of the server's own description to the application in process."""
    import schemathesis
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    app = application()
    # Schemathesis enters and leaves the lifespan around each request; the models' thread starts but once.
    app.router.lifespan_context = lambda app: contextlib.nullcontext()
    app.state.service.batcher.start()
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    for operation in (result.ok() for result in schema.get_all_operations()):
        if mode is GenerationMode.NEGATIVE and not (list(operation.body) or list(operation.path_parameters)):
            continue  # nothing of it can be malformed

        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        @given(case=operation.as_strategy(generation_mode=mode))
        def send_one(case):
            # How many pairs there must be is more than a JSON schema can say: some described requests are refused.
            headers = {"Authorization": "Bearer boss"} if case.path.startswith("/v1/tasks") else {}
            answer = case.call_and_validate(headers=headers, excluded_checks=[positive_data_acceptance])
            assert answer.status_code < 500

        send_one()
    assert app.state.service.batcher.alive
    app.state.service.batcher.close()


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_the_description_is_kept(mode):
    from_the_description(5, mode)


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_the_description_is_kept_by_many_requests(mode):
    from_the_description(300, mode)


@pytest.mark.slow
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(BODIES.map(bytes_of) | st.binary(max_size=500), min_size=1, max_size=20))
def test_many_bodies_get_an_answer_or_a_reason(bodies):
    check(bodies)

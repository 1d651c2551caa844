"""The HTTP API in process: answers, refusals with a message, tokens, tasks that come and go, nothing held for ever."""

import asyncio
import json
import logging
import threading
from contextlib import asynccontextmanager

import httpx
import pytest

from attar.data.task import Task
from attar.errors import ConfigError, DataError
from attar.inference.predictor import Prediction
from attar.serving.app import create_app
from attar.serving.logs import JsonFormatter
from attar.serving.models import Models, open_models
from attar.serving.settings import ServeConfig
from attar.serving.tokens import Tokens, read_token

JSON = {"content-type": "application/json"}
SECRET = "a text that nobody but its model may see"


class Fake:
    """A model that says how long a text is, and fails on some."""

    def __init__(self, kind="single-label", pair=None):
        self.task = Task(kind=kind, text="text", pair=pair, label=("label",), labels=("short", "long"))
        self.batches, self.entered, self.leave = [], threading.Event(), threading.Event()
        self.leave.set()

    def predict(self, texts, pairs=None):
        self.batches.append(list(texts))
        self.entered.set()
        assert self.leave.wait(10)
        if "refused" in texts:
            raise DataError("not this one")
        if "broken" in texts:
            raise RuntimeError(f"quotes {texts}")
        value = float("nan") if texts[0] == "nan" else 0.75
        label = "long" if self.task.kind != "token" else None
        return [Prediction(label or ["x"] * len(text), value, {"short": 0.25, "long": 0.75}) for text in texts]


@asynccontextmanager
async def serving(models, config=None, tokens=None):
    """A client of an application that runs in this loop."""
    app = create_app(models, config, tokens)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            client.app = app
            yield client


def run(work, *, models=None, config=None, tokens=None):
    """Run ``work(client)`` against an application."""

    async def go():
        async with serving(models or Models({"a": Fake()}), config, tokens) as client:
            return await asyncio.wait_for(work(client), 20)

    return asyncio.run(go())


def post(body, *, path="/v1/predict", headers=JSON, **settings):
    """Post one body, bytes or what is made JSON, and return (status, answer, headers)."""

    async def work(client):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = await client.post(path, content=content, headers=headers)
        return answer.status_code, answer.json(), answer.headers

    return run(work, **settings)


def test_one_text_many_texts_one_task_many_tasks():
    models = Models({"a": Fake(), "b": Fake()})
    status, found, _ = post({"texts": "one", "tasks": "b"}, models=models)
    assert (status, list(found["predictions"])) == (200, ["b"])
    assert found["predictions"]["b"] == [{"label": "long", "confidence": 0.75, "scores": {"short": 0.25, "long": 0.75}}]
    assert found["milliseconds"].keys() == {"waited", "computed"}
    status, found, _ = post({"texts": ["one", "two"], "tasks": ["b", "a"]}, models=models)
    assert {name: len(rows) for name, rows in found["predictions"].items()} == {"b": 2, "a": 2}
    assert post({"texts": "one"})[0] == 200
    assert "tasks: expected one or several of the 2" in post({"texts": "one"}, models=models)[1]["error"]


def test_words_are_taken_as_they_are_and_strings_split_at_white_space():
    fake = Fake("token")
    post({"texts": ["anna met  bob", ["new york", "x"]]}, models=Models({"a": fake}))
    assert fake.batches == [[["anna", "met", "bob"], ["new york", "x"]]]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "not valid JSON"),
        (b"", 400, "not valid JSON"),
        (b"\xff\xfe", 400, "not valid JSON"),
        (b'{"texts": NaN}', 400, "not valid JSON"),
        (b'{"texts": [-Infinity]}', 400, "not valid JSON"),
        (b'{"texts": "\\ud800"}', 400, "not valid JSON"),
        (b'{"texts": "\\udc00 x"}', 400, "not valid JSON"),
        (b'{"texts": "\x00"}', 400, "not valid JSON"),
        (b"[" * 100_000, 400, "recursion limit"),
        (b'{"texts":' + b"[" * 1000 + b"]" * 1000 + b"}", 400, "recursion limit"),
        (b"9" * 5000, 400, "not valid JSON"),
        (b"[]", 422, "expected a JSON object, found a list"),
        (b"null", 422, "expected a JSON object, found null"),
        (b"{}", 422, "texts: expected a string or a list of strings; the key is missing"),
        (b'{"texts": []}', 422, "texts: expected at least one, found an empty list"),
        (b'{"texts": 1e999}', 422, "texts: expected a string or a list of strings, found a number"),
        (b'{"texts": {}}', 422, "found an object"),
        (b'{"texts": [true]}', 422, "texts[0]: expected a string (or a list of words), found true or false"),
        (b'{"texts": ["a", null]}', 422, "texts[1]: expected a string"),
        (b'{"texts": ["a", ""]}', 422, "texts[1]: expected a text, found an empty one"),
        (b'{"texts": " \\n"}', 422, "texts[0]: expected a text, found an empty one"),
        (b'{"texts": [[]]}', 422, "texts[0]: expected a text, found an empty one"),
        (b'{"texts": [["a", ["b"]]]}', 422, "texts[0][1]: expected a word, found a list"),
        (b'{"texts": [["a"]]}', 422, "the task 'a' expects a string, found a list of words"),
        (b'{"texts": "a\\u0000b"}', 422, "texts[0]: expected a text without NUL characters"),
        (b'{"texts": "a", "tasks": []}', 422, "tasks: expected at least one"),
        (b'{"texts": "a", "tasks": [1]}', 422, "tasks[0]: expected a name, found a number"),
        (b'{"texts": "a", "tasks": ["a", "a"]}', 422, "each task once"),
        (b'{"texts": "a", "tasks": "b\\u0000"}', 404, "no task is named 'b\\x00'"),
        (b'{"texts": "a", "pairs": ["a", "b"]}', 422, "expected as many pairs as texts, found 2 and 1"),
        (b'{"texts": "a", "pairs": [["a"]]}', 422, "pairs[0]: expected a string, found a list"),
        (b'{"text": "a"}', 422, "expected the keys texts, pairs, tasks; found 'text'"),
    ],
)
def test_malformed_requests_get_a_message_and_the_models_go_on(body, status, message):
    models = Models({"a": Fake()})

    async def work(client):
        answer = await client.post("/v1/predict", content=body, headers=JSON)
        after = await client.post("/v1/predict", content=b'{"texts": "a"}', headers=JSON)
        return answer, after

    answer, after = run(work, models=models)
    assert (answer.status_code, after.status_code) == (status, 200)
    assert message in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_limits_are_in_the_message():
    config = ServeConfig(max_body=500, max_texts=4, max_characters=30)
    assert post({"texts": ["a"] * 5}, config=config)[1]["error"].startswith(
        "expected at most 4 texts a request, found 5"
    )
    models = Models({"a": Fake(), "b": Fake()})
    status, found, _ = post({"texts": ["a"] * 3, "tasks": ["a", "b"]}, config=config, models=models)
    assert (status, found["error"]) == (422, "expected at most 4 texts a request, found 3 times 2 tasks")
    assert "at most 30 characters a text, found 31" in post({"texts": "x" * 31}, config=config)[1]["error"]
    status, found, headers = post({"texts": "x" * 600}, config=config)
    assert (status, headers["connection"]) == (413, "close")
    assert "at most 500 bytes" in found["error"]


def test_a_body_without_a_length_is_counted_as_it_comes_and_read_on_for_a_little():
    sent = 0

    async def endless():
        nonlocal sent
        while True:
            sent += 100
            yield b"x" * 100

    async def work(client):
        return await client.post("/v1/predict", content=endless(), headers=JSON)

    assert run(work, config=ServeConfig(max_body=1000)).status_code == 413
    assert sent <= 1100 + 4 * 1000 + 100


def test_bytes_held_over_all_requests_are_bounded_and_given_back():
    fake = Fake()
    fake.leave.clear()
    body = json.dumps({"texts": "x" * 80}).encode()

    async def work(client):
        asks = [asyncio.create_task(client.post("/v1/predict", content=body, headers=JSON)) for _ in range(60)]
        await asyncio.to_thread(fake.entered.wait, 10)
        while sum(task.done() for task in asks) + client.app.state.service.running < 60:
            await asyncio.sleep(0.01)
        fake.leave.set()
        codes = [answer.status_code for answer in await asyncio.gather(*asks)]
        again = await client.post("/v1/predict", content=body, headers=JSON)
        return codes, again.status_code, client.app.state.service.bodies._held

    codes, again, held = run(work, models=Models({"a": fake}), config=ServeConfig(max_body=100))
    assert codes.count(200) == 32 * 100 // len(body)
    assert codes.count(429) == 60 - codes.count(200)
    assert (again, held) == (200, 0)


def test_only_declared_json_is_read():
    assert post(b"{}", headers={"content-type": "text/plain"})[0] == 415
    assert post({"texts": "a"}, headers={"content-type": "application/json; charset=utf-8"})[0] == 200


def test_a_bad_text_fails_its_own_request_and_no_other_in_the_batch():
    fake = Fake()
    fake.leave.clear()

    async def work(client):
        ask = [client.post("/v1/predict", json={"texts": [text]}) for text in ("first", "a", "refused", "broken", "b")]
        tasks = [asyncio.create_task(one) for one in ask]
        await asyncio.to_thread(fake.entered.wait, 10)
        while client.app.state.service.batcher.queued + len(fake.batches[0]) < 5:  # however many the first batch took
            await asyncio.sleep(0.005)
        fake.leave.set()
        return await asyncio.gather(*tasks)

    answers = run(work, models=Models({"a": fake}), config=ServeConfig(wait=0.0))
    assert [answer.status_code for answer in answers] == [200, 200, 422, 500, 200]
    assert answers[2].json()["error"] == "texts[0], task 'a': not this one"
    assert answers[3].json()["error"] == "texts[0]: the model 'a' failed on it (RuntimeError)"
    assert max(len(batch) for batch in fake.batches) > 1


def test_a_value_that_json_does_not_have_is_said_to_be_the_models_fault():
    status, found, _ = post({"texts": "nan"})
    assert (status, found["error"]) == (500, "a model's output is not a finite number; check its weights")


def test_a_full_queue_is_429_and_not_ready():
    fake = Fake()
    fake.leave.clear()

    async def work(client):
        running = asyncio.create_task(client.post("/v1/predict", json={"texts": "a"}))
        await asyncio.to_thread(fake.entered.wait, 10)
        waiting = asyncio.create_task(client.post("/v1/predict", json={"texts": ["a", "b"]}))
        while client.app.state.service.batcher.queued < 2:
            await asyncio.sleep(0.005)
        full, ready = await client.post("/v1/predict", json={"texts": "a"}), await client.get("/ready")
        fake.leave.set()
        return full, ready, (await running).status_code, (await waiting).status_code, await client.get("/ready")

    full, ready, *done, after = run(work, models=Models({"a": fake}), config=ServeConfig(max_texts=2, queue=2))
    assert (full.status_code, ready.status_code, after.status_code) == (429, 503, 200)
    assert int(full.headers["retry-after"]) >= 1
    assert done == [200, 200]


def test_a_request_that_takes_too_long_is_given_up_and_leaves_the_queue():
    fake = Fake()
    fake.leave.clear()

    async def work(client):
        first = asyncio.create_task(client.post("/v1/predict", json={"texts": "first"}))
        await asyncio.to_thread(fake.entered.wait, 10)
        late = await client.post("/v1/predict", json={"texts": "late"})
        queued = client.app.state.service.batcher.queued
        fake.leave.set()
        return late, queued, (await first).status_code

    late, queued, first = run(work, models=Models({"a": fake}), config=ServeConfig(timeout=0.3))
    assert (late.status_code, queued, first) == (503, 0, 503)
    assert "not answered within 0.3 s" in late.json()["error"]
    assert not any("late" in batch for batch in fake.batches)


def test_the_work_of_a_client_that_leaves_is_dropped():
    fake = Fake()
    fake.leave.clear()
    body = {"type": "http.request", "body": b'{"texts": "left"}', "more_body": False}
    scope = {"type": "http", "method": "POST", "path": "/v1/predict", "query_string": b"", "http_version": "1.1"}
    scope |= {"headers": [(b"content-type", b"application/json")], "scheme": "http", "server": ("test", 80)}

    async def work(client):
        first = asyncio.create_task(client.post("/v1/predict", json={"texts": "first"}))
        await asyncio.to_thread(fake.entered.wait, 10)
        messages = [body, {"type": "http.disconnect"}]
        sent = []

        async def receive():
            return messages.pop(0) if messages else await asyncio.Event().wait()

        async def send(message):
            sent.append(message)

        await client.app(dict(scope), receive, send)
        queued = client.app.state.service.batcher.queued
        fake.leave.set()
        return (await first).status_code, sent[0]["status"], queued

    assert run(work, models=Models({"a": fake})) == (200, 499, 0)
    assert not any("left" in batch for batch in fake.batches)


def test_tokens_are_asked_for_where_there_are_any():
    tokens = Tokens(user=b"s3cret-\xc3\xa9", admin=b"boss")

    async def work(client):
        found = {}
        for given in (
            None,
            "Bearer wrong",
            b"Basic s3cret-\xc3\xa9",
            "Bearer ",
            b"Bearer s3cret-\xc3\xa9",
            "bearer boss",
        ):
            headers = {} if given is None else {"authorization": given}
            paths = ("/v1/tasks", "/metrics", "/health", "/ready", "/", "/openapi.json")
            found[given] = [(await client.get(path, headers=headers)).status_code for path in paths]
        refused = await client.post("/v1/predict", json={"texts": "a"})
        no_admin = await client.delete("/v1/tasks/a", headers={"authorization": b"Bearer s3cret-\xc3\xa9"})
        return found, refused, no_admin.status_code

    found, refused, no_admin = run(work, tokens=tokens)
    assert [codes[0] for codes in found.values()] == [401, 401, 401, 401, 200, 200]
    assert all(codes[0] == codes[1] and codes[2:] == [200] * 4 for codes in found.values())
    assert (refused.status_code, refused.headers["www-authenticate"], no_admin) == (401, "Bearer", 401)


def test_tokens_come_from_files_or_the_environment(tmp_path, monkeypatch):
    file = tmp_path / "token"
    file.write_text("abc\n")
    monkeypatch.setenv("ATTAR_TOKEN", " def ")
    assert read_token(str(file), "ATTAR_TOKEN") == b"abc"
    assert read_token(None, "ATTAR_TOKEN") == b"def"
    assert read_token(None, "ATTAR_NONE") is None
    assert "def" not in repr(Tokens(user=b"def"))
    file.write_text("")
    with pytest.raises(ConfigError, match="one token without white space"):
        read_token(str(file), "ATTAR_TOKEN")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_token(str(tmp_path / "none"), "ATTAR_TOKEN")


@pytest.fixture
def deltas(tmp_path, make_folder, save_delta):
    """A folder of deltas of one encoder, and one of another."""
    encoder = make_folder()
    made = {"tone": ("bitfit", "single-label"), "names": ("adapters", "token"), "score": ("head", "regression")}
    (tmp_path / "deltas").mkdir()
    for i, (name, (method, kind)) in enumerate(made.items()):
        folder, _ = save_delta(encoder, method, kind=kind, seed=i)
        (tmp_path / folder).rename(tmp_path / "deltas" / name)
    folder, _ = save_delta(make_folder("other", seed=5), "bitfit", seed=9)
    (tmp_path / "strange").mkdir()
    (tmp_path / folder).rename(tmp_path / "strange" / "strange")
    return tmp_path / "deltas"


def test_deltas_are_served_beside_bundles_and_say_what_they_say_alone(deltas, make_folder):
    models = open_models([f"whole={make_folder('model', kind='single-label', seed=4)}"], str(deltas))
    assert models.names == ("whole", "names", "score", "tone")
    body = {"texts": ["the film was good", "bad"], "tasks": ["tone", "names", "score", "whole"]}
    status, found, _ = post(body, models=models)
    assert status == 200
    for name in body["tasks"]:
        texts = [text.split() for text in body["texts"]] if name == "names" else body["texts"]
        alone = models.use(name).predict(texts)
        assert [row["label"] for row in found["predictions"][name]] == [
            pytest.approx(one.label, abs=1e-5) if name == "score" else one.label for one in alone
        ]


def test_tasks_are_listed_added_and_removed_while_it_runs(deltas):
    tokens = Tokens(admin=b"boss")
    admin = {"authorization": "Bearer boss"}
    models = open_models([], str(deltas))

    async def work(client):
        listed = (await client.get("/v1/tasks")).json()
        codes = []
        for name, delta in (
            ("x", None),
            ("tone", "tone"),
            ("x", "../strange/strange"),
            ("x", "."),
            ("x", "\0"),
            ("a/b", "tone"),
        ):
            codes.append(
                (await client.post("/v1/tasks", json={"name": name, "delta": delta}, headers=admin)).status_code
            )
        refused = (await client.post("/v1/tasks", json={"name": "again", "delta": "tone"})).status_code
        added = await client.post("/v1/tasks", json={"name": "again", "delta": "tone"}, headers=admin)
        both = (await client.post("/v1/predict", json={"texts": "good", "tasks": ["tone", "again"]})).json()
        removed = [(await client.delete("/v1/tasks/tone", headers=admin)).status_code for _ in range(2)]
        gone = (await client.post("/v1/predict", json={"texts": "good", "tasks": "tone"})).status_code
        text = (await client.get("/metrics")).text
        return listed, codes, refused, added, both["predictions"], removed, gone, text

    listed, codes, refused, added, both, removed, gone, text = run(work, models=models, tokens=tokens)
    assert [row["name"] for row in listed["tasks"]] == ["names", "score", "tone"]
    assert codes == [422, 409, 422, 422, 422, 422]
    assert (refused, added.status_code, removed, gone) == (401, 201, [200, 404], 404)
    assert added.json() == {
        "name": "again",
        "kind": "single-label",
        "labels": ["neg", "pos"],
        "pairs": False,
        "from": "delta",
    }
    assert both["tone"] == both["again"]
    assert 'attar_texts_total{outcome="ok",task="again"} 1.0' in text
    assert 'task="tone"' not in text


def test_without_an_admin_token_and_for_bundles_tasks_stay_as_they_are():
    async def work(client):
        headers = {"authorization": "Bearer boss"}
        return [
            (await client.post("/v1/tasks", json={"name": "x"}, headers=headers)),
            (await client.delete("/v1/tasks/a", headers=headers)),
        ]

    assert [answer.status_code for answer in run(work)] == [403, 403]
    found = run(work, tokens=Tokens(admin=b"boss"))
    assert [answer.status_code for answer in found] == [409, 409]
    assert "is a bundle" in found[1].json()["error"]


def test_what_cannot_be_served_is_refused_before_the_start(deltas, tmp_path, make_folder):
    bundle = make_folder("tone", kind="single-label")
    cases = [
        (([],), "expects a BUNDLE, or --deltas DIR"),
        (([bundle, bundle],), "two bundles are named 'tone'"),
        (([bundle], str(deltas)), "both named 'tone'"),
        (([], str(tmp_path / "none")), "expects a folder"),
        (([], str(tmp_path / "tone")), "has none"),
    ]
    for arguments, message in cases:
        with pytest.raises(ConfigError, match=message):
            open_models(*arguments)
    (tmp_path / "strange" / "strange").rename(deltas / "strange")
    with pytest.raises(ConfigError, match="share one encoder; names is of"):
        open_models([], str(deltas))
    with pytest.raises(ConfigError, match="a queue of 3"):
        ServeConfig(queue=3)


def test_texts_of_too_many_tokens_are_refused_where_a_limit_is_set(make_folder):
    models = open_models([f"a={make_folder(kind='single-label')}"], max_tokens=5)
    assert post({"texts": "the film was not good"}, models=models)[0] == 200
    status, found, _ = post({"texts": "the film was not very good"}, models=models)
    assert (status, found["error"]) == (422, "texts[0], task 'a': expected at most 5 tokens, found 6")


def test_other_addresses_and_methods_are_refused_with_what_there_is():
    async def work(client):
        put, nothing, odd = await client.put("/v1/tasks"), await client.get("/nothing"), await client.get("/static/%00")
        return put, nothing, odd

    put, nothing, odd = run(work)
    assert (put.status_code, put.headers["allow"]) == (405, "GET, POST")
    assert (nothing.status_code, odd.status_code) == (404, 404)


def test_the_page_brings_all_it_needs_and_lets_nothing_else_in():
    async def work(client):
        page = await client.get("/")
        files = [await client.get(f"/static/{name}") for name in ("page.js", "style.css", "icon.svg")]
        return page, files

    page, files = run(work)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert [file.status_code for file in files] == [200, 200, 200]
    assert "javascript" in files[0].headers["content-type"]
    shown = page.text + "".join(file.text.replace("http://www.w3.org/2000/svg", "") for file in files)
    assert "http://" not in shown and "https://" not in shown
    assert "<style" not in page.text and "style=" not in page.text and " on" + "click" not in page.text


def test_every_route_is_described_with_the_servers_own_limits():
    app = create_app(Models({"a": Fake()}), ServeConfig(max_texts=7), Tokens(user=b"x"))
    document = app.openapi()
    described = {(path, method) for path, methods in document["paths"].items() for method in methods}
    routes = {(r.path, m.lower()) for r in app.routes if getattr(r, "methods", None) for m in r.methods}
    hidden = {"/", "/static/{name}", "/openapi.json"}
    assert described == {(path, method) for path, method in routes if path not in hidden and method != "head"}
    body = document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["properties"]["texts"]["anyOf"][1]["maxItems"] == 7
    assert body["examples"]
    assert document["paths"]["/v1/predict"]["post"]["security"]


def test_logs_are_json_without_texts(capsys):
    lines = []
    handler = logging.Handler()
    handler.setFormatter(JsonFormatter())
    handler.emit = lambda record: lines.append(handler.format(record))
    logger = logging.getLogger("attar.serving")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:

        async def work(client):
            for text in (SECRET, "broken"):
                await client.post("/v1/predict", json={"texts": [text, SECRET]})
            await client.post(f"/v1/predict/{SECRET}", json={SECRET: SECRET})
            await client.get("/", params={"text": SECRET})
            return await client.post("/v1/predict", content=SECRET.encode(), headers=JSON)

        answer = run(work)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    table = [json.loads(line) for line in lines]
    assert SECRET not in "".join(lines)
    requests = [row for row in table if row["event"] == "request"]
    assert [(row["route"], row["status"]) for row in requests] == [
        ("/v1/predict", 200),
        ("/v1/predict", 500),
        ("elsewhere", 404),
        ("/", 200),
        ("/v1/predict", 400),
    ]
    assert requests[0]["texts"] == 2
    assert requests[-1]["id"] == answer.headers["x-request-id"]
    assert next(row for row in table if row["event"] == "a model failed")["error"] == "RuntimeError"

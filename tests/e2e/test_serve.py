"""A real server process: it says where it is, answers under load, and stops without losing what it accepted."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
from toy import call, reviews


def wait_for(log, event, process, seconds=120):
    """Return the log line of an event."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        for line in log.read_text().splitlines():
            if line.startswith("{") and json.loads(line)["event"] == event:
                return json.loads(line)
        time.sleep(0.05)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def server(teacher, tmp_path_factory, cache):
    """Start ``attar serve`` on a free port; return the process, its address and its log. The last test stops it."""
    log = tmp_path_factory.mktemp("serve") / "log"
    environment = {**os.environ, "ATTAR_TOKEN": "s3cret", "OMP_NUM_THREADS": "1", "ATTAR_CACHE": str(cache)}
    command = [sys.executable, "-m", "attar", "serve", f"tone={teacher}", "--port", "0", "--batch", "4"]
    with log.open("w") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        yield process, wait_for(log, "serving", process)["url"], log
    finally:
        process.kill()
        process.wait()


def test_slow_partial_and_broken_connections_leave_the_server_well(server):
    _, url, _ = server
    host, port = url.removeprefix("http://").split(":")
    head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cret\r\nContent-Type: application/json\r\n"
    beginnings = (
        b"\x00\xff\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 100_000,
        head + b"Content-Length: 100\r\n\r\n{",
        head + b"Content-Length: 99999999999999999999\r\n\r\n{",
        head + b"Content-Length: -1\r\n\r\n",
        head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    )
    for beginning in beginnings:
        with socket.create_connection((host, int(port)), timeout=5) as raw:
            raw.sendall(beginning)
    answer = httpx.post(
        f"{url}/v1/predict", json={"texts": "a great film"}, headers={"Authorization": "Bearer s3cret"}, timeout=30
    )
    assert answer.json()["predictions"]["tone"][0]["label"] in ("neg", "pos")
    assert httpx.get(f"{url}/health", timeout=30).status_code == 200
    refused = httpx.post(f"{url}/v1/predict", json={"texts": "a"}, timeout=30)
    assert refused.status_code == 401


def test_sigterm_in_mid_load_loses_no_accepted_request(server):
    process, url, log = server
    texts = reviews(64)["text"]
    answered, unsettled, started = [], [], threading.Event()

    def client(number):
        headers = {"Authorization": "Bearer s3cret"}
        with httpx.Client(base_url=url, headers=headers, timeout=30) as http:
            for i in range(100_000):
                try:
                    found = http.post("/v1/predict", json={"texts": [texts[(number + i) % 64]] * 3})
                except httpx.ConnectError:
                    return  # the door is closed
                except httpx.TransportError as error:
                    unsettled.append(error)
                    return
                answered.append((found.headers["X-Request-ID"], found.status_code))
                if len(answered) > 40:
                    started.set()

    threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    assert started.wait(60)
    process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(timeout=60)
    assert process.wait(timeout=30) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    # A log line follows its answer, those of earlier tests too: this test's requests are the ones of three texts.
    accepted = [(line["id"], line["status"]) for line in lines if line.get("texts") == 3]
    assert {status for _, status in accepted} == {200}
    # What the server took, a client has; a connection that was never taken up may have been cut.
    assert sorted(accepted) == sorted(answered)
    assert len(unsettled) <= 8
    assert lines[-1]["event"] == "stopped"


def test_what_cannot_start_says_why_in_one_line(teacher, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, message in (
            ((), "expects a BUNDLE"),
            ((tmp_path / "none",), "none"),
            ((teacher, "--max-body", "much"), "--max-body"),
            ((teacher, "--token-file", tmp_path / "none"), "cannot be read"),
            ((teacher, "--port", port), f"cannot listen on 127.0.0.1 port {port}"),
        ):
            result = call("serve", *arguments)
            assert result.code == 2
            assert message in result.err.splitlines()[-1]
            assert result.out == ""


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_the_page_compares_models_in_a_browser(teacher, tmp_path):
    import uvicorn

    from attar.serving.app import create_app
    from attar.serving.models import open_models

    app = create_app(open_models([f"one={teacher}", f"two={teacher}"]))
    with socket.create_server(("127.0.0.1", 0)) as door:
        url = f"http://127.0.0.1:{door.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
        thread.start()
        try:
            flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom")
            profile = f"--user-data-dir={tmp_path / 'profile'}"
            address = f"{url}/#text=a+great+%3Cb%3Efilm&task=one&task=two"
            command = [CHROMIUM, *flags, profile, "--virtual-time-budget=10000", address]
            shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        finally:
            server.should_exit = True
            thread.join(timeout=30)
    assert "2 models answered." in shown
    assert shown.count('class="card"') == shown.count("in the model,") == 2
    assert shown.count('class="fill"') == 4
    assert "<b>film" not in shown

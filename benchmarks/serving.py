"""The server under load: its throughput against the predictor's own, latency, malformed requests, memory, SIGTERM.

    python benchmarks/serving.py --data DATA --model BUNDLE [--minutes 10] [--clients 32] [--work runs/serving]

`attar serve` runs in a process of its own, on loopback; the load comes from this one, by a plain asyncio client that
keeps its connections open. Four things are measured, on texts of movie_reviews (test):

1. Throughput: every client sends one text at a time. Beside it the predictor in a process without a server, on the same
   texts in batches of as many as there are clients; the two take turns (``--repeats``), each after a warm-up, and the
   ratio is that of the medians. The server is idle while the predictor is measured, and the other way round.
2. Latency: p50, p90 and p99 of those requests, against the median time of the batches
   that answered them, which the answers say.
3. ``--minutes`` of valid and malformed requests, mixed: statuses by kind of request, and the server's resident memory.
4. SIGTERM in mid-load: requests that the server's log says it accepted, against answers that clients have.
"""

import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from common import arguments, write_result

from attar.data.readers import read_splits

#: Malformed bodies, and the status that each must get.
MALFORMED = (
    (b"{", 400),
    (b"[" * 5000, 400),
    (b'{"texts": NaN}', 400),
    (b'{"texts": "\\ud800"}', 400),
    (b'{"texts": []}', 422),
    (b'{"texts": 3}', 422),
    (b'{"texts": "a\\u0000b"}', 422),
    (b'{"texts": "a", "tasks": "nobody"}', 404),
    (json.dumps({"texts": ["a"] * 300}).encode(), 422),
    (json.dumps({"texts": "a " * 500_000}).encode(), 422),
    (b'{"texts": "' + b"a" * 5_000_000 + b'"}', 413),
)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--model", required=True)
    parser.add_argument("--dataset", default="movie_reviews")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each throughput measurement")
    parser.add_argument("--minutes", type=float, default=10.0, help="of mixed load")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    texts = read_splits(str(args.data / args.dataset))["test"]["text"][:]
    with Server(args.model, args.work / "server.log") as server:
        result = {
            "load": asyncio.run(throughput(args, server, texts)),
            "mixed": asyncio.run(mixed(args, server, texts)),
            "sigterm": asyncio.run(stop(args, server, texts)),
        }
    result["ratio"] = result["load"]["ratio"]
    settings = {"model": Path(args.model).name, "dataset": args.dataset, "clients": args.clients}
    settings |= {"seconds": args.seconds, "minutes": args.minutes, "repeats": args.repeats}
    print(json.dumps(result, indent=1))
    print(write_result("serving", settings, result))


class Server:
    """``attar serve`` as a process, until the end of the block."""

    def __init__(self, model: str, log: Path) -> None:
        self.log = log
        command = [sys.executable, "-m", "attar", "serve", f"model={model}", "--port", "0"]
        with log.open("w") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ)
        self.port = self._port()

    def _port(self) -> int:
        while self.process.poll() is None:
            for line in self.lines():
                if line["event"] == "serving":
                    return int(line["url"].rpartition(":")[2])
            time.sleep(0.1)
        raise SystemExit(f"the server did not start, see {self.log}")

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def resident(self) -> float:
        return psutil.Process(self.process.pid).memory_info().rss / 2**20

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Connection:
    """One HTTP/1.1 connection that stays open, and is opened again where the server closed it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, body: bytes) -> tuple[int, bytes]:
        """Send one body to /v1/predict and return status and answer."""
        return await self.send(b"POST", b"/v1/predict", body)

    async def send(self, method: bytes, path: bytes, body: bytes = b"") -> tuple[int, bytes]:
        reader, writer = self.streams or await asyncio.open_connection("127.0.0.1", self.port)
        self.streams = reader, writer
        head = b"%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % (method, path, len(body)) + body)
        try:
            answer = await reader.readuntil(b"\r\n\r\n")
            headers = dict(line.lower().split(b": ", 1) for line in answer.split(b"\r\n")[1:] if line)
            content = await reader.readexactly(int(headers[b"content-length"]))
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            raise
        if headers.get(b"connection") == b"close":
            self.close()
        return int(answer.split(b" ", 2)[1]), content

    def close(self) -> None:
        if self.streams:
            self.streams[1].close()
        self.streams = None


def body_of(text: str) -> bytes:
    return json.dumps({"texts": text}).encode()


async def throughput(args: Any, server: Server, texts: list[str]) -> dict[str, Any]:
    """Measure server and predictor in turn."""
    own, alone, latencies, batches = [], [], [], []
    predictor = subprocess.Popen(
        [sys.executable, __file__, "--in-process", args.model, str(args.clients)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert predictor.stdin is not None
    assert predictor.stdout is not None
    predictor.stdin.write(json.dumps(texts) + "\n")
    await load(args, server, texts, min(3.0, args.seconds))
    for round_ in range(args.repeats):
        found = await load(args, server, texts, args.seconds)
        own.append(rate(found, args.clients))
        latencies += [answer.seconds for answer in found]
        batches += [answer.computed for answer in found]
        predictor.stdin.write(f"{args.seconds}\n")
        predictor.stdin.flush()
        alone.append(float(predictor.stdout.readline()))
        print(f"round {round_ + 1}: server {own[-1]:.1f} texts/s, predictor alone {alone[-1]:.1f}", flush=True)
    predictor.stdin.close()
    predictor.wait()
    cuts = statistics.quantiles(latencies, n=100)
    batch = statistics.median(batches)
    return {
        "server_texts_per_second": own,
        "predictor_texts_per_second": alone,
        "ratio": statistics.median(own) / statistics.median(alone),
        "milliseconds": {"p50": 1000 * cuts[49], "p90": 1000 * cuts[89], "p99": 1000 * cuts[98]},
        "median_batch_milliseconds": 1000 * batch,
        "p99_over_median_batch": cuts[98] / batch,
    }


class Answered(NamedTuple):
    """When a request was answered, how long it took, and how long its batch ran."""

    at: float
    seconds: float
    computed: float


async def load(args: Any, server: Server, texts: list[str], seconds: float) -> list[Answered]:
    """Return every request that was answered within the time, in the order of the answers."""
    end = time.perf_counter() + seconds
    found: list[Answered] = []

    async def client(number: int) -> None:
        connection = Connection(server.port)
        i = number
        while time.perf_counter() < end:
            start = time.perf_counter()
            status, answer = await connection.post(body_of(texts[i % len(texts)]))
            now = time.perf_counter()
            assert status == 200, answer
            if now < end:
                found.append(Answered(now, now - start, json.loads(answer)["milliseconds"]["computed"] / 1000))
            i += args.clients
        connection.close()

    await asyncio.gather(*(client(i) for i in range(args.clients)))
    return found


def rate(found: list[Answered], clients: int) -> float:
    """Return answers a second, from when every client has had its first one."""
    start = found[clients - 1].at
    later = [answer for answer in found if answer.at > start]
    return len(later) / (later[-1].at - start)


def in_process(model: str, batch: int) -> None:
    """Label texts until time is up, in batches; a process of its own, told by lines on stdin."""
    from attar.inference.predictor import load as load_model

    texts = json.loads(sys.stdin.readline())
    predictor = load_model(model)
    predictor.predict(texts[: 2 * batch])
    for line in sys.stdin:
        start = time.perf_counter()
        done = 0
        while time.perf_counter() - start < float(line):
            place = done % max(1, len(texts) - batch)
            predictor.predict(texts[place : place + batch])
            done += batch
        print(done / (time.perf_counter() - start), flush=True)


async def mixed(args: Any, server: Server, texts: list[str]) -> dict[str, Any]:
    """Send valid and malformed requests for minutes; every answer must be the intended one."""
    end = time.monotonic() + 60 * args.minutes
    statuses: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    memory: list[float] = []

    async def client(number: int) -> None:
        rng = random.Random(number)
        connection = Connection(server.port)
        while time.monotonic() < end:
            bad = rng.random() < 0.3
            body, wanted = rng.choice(MALFORMED) if bad else (body_of(rng.choice(texts)), 200)
            try:
                status, _ = await connection.post(body)
            except (OSError, asyncio.IncompleteReadError) as error:
                # A server that refuses a body before its end may close the connection on the rest.
                wrong[f"{type(error).__name__} on {wanted}"] += 1
                continue
            statuses[str(status)] += 1
            if status not in (wanted, 429):
                wrong[f"{status} for {wanted}"] += 1
        connection.close()

    async def watch() -> None:
        while time.monotonic() < end:
            memory.append(round(server.resident(), 1))
            await asyncio.sleep(min(5.0, 60 * args.minutes / 10))

    await asyncio.gather(watch(), *(client(i) for i in range(args.clients)))
    # The first tenth fills allocators and caches.
    settled = memory[max(1, len(memory) // 10) :] or memory
    growth = settled[-1] / settled[0] - 1
    return {"statuses": statuses, "not_as_intended": wrong, "rss_mib": memory, "growth_after_first_tenth": growth}


async def stop(args: Any, server: Server, texts: list[str]) -> dict[str, Any]:
    """Send SIGTERM in mid-load and compare what the server accepted with what clients have."""
    before = len([line for line in server.lines() if line.get("route") == "/v1/predict"])
    answered: Counter[str] = Counter()

    async def client(number: int) -> None:
        connection = Connection(server.port)
        try:
            while True:
                status, _ = await connection.post(body_of(texts[(number + answered["200"]) % len(texts)]))
                answered[str(status)] += 1
        except ConnectionRefusedError:
            return
        except (OSError, asyncio.IncompleteReadError):
            answered["cut"] += 1

    clients = [asyncio.create_task(client(i)) for i in range(args.clients)]
    await asyncio.sleep(3)
    server.process.send_signal(signal.SIGTERM)
    start = time.monotonic()
    await asyncio.gather(*clients)
    code = await asyncio.to_thread(server.process.wait)
    accepted = Counter(str(x["status"]) for x in server.lines() if x.get("route") == "/v1/predict")
    total = sum(accepted.values()) - before
    return {
        "accepted": total,
        "answered": dict(answered),
        "lost": total - sum(count for status, count in answered.items() if status != "cut"),
        "exit_code": code,
        "seconds_to_stop": time.monotonic() - start,
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--in-process"]:
        in_process(sys.argv[2], int(sys.argv[3]))
    else:
        main()

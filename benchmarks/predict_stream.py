"""`attar predict` over a big file: throughput against the predictor in memory, and resident memory over time.

    python benchmarks/predict_stream.py --data DATA --bundle BUNDLE [--rows 1000000] [--work runs/predict]

The Parquet file repeats the training rows of movie_reviews with a running number as ``id``. The command runs in a
process of its own whose resident memory is read ten times a second. Before and after it, on the same machine, the
predictor labels a sample of the same texts in memory, which is what ``bench`` measures; the mean of both is the
reference, so that a drift of the machine's speed meets both sides. Asked for: at least 90 % of the reference, memory
flat.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from common import arguments, cell, write_result

from attar.bench.speed import measure_speed
from attar.inference.predictor import load

WANTED = 0.9


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--sample", type=int, default=8192, help="texts that the predictor labels in memory")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    source = args.data / "movie_reviews" / "train.parquet"
    data = make_rows(source, args.work / f"rows-{args.rows}.parquet", args.rows)
    name = f"{Path(args.bundle).name}-{args.rows}"
    result = cell(args.work / f"{name}.json", lambda: measure(args, data))
    print(json.dumps(result, indent=2))
    print(write_result("predict_stream", {"bundle": Path(args.bundle).name, "sample": args.sample}, result))


def make_rows(source: Path, target: Path, rows: int) -> Path:
    if not target.exists():
        texts = pq.read_table(source, columns=["text"]).column("text").combine_chunks()
        temporary = target.with_suffix(".tmp")
        with pq.ParquetWriter(temporary, pa.schema([("id", pa.int64()), ("text", pa.string())])) as writer:
            for start in range(0, rows, 50_000):
                ids = pa.array(range(start, min(rows, start + 50_000)), pa.int64())
                places = pa.array([i % len(texts) for i in ids.to_pylist()])
                writer.write_table(pa.table({"id": ids, "text": texts.take(places)}))
        temporary.replace(target)
    return target


def measure(args: Any, data: Path) -> dict[str, Any]:
    texts = pq.read_table(data, columns=["text"]).slice(0, args.sample).column("text").to_pylist()
    before = in_memory(args.bundle, texts)
    found = stream(args, data)
    after = in_memory(args.bundle, texts)
    reference = statistics.mean([before["texts_per_second"], after["texts_per_second"]])
    return {
        "rows": args.rows,
        **found,
        "in_memory": [before, after],
        "share_of_in_memory": round(found["rows_per_second"] / reference, 3),
        "share_of_in_memory_with_start": round(args.rows / found["seconds"] / reference, 3),
        "wanted": WANTED,
    }


def in_memory(bundle: str, texts: list[str]) -> dict[str, Any]:
    """Return ``bench``'s figures, with the texts a second of the whole sample, median of three."""
    model = load(bundle)
    short = measure_speed(model, texts)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        model.predict(texts)
        seconds.append(time.perf_counter() - start)
    whole = len(texts) / statistics.median(seconds)
    return {**short, "texts_per_second": round(max(whole, short["texts_per_second"]), 1)}


def stream(args: Any, data: Path) -> dict[str, Any]:
    """Run the command; return its rates and how its resident memory went."""
    out = args.work / "scores.parquet"
    command = [sys.executable, "-m", "attar", "predict", args.bundle, "--data", str(data), "--out", str(out)]
    command += ["--keep", "id", "--overwrite"]
    environment = {**os.environ, "ATTAR_CACHE": str(args.work / "cache")}
    work = out.with_name(out.name + ".work")
    started = time.perf_counter()
    memory: list[tuple[float, int]] = []
    first = last = None
    with (args.work / "log.txt").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            done = rows_done(work)
            now = time.perf_counter() - started
            if done and first is None:
                first = (now, done)
            last = (now, done) if done and (last is None or done > last[1]) else last
            try:
                memory.append((now, watched.memory_info().rss))
            except psutil.NoSuchProcess:
                break
            time.sleep(0.1)
    seconds = time.perf_counter() - started
    if process.wait() != 0:
        sys.exit((args.work / "log.txt").read_text()[-2000:])
    assert pq.read_metadata(out).num_rows == args.rows
    return {"seconds": round(seconds, 1), **rates(args.rows, seconds, first, last), **flatness(memory, first, last)}


def rows_done(work: Path) -> int:
    try:
        return max((int(file.stem.split("-")[1]) for file in work.glob("0*.parquet")), default=0)
    except OSError:  # deleted while it was read: the command is done
        return 0


def rates(rows: int, seconds: float, first: Any, last: Any) -> dict[str, float]:
    """Rows a second between the first and the last window: what a long file tends to."""
    if not first or last[1] == first[1]:
        return {"rows_per_second": round(rows / seconds, 1)}
    return {
        "rows_per_second": round((last[1] - first[1]) / (last[0] - first[0]), 1),
        "first_window_s": round(first[0], 1),
    }


def flatness(memory: list[tuple[float, int]], first: Any, last: Any) -> dict[str, float]:
    """Peak, and the medians of the first and the last fifth of the time between first and last window, in MiB."""
    inside = [rss for t, rss in memory if first and first[0] <= t <= last[0]] or [rss for _, rss in memory]
    fifth = max(1, len(inside) // 5)
    return {
        "peak_mib": round(max(rss for _, rss in memory) / 2**20, 1),
        "first_fifth_mib": round(statistics.median(inside[:fifth]) / 2**20, 1),
        "last_fifth_mib": round(statistics.median(inside[-fifth:]) / 2**20, 1),
    }


if __name__ == "__main__":
    main()

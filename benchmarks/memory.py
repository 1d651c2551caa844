"""Memory: distil from a million rows; scoring and training stream.

    python benchmarks/memory.py --data DATA [--rows 1000000] [--work runs/memory]

The file repeats the training rows of movie_reviews, each with a running number, so that no two texts are equal and
the signal cache saves nothing. Teacher and student are tiny, so that what is measured is the data's share; the peak
resident memory of the whole process is read from the operating system.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from common import arguments, random_bert, write_result

LIMIT_GIB = 4.0


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--tokenizer", required=True, help="folder with a BERT tokenizer")
    parser.add_argument("--steps", type=int, default=200, help="training steps; memory does not grow with more")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    data = make_rows(args.data / "movie_reviews" / "train.parquet", args.work / f"rows-{args.rows}.parquet", args.rows)
    teacher = make_teacher(args.work / "teacher", args.tokenizer)
    peak, seconds = run(args.work, data, teacher, args.steps)
    small, _ = run(args.work, args.data / "movie_reviews", teacher, args.steps)
    result = {
        "rows": args.rows,
        "peak_gib": round(peak, 2),
        "peak_gib_8000_rows": round(small, 2),
        "seconds": round(seconds, 1),
        "limit_gib": LIMIT_GIB,
    }
    print(json.dumps(result))
    print(write_result("memory", {"steps": args.steps}, result))


def make_rows(source: Path, target: Path, rows: int) -> Path:
    if not target.exists():
        table = pq.read_table(source, columns=["text", "label"]).to_pydict()
        n = len(table["text"])
        schema = pa.schema([("text", pa.string()), ("label", pa.string())])
        with pq.ParquetWriter(target.with_suffix(".tmp"), schema) as writer:
            for start in range(0, rows, 50_000):
                places = range(start, min(rows, start + 50_000))
                texts = [f"{table['text'][i % n]} {i}" for i in places]
                labels = [table["label"][i % n] for i in places]
                writer.write_table(pa.table({"text": texts, "label": labels}, schema=schema))
        target.with_suffix(".tmp").replace(target)
    return target


def make_teacher(folder: Path, tokenizer: str) -> Path:
    return random_bert(
        folder,
        tokenizer,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        id2label={0: "negative", 1: "positive"},
        label2id={"negative": 0, "positive": 1},
    )


def run(work: Path, data: Path, teacher: Path, steps: int) -> tuple[float, float]:
    """Return (peak resident memory in GiB, seconds) of one whole ``attar distill``."""
    out = work / "student"
    command = [sys.executable, "-m", "attar", "distill", "--teacher", str(teacher), "--data", str(data)]
    command += ["--out", str(out), "--overwrite", "--no-baseline", "--set", f"train.max_steps={steps}"]
    command += ["--set", "method.vectors=random", "--set", "method.width=32", "--set", "method.hidden=16"]
    environment = {**os.environ, "ATTAR_CACHE": str(work / "cache")}
    start = time.perf_counter()
    with (work / "log.txt").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        watched, peak = psutil.Process(process.pid), 0
        while process.poll() is None:
            try:
                peak = max(peak, watched.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.2)
    if process.wait() != 0:
        sys.exit((work / "log.txt").read_text()[-2000:])
    return peak / 2**30, time.perf_counter() - start


if __name__ == "__main__":
    main()

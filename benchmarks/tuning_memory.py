"""Peak resident memory of training: BitFit and adapters against full fine-tuning, on batches of the same size.

    python benchmarks/tuning_memory.py --data DATA --encoder FOLDER [--batch-sizes 8 16 32] [--work runs/tuning-memory]

Each method is one ``attar finetune`` in a process of its own, on the CPU, for a few steps on the longest texts of
movie_reviews, so that every batch is as long as the length limit allows. The peak is the operating system's figure for
the whole process, so it includes Python, libraries and the encoder's weights, which no method can save.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from common import arguments, cell, write_result

LIMIT = 0.6
#: ``ru_maxrss`` is in KiB on Linux and in bytes on macOS.
UNIT = 1 if sys.platform == "darwin" else 1024


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--methods", nargs="+", default=["full", "bitfit", "adapters"], help="the first is the measure")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=4, help="memory does not grow with more")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    data = longest(args.data / "movie_reviews", args.work / "rows", max(args.batch_sizes) * args.steps)
    result = {}
    for size in args.batch_sizes:
        cells = [(name, args.work / f"{name}-{size}.json") for name in args.methods]
        peaks = {name: cell(file, lambda n=name, b=size: measure(args, data, n, b))["peak_gib"] for name, file in cells}
        whole = peaks[args.methods[0]]
        result[size] = {name: {"peak_gib": peak, "share": round(peak / whole, 3)} for name, peak in peaks.items()}
        print(f"batches of {size}: {json.dumps(result[size])}", flush=True)
    settings = {
        "encoder": Path(args.encoder).name,
        "max_length": args.max_length,
        "steps": args.steps,
        "limit": LIMIT,
    }
    print(write_result("tuning_memory", settings, result))


def longest(source: Path, folder: Path, rows: int) -> Path:
    """Write the longest texts of the training file as a data set of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pq.read_table(source / "train.parquet", columns=["text", "label"])
    order = pc.sort_indices(pc.utf8_length(table["text"]), sort_keys=[("", "descending")])
    for name, start, count in (("train", 0, rows), ("dev", rows, 32), ("test", rows + 32, 32)):
        pq.write_table(pa.table(table.take(order[start : start + count])), folder / f"{name}.parquet")
    return folder


def measure(args: Any, data: Path, method: str, batch_size: int) -> dict[str, Any]:
    """Return the peak resident memory of one whole ``attar finetune``, in GiB."""
    command = [sys.executable, "-m", "attar", "finetune", "--model", args.encoder, "--data", str(data)]
    command += ["--out", str(args.work / f"out-{method}"), "--overwrite", "--no-baseline", "--method", method]
    command += ["--batch-size", str(batch_size), "--max-length", str(args.max_length)]
    command += ["--set", f"train.max_steps={args.steps}"]
    file = args.work / f"log-{method}.txt"
    hidden = {"CUDA_VISIBLE_DEVICES": "", "ATTAR_CACHE": str(args.work / "cache")}
    with file.open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **hidden})
        _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"{' '.join(command)}\n{file.read_text()[-2000:]}")
    return {"peak_gib": round(usage.ru_maxrss * UNIT / 2**30, 3)}


if __name__ == "__main__":
    main()

"""What the benchmark scripts share: arguments, cells that are never redone, and results with the hardware named."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attar.config import dump_toml
from attar.nets.hardware import describe_hardware
from attar.records import versions, write_json

RESULTS = Path(__file__).parent / "results"


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser with the flags that every script has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder a dataset")
    parser.add_argument("--work", type=Path, default=Path("runs/bench"), help="runs and finished cells (kept)")
    return parser


def cell(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return a finished cell from its file, or make it and keep it."""
    if file.exists():
        return json.loads(file.read_text(encoding="utf-8"))
    file.parent.mkdir(parents=True, exist_ok=True)
    result = make()
    write_json(result, file)
    return result


def run_recipe(recipe: dict[str, Any], out: Path, settings: Sequence[str] = ()) -> None:
    """Run a recipe in a process of its own, so that several share a machine; skip it where it is finished.

    The recipe, the log and the process's peak memory lie beside ``out``.
    """
    if (out / "record.json").exists():
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    file, log = out.parent / f"{out.name}.toml", out.parent / f"{out.name}.log"
    file.write_text(dump_toml({**recipe, "out": str(out)}), encoding="utf-8")
    sets = [part for value in settings for part in ("--set", value)]
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
    command = [sys.executable, "-m", "attar", "run", str(file), "--resume", *sets]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        _, status, usage = os.wait4(process.pid, 0)  # subprocess itself does not say how much memory was used
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode == 0:
        unit = 1 if platform.system() == "Darwin" else 1024
        write_json({"peak_gib": round(usage.ru_maxrss * unit / 2**30, 3)}, memory_file(out))
    print(f"{out.name:<32} {'done' if process.returncode == 0 else f'FAILED, see {log}'}", flush=True)


def memory_file(out: Path) -> Path:
    """Return where :func:`run_recipe` leaves the peak memory of a run."""
    return out.parent / f"{out.name}.memory.json"


def write_result(name: str, settings: dict[str, Any], result: dict[str, Any]) -> Path:
    """Write ``results/<name>.json`` with settings, hardware and versions beside the figures."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    hardware = describe_hardware()
    write_json(
        {
            "benchmark": name,
            "date": time.strftime("%Y-%m-%d"),
            "hardware": hardware,
            "platform": f"{platform.system()} {platform.machine()}",
            "versions": versions(),
            "settings": settings,
            "result": result,
        },
        file,
    )
    return file


def known_result(name: str) -> dict[str, Any]:
    """Return what ``results/<name>.json`` holds so far, every entry with the processor that it was measured on.

    Scripts whose parts take hours add to it, from several calls and machines.
    """
    file = RESULTS / f"{name}.json"
    if not file.exists():
        return {}
    whole = json.loads(file.read_text(encoding="utf-8"))
    return {key: {"cpu": whole["hardware"]["cpu"], **entry} for key, entry in whole["result"].items()}


def random_bert(folder: Path, tokenizer: str, **config: Any) -> Path:
    """Make a BERT classifier with random weights and somebody's tokenizer, where there is none yet."""
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    if not (folder / "model.safetensors").exists():
        own = AutoTokenizer.from_pretrained(tokenizer)
        BertForSequenceClassification(BertConfig(vocab_size=len(own), **config)).save_pretrained(folder)
        own.save_pretrained(folder)
    return folder


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and sample standard deviation (0 for one value)."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0

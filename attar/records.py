"""The record: what a run leaves behind as JSON. Reports read records and nothing else.

Layout of ``record.json`` (schema 1)::

    schema      1
    command     "finetune" | "distill" | "pretrain"
    name        the bundle's folder name
    created     ISO 8601, UTC
    versions    {python, attar, torch, transformers, ...}
    hardware    {cpu, cores, memory_gib, native_bfloat16, gpu}
    config      the resolved recipe as a table
    task        {kind, text, pair, label, labels: [...]}; empty for a pre-training, which has no models either
    data        {source, fingerprint, rows: {train, dev, test, unlabelled, augmented}, notes: [...]}; of a
                pre-training's texts, rows: {documents, train, dev, too_short, unknown} (windows, but the first) and
                tokens: {train, dev}, under ``pretraining`` where it was a part of the run
    models      one entry a compared model, the run's own product first:
                {role, name, parameters, parameters_without_embeddings, bytes, delta_bytes (for a delta: without its
                  encoder, which bytes holds too),
                 metrics: {dev: {...}, test: {...}}, agreement, speed: {texts_per_second, ms_per_text, ...}}
                role is "student" | "teacher" | "no-pretraining" | "labels-only" | "linear" | "tuned"
    stages      [{name, role, seconds, moving, parameters, curve: [{step, epoch, seconds, loss, <loss parts>,
                dev_<metric>}]}]; seconds count over all processes where a run was resumed
                moving: how many of the stage's parameters were trained; all others are bit for bit what they were.
                A stage without a task is judged by its losses: dev_loss, dev_<loss part>
    timings     seconds a step of the run: {"score": ..., "train": ..., ...}
    warnings    sentences that the user was shown

Metrics hold plain numbers, plus for labelled tasks ``per_class`` ({label: {precision, recall, f1, support}}),
``confusion`` (rows: true, columns: predicted, in the order of ``labels``) and ``calibration``
(bins of {confidence, accuracy, count}). Predictions on the test split lie beside the record in
``predictions.parquet``: columns ``text`` (a list of words for tokens), ``pair`` (pairs only), ``label``, and for every
model ``<role>`` (predicted label or value; a list of labels for multi-label; a label a word for tokens, null where the
model did not read the word) and ``<role>_confidence``.

``comparison.json`` of ``attar compare`` has the same provenance (``command`` "compare"), and::

    grid        the grid's table
    splits      {seed, same, judged_on, note}
    metric      name of the headline metric, ``quality`` below
    budget_seconds, seconds    given, and taken by all runs
    runs        [{label, method, command, seed, folder, status, seconds, error, quality, ms_per_text, bytes,
                delta_bytes, train_seconds, trained_parameters}]; status is "done" | "failed" | "stopped" |
                "left out"
    methods     [{label, method, seeds, quality: {mean, std}, ms_per_text: {...}, ...}], the best first
    differences [{a, b, seeds, difference, low, high, p, p_holm}]
    fronts      {cost: [labels, the cheapest first]}
"""

import datetime
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

from attar.errors import BundleError

SCHEMA = 1
RECORD_FILE = "record.json"
PREDICTIONS_FILE = "predictions.parquet"
RECIPE_FILE = "recipe.toml"
COMPARISON_FILE = "comparison.json"
MANIFEST_FILE = "attar.json"
DELTA_FILE = "delta.json"

_PACKAGES = ("attar", "torch", "transformers", "tokenizers", "datasets", "accelerate", "scikit-learn", "numpy")


def new_record(command: str, name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return a record with its provenance filled in and its results still empty."""
    return {
        "schema": SCHEMA,
        "command": command,
        "name": name,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "hardware": {},
        "config": config,
        "task": {},
        "data": {},
        "models": [],
        "stages": [],
        "timings": {},
        "warnings": [],
    }


def write_record(record: dict[str, Any], folder: str | Path) -> None:
    """Write ``record.json`` into a folder, complete or not at all."""
    write_json(record, Path(folder) / RECORD_FILE)


def read_record(path: str | Path) -> dict[str, Any]:
    """Read a record from its file or from the folder that holds it.

    Raises:
        BundleError: where there is no record, it is no JSON, or its schema is newer than this version reads.
    """
    return _read(Path(path), RECORD_FILE)


def read_comparison(path: str | Path) -> dict[str, Any]:
    """Read the record of a comparison; raises as :func:`read_record`."""
    return _read(Path(path), COMPARISON_FILE)


def _read(path: Path, name: str) -> dict[str, Any]:
    file = path / name if path.is_dir() else path
    if not file.exists():
        raise BundleError(f"{path} holds no {name}; give a folder that attar wrote")
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        found = record.get("schema") if isinstance(record, dict) else type(record).__name__
        raise BundleError(f"{file} has record schema {found}; this version of attar reads schema {SCHEMA}")
    return record


def read_manifest(path: str | Path) -> dict[str, Any]:
    """Return ``attar.json`` of a model's folder; empty for a folder or hub name that attar did not write.

    Raises:
        BundleError: for a manifest that is no JSON or of a newer format.
    """
    file = Path(path) / MANIFEST_FILE
    if not file.exists():
        return {}
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{file} is not valid JSON: {error}; make the bundle again from its recipe.toml") from error
    if manifest.get("format") != 1:
        raise BundleError(f"{file} has format {manifest.get('format')}; this version of attar reads format 1")
    return manifest


def is_exported(path: str | Path) -> bool:
    """Return whether a folder holds a model that ``attar export`` wrote."""
    return "export" in read_manifest(path)


def write_json(value: Any, file: Path) -> None:
    """Write JSON to a temporary name and move it into place."""
    write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", file)


def write_text(text: str, file: Path) -> None:
    """Write text to a temporary name and move it into place."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found

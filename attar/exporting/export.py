"""From a bundle to a model for an inference engine, through the quality gate."""

import shutil
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from attar.bundle import Bundle, delta_bytes, folder_bytes, manifest_of, require_free, whole_folder
from attar.errors import BundleError, ConfigError, QualityError
from attar.exporting.formats import ENGINES, FILES, TABLES, attempts, require_engine
from attar.exporting.gate import Validation, open_validation
from attar.inference.predictor import load
from attar.nets.bilstm import BilstmForSequenceClassification
from attar.nets.deltas.format import is_delta, read_header
from attar.nets.deltas.insertion import by_peft
from attar.nets.deltas.load import delta_fingerprint
from attar.nets.deltas.merge import merge_insertion
from attar.nets.loading import fingerprint
from attar.records import MANIFEST_FILE, versions, write_json
from attar.sizes import parse_size


def export_bundle(
    path: str,
    out: str,
    *,
    format: str = "onnx",
    data: str | None = None,
    tolerance: float = 0.5,
    encoder: str | None = None,
    table: str = "float32",
    table_limit: str = "1GiB",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a bundle for an inference engine, and return what the gate found.

    Args:
        path: bundle, fine-tuned transformers folder, or delta.
        out: folder to write; it appears complete or not at all.
        format: ``onnx``, ``onnx-int8``, ``openvino`` or ``openvino-int8``.
        data: validation texts; by default those that the run left with the bundle.
        tolerance: largest drop of the task's metric, in points (without labels: share of changed answers, in percent).
        encoder: for a delta, where its encoder is now.
        table: of a BiLSTM's folded input projection, ``float32`` or ``float16``.
        table_limit: size above which a BiLSTM is exported unfolded.
        overwrite: replace what is at ``out``.

    Returns:
        ``out``, ``format``, ``setting``, ``bytes`` and ``source_bytes``, ``validation``, ``tolerance``, and
        ``attempts``: one entry a setting that was tried (:meth:`attar.exporting.gate.Validation.compare`), the last
        one being what was written.

    Raises:
        ConfigError: for an unknown format or setting.
        BundleError: where something is in the way, or there are no validation texts.
        QualityError: where every setting drops by more than the tolerance; nothing is written.
        MissingExtra: where the format's packages are not installed.
    """
    require_engine(format)
    if table not in TABLES:
        raise ConfigError(f"--table expects one of {', '.join(TABLES)}; found {table!r}")
    if not tolerance >= 0:
        raise ConfigError(f"--tolerance expects points from 0 up; found {tolerance}")
    target, limit = Path(out), _size(table_limit)
    require_free(target, overwrite=overwrite)
    if target.resolve() == Path(path).resolve():
        raise BundleError(f"{target} is what would be exported; choose another --out")
    source = load(path, encoder=encoder)
    if not isinstance(source.bundle, Bundle):
        raise BundleError(f"{path} is an exported model; export the bundle that it was made of")
    checked = open_validation(source, data)
    origin = fingerprint(path) if encoder is None else delta_fingerprint(path, encoder)
    size = folder_bytes(path) if encoder is None else folder_bytes(encoder) + (delta_bytes(path) or 0)
    with whole_folder(target) as folder:
        try:
            report = _export(source.bundle, origin, checked, folder, format, tolerance, table, limit)
        finally:
            shutil.rmtree(_scratch(folder), ignore_errors=True)
        return {"out": out, **report, "bytes": folder_bytes(folder), "source_bytes": size}


def _export(
    bundle: Bundle,
    origin: str,
    checked: Validation,
    folder: Path,
    kind: str,
    tolerance: float,
    table: str,
    limit: int,
) -> dict[str, Any]:
    """Try one setting after the other until one passes the gate; leave it in the folder."""
    inputs = _inputs(bundle)
    scratch = _scratch(folder)
    scratch.mkdir(parents=True)
    model, texts = _plain(bundle), checked.encoded
    ways = attempts(model, inputs, kind, scratch=scratch, texts=texts, table=table, table_limit=limit)
    tried: list[dict[str, Any]] = []
    common = {"format": kind, "validation": checked.where, "tolerance": tolerance, "attempts": tried}
    for setting, opset, write in ways:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write(folder)
        bundle.tokenizer.save_pretrained(folder)
        how = {"source": origin, "setting": setting, "opset": opset}
        _write_manifest(bundle, folder, kind, how, inputs)
        found = checked.compare(load(str(folder)))
        tried.append({"setting": setting, **found, "passed": found["drop"] <= tolerance})
        if tried[-1]["passed"]:
            _write_manifest(bundle, folder, kind, {**how, "gate": common}, inputs)
            return {**common, "setting": setting}
    raise QualityError(
        f"no export of {bundle.path} as {kind} stays within {tolerance:g} points of its source on {checked.where}: the "
        f"best one drops by {min(t['drop'] for t in tried):.2f}. Nothing was written; allow more with --tolerance, or "
        "choose another --format",
        common,
    )


def _plain(bundle: Bundle) -> PreTrainedModel:
    """Return the model with what can be merged merged; adapters stay in it and are traced."""
    if not is_delta(bundle.path):
        return bundle.model
    header = read_header(bundle.path)
    return merge_insertion(bundle.model, header) if by_peft(header.insertion) else bundle.model


def _inputs(bundle: Bundle) -> tuple[str, ...]:
    names = bundle.tokenizer.model_input_names
    bilstm = isinstance(bundle.model, BilstmForSequenceClassification)
    segments = bundle.model.config.siamese if bilstm else "token_type_ids" in names
    return ("input_ids", "attention_mask", *(["token_type_ids"] if segments else []))


def _write_manifest(bundle: Bundle, folder: Path, kind: str, how: dict[str, Any], inputs: tuple[str, ...]) -> None:
    engine = ENGINES[kind]
    shape = (
        ["batch", "length", bundle.task.n_outputs] if bundle.task.kind == "token" else ["batch", bundle.task.n_outputs]
    )
    precision = {"onnx": "float32", "openvino": bundle.precision}.get(kind, "int8")
    manifest = {
        **manifest_of(bundle.task, bundle.max_length, precision, bundle.long),
        "export": {
            "format": kind,
            "engine": engine,
            "file": FILES[engine],
            "recurrent": isinstance(bundle.model, BilstmForSequenceClassification),
            **how,
            "inputs": {name: {"dtype": "int64", "shape": ["batch", "length"]} for name in inputs},
            "outputs": {"logits": {"dtype": "float32", "shape": shape}},
            "versions": versions(),
        },
    }
    write_json(manifest, folder / MANIFEST_FILE)


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise ConfigError(f"--table-limit: {error}") from error


def _scratch(temporary: Path) -> Path:
    return temporary.with_name(f"{temporary.name}.scratch")

"""Predict over a file of any size: a window of rows at a time, each kept as a part until the file is whole."""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from attar.data.readers import read_texts
from attar.data.windows import windows
from attar.errors import AttarError, BundleError
from attar.inference.parts import Parts
from attar.inference.predictor import Predictor, load
from attar.inference.table import Columns, bad_row_error, bad_rows, choose_columns, output_schema, score_table
from attar.inference.writers import format_to_write, write_tables
from attar.nets.deltas.format import is_delta
from attar.nets.deltas.load import encoder_of
from attar.nets.hardware import pick_device
from attar.nets.loading import fingerprint, hash_files, local_folder
from attar.progress import progress

#: Rows of a window: enough for batches of one length, few enough that a killed process loses little.
_ROWS = {"cpu": 2048, "cuda": 32768, "mps": 8192}
#: Bytes after which a window ends earlier, so that long documents do not fill the memory.
_BYTES = 1 << 24
#: Windows in work at a time: one is read, tokenized or decoded while another is in the model.
_WORKERS = 2
#: Bad rows that are named; the others are only counted.
_NAMED = 10
#: Files of a bundle that no prediction depends on.
_BESIDE = ("README.md", "record.json", "recipe.toml", "predictions.parquet")

log = logging.getLogger("attar")


def predict_file(
    bundle: str,
    data: str,
    out: str,
    *,
    text: str | None = None,
    pair: str | None = None,
    keep: Sequence[str] = (),
    scores: bool = False,
    skip_bad_rows: bool = False,
    encoder: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Predict every row of a file, in order, and write columns ``prediction`` and ``confidence`` beside kept ones.

    Finished windows lie in ``OUT.work`` until the file is whole and moved to ``out``; a killed process loses the
    windows that it had in work. A bad row is one without a text: null, NaN, white space only, an empty list of words,
    a line that is not JSON, a row of CSV with too many or too few cells.

    Args:
        bundle: the model.
        data: any file that training reads, or plain text with one document a line.
        out: ``.parquet``, ``.csv`` or ``.jsonl``, the last two also ``.gz``.
        text: column of the text, by default the one that the model was trained on.
        pair: column of the second text.
        keep: columns to hand on, by default the texts.
        scores: add the probability of every label, as ``p_LABEL``.
        skip_bad_rows: give bad rows nulls in the place of a prediction.
        encoder: for a delta whose encoder was moved, where it is now.
        resume: go on with an interrupted job, where there is one.
        overwrite: replace ``out``.

    Returns:
        ``{"out", "rows", "bad_rows", "model"}``, counts of all rows of ``out``.

    Raises:
        BundleError: where ``out`` or an interrupted job is in the way, or the job was started otherwise.
        ConfigError: for a name of ``out`` that stands for no format, or settings that the task does not have.
        DataError: for a file without the columns, or with a bad row, before anything is predicted.
    """
    ending = format_to_write(Path(out))
    with Parts(Path(out), resume=resume, overwrite=overwrite) as parts:
        rows = read_texts(data, skip_bad_rows=skip_bad_rows)
        model = load(bundle, encoder=encoder)
        wanted = {"text": text, "pair": pair, "keep": keep, "scores": scores}
        columns = choose_columns(rows.data.schema, model.task, data, **wanted)  # type: ignore[arg-type]
        if not skip_bad_rows:
            _refuse_bad_rows(rows, columns, data)
        parts.start(_job(_identity(bundle, encoder, (parts.out, parts.folder)), rows, columns, skip_bad_rows))
        try:
            _predict_parts(model, rows, columns, parts)
            bad = _assemble(parts, _schema(rows, columns, model), ending)
        except AttarError:
            parts.discard_empty()
            raise
    if bad:
        log.warning(f"{bad:,} of {len(rows):,} rows are bad and have no prediction")
    return {"out": out, "rows": len(rows), "bad_rows": bad, "model": bundle}


def _job(identity: str, rows: Dataset, columns: Columns, skip: bool) -> dict[str, Any]:
    """Return what decides on the output; an interrupted job goes on only where all of it is the same."""
    return {
        "bundle": identity,
        # The converted copy is named after the path, size and time of the file that it was made of.
        "input": [Path(file["filename"]).stem for file in rows.cache_files],
        "rows": len(rows),
        **asdict(columns),
        "keep": list(columns.keep),
        "skip_bad_rows": skip,
    }


def _identity(bundle: str, encoder: str | None, own_paths: Sequence[Path]) -> str:
    """Return a hash of the files that decide on predictions, whatever kind of bundle they make.

    What this job writes (``own_paths``) may lie among them.
    """
    folder, written = local_folder(bundle), [path.resolve() for path in own_paths]
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.is_file()
        and file.name not in _BESIDE
        and not any(file.resolve().is_relative_to(path) for path in written)
    )
    own = hash_files(files)
    return f"{own}+{fingerprint(encoder_of(bundle, encoder))}" if is_delta(bundle) else own


def _refuse_bad_rows(rows: Dataset, columns: Columns, data: str) -> None:
    """Look for a bad row before anything is predicted: the last row may be hours away."""
    start = 0
    for table in windows(rows, most_rows=_ROWS["cuda"], most_bytes=_BYTES):
        bad = bad_rows(table, columns)
        if bad.any():
            row = int(bad.argmax())
            raise bad_row_error(table, row, start + row + 1, columns, data)
        start += len(table)


def _predict_parts(model: Predictor, rows: Dataset, columns: Columns, parts: Parts) -> None:
    start = parts.done
    named = 0
    tables = windows(rows, start=start, most_rows=_ROWS[pick_device().type], most_bytes=_BYTES)
    with progress("predict", len(rows), unit=" texts", initial=start) as bar:
        for table, bad in _scored(model, tables, columns):
            for row in np.flatnonzero(bad)[: _NAMED - named]:
                log.warning(f"row {start + int(row) + 1}: no text; left without a prediction")
                named += 1
            parts.add(start, table)
            start += len(table)
            bar.update(len(table))


def _scored(model: Predictor, tables: Iterator[pa.Table], columns: Columns) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Yield every window with its predictions, and its bad rows, in order; threads work ahead of the caller."""
    pool = ThreadPoolExecutor(_WORKERS)
    ahead: deque[Future] = deque()
    try:
        for i, table in enumerate(tables):
            ahead.append(pool.submit(_score, model, table, columns))
            # The first window runs alone: it leaves the tokenizer with its settings, which no other thread may change.
            if i == 0 or len(ahead) > _WORKERS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _score(model: Predictor, table: pa.Table, columns: Columns) -> tuple[pa.Table, np.ndarray]:
    bad = bad_rows(table, columns)
    return score_table(model, table, columns, bad), bad


def _schema(rows: Dataset, columns: Columns, model: Predictor) -> pa.Schema:
    kept = [pa.field(name, rows.data.schema.field(name).type) for name in columns.keep]
    return pa.schema([*kept, *output_schema(model.task, scores=columns.scores)])


def _assemble(parts: Parts, schema: pa.Schema, ending: str) -> int:
    """Make the output of all parts and move it into place; return the number of rows without a prediction."""
    bad = 0

    def tables() -> Iterator[pa.Table]:
        nonlocal bad
        for file in parts.files():
            table = pq.read_table(file, partitioning=None).cast(schema)
            bad += table.column("prediction").null_count
            yield table

    whole = parts.folder / f"whole{ending}"
    try:
        write_tables(tables(), schema, ending, whole)
        parts.finish(whole)
    except OSError as error:
        raise BundleError(
            f"cannot write {parts.out}: {error.strerror or error}; free some space there, then --resume"
        ) from error
    return bad

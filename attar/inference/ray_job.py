"""Predict over files on a Ray cluster: the scorer of :mod:`attar.inference.table`, one copy of the model a worker.

Every worker loads the bundle, so bundle and data lie where all machines reach them: a shared folder, a bucket, or a hub
name for the bundle. Ray reads blocks of rows, hands them to workers, keeps their order, and repeats what was in work on
a machine that is lost.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs

from attar.data.formats.convert import format_of
from attar.errors import AttarError, BundleError, ConfigError, DataError, MissingExtra, ModelError
from attar.inference.predictor import load
from attar.inference.table import bad_row_error, bad_rows, choose_columns, score_table

#: Rows that a worker is given at a time.
_ROWS = 2048
#: Errors that a worker may raise on purpose.
_ERRORS = (DataError, ConfigError, BundleError, ModelError)


class Scorer:
    """One worker: a loaded bundle that turns blocks of rows into blocks of predictions.

    Args:
        bundle: folder or hub name, as every machine of the cluster sees it.
        data: for messages.
        skip_bad_rows: bad rows get nulls; otherwise the first ends the job.
        encoder: for a delta whose encoder was moved.
        wanted: text, pair, keep and scores of :func:`attar.inference.table.choose_columns`.
    """

    def __init__(
        self, bundle: str, data: str, skip_bad_rows: bool, encoder: str | None, wanted: dict[str, Any]
    ) -> None:
        self.data, self.skip, self.wanted = data, skip_bad_rows, wanted
        self.model = load(bundle, encoder=encoder)

    def __call__(self, block: pa.Table) -> pa.Table:
        """Return the kept columns of a block with predictions.

        Raises:
            DataError: for missing columns, and for a bad row by its place in the block and what was kept of it.
        """
        columns = choose_columns(block.schema, self.model.task, self.data, **self.wanted)
        bad = bad_rows(block, columns)
        if bad.any() and not self.skip:
            row = int(bad.argmax())
            beside = block.drop_columns(list(columns.read)).slice(row, 1).to_pylist()[0]
            raise bad_row_error(block, row, row + 1, columns, f"{self.data}, in a block, beside {beside}")
        return score_table(self.model, block, columns, bad)


def predict_ray(
    bundle: str,
    data: str,
    out: str,
    *,
    address: str,
    text: str | None = None,
    pair: str | None = None,
    keep: Sequence[str] = (),
    scores: bool = False,
    skip_bad_rows: bool = False,
    encoder: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Predict every row of files with Ray Data and write a folder of Parquet files, rows in order over their names.

    Args:
        bundle: the model, where every machine of the cluster finds it.
        data: a Parquet, CSV or JSON Lines file, or a folder or bucket prefix of Parquet files; a path or URI that
            pyarrow opens (``s3://bucket/texts/``).
        out: folder or URI to write.
        address: of the cluster; ``auto`` for the one that this machine belongs to, ``local`` for this machine alone.
        text: column of the text, by default the one that the model was trained on.
        pair: column of the second text.
        keep: columns to hand on, by default the texts.
        scores: add the probability of every label, as ``p_LABEL``.
        skip_bad_rows: give bad rows nulls in the place of a prediction.
        encoder: for a delta whose encoder was moved.
        overwrite: replace what is at ``out``.

    Returns:
        ``{"out", "rows", "bad_rows", "model"}``.

    Raises:
        MissingExtra: without Ray.
        BundleError: where something is at ``out``.
        ConfigError: where the cluster does not answer.
        DataError: for files without the columns, or with a bad row.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtra("ray", "ray") from error
    _refuse_existing(out, overwrite)
    _connect(ray, address)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    wanted = {"text": text, "pair": pair, "keep": tuple(keep), "scores": scores}
    try:
        rows = _read(ray, data).map_batches(
            Scorer,
            fn_constructor_args=(bundle, data, skip_bad_rows, encoder, wanted),
            batch_size=_ROWS,
            batch_format="pyarrow",
            zero_copy_batch=True,
            **_workers(ray),
        )
        rows.write_parquet(_place(out), mode="overwrite" if overwrite else "append")
    except (ray.exceptions.RayError, OSError) as error:
        if not overwrite:
            _clear(out)  # nothing was there before
        raise _own_error(error, data) from error
    return {"out": out, **_count(out), "model": bundle}


def _connect(ray: Any, address: str) -> None:
    if ray.is_initialized():
        return
    try:
        ray.init(address=address, log_to_driver=False, include_dashboard=False if address == "local" else None)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"--ray expects the address of a cluster, auto or local; found {address}: {reason}"
        ) from error


def _workers(ray: Any) -> dict[str, Any]:
    """Return what a worker occupies and how many there may be: one a GPU, or one a core but the one that reads."""
    found = ray.cluster_resources()
    gpus, cores = int(found.get("GPU", 0)), int(found.get("CPU", 1))
    most = gpus or max(1, cores - 1)
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=most)
    # On a single core a worker that claimed it would wait for ever for rows that nobody may read.
    return {"compute": pool, "num_cpus": min(1, cores - 1), **({"num_gpus": 1} if gpus else {})}


def _read(ray: Any, data: str) -> Any:
    kind = format_of(Path(data)) or "parquet"
    if kind in ("csv", "jsonl"):
        return (ray.data.read_csv if kind == "csv" else ray.data.read_json)(_place(data))
    if kind != "parquet":
        raise ConfigError(f"--ray reads Parquet, CSV and JSON Lines; found {data}; convert it, or leave out --ray")
    return ray.data.read_parquet(_place(data))


def _place(path: str) -> str:
    """Return a URI as it is and a path as an absolute one: workers run in other folders."""
    return path if "://" in path else str(Path(path).expanduser().resolve())


def _refuse_existing(out: str, overwrite: bool) -> None:
    system, path = pa.fs.FileSystem.from_uri(_place(out))
    found = system.get_file_info(path)
    if found.type == pa.fs.FileType.File:
        raise BundleError(f"--out expects the name of a folder with --ray; found the file {out}")
    if found.type == pa.fs.FileType.Directory and not overwrite and system.get_file_info(pa.fs.FileSelector(path)):
        raise BundleError(f"{out} exists already; choose another --out, or --overwrite to replace it")


def _clear(out: str) -> None:
    """Delete the files of a job that failed."""
    system, path = pa.fs.FileSystem.from_uri(_place(out))
    system.delete_dir_contents(path, missing_dir_ok=True)


def _own_error(error: Exception, data: str) -> AttarError:
    """Return the worker's own error, or one line about what Ray says."""
    # Ray hands on a worker's error as the text of its whole traceback, whose last line names the error.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = next((line for line in reversed(lines) if line.startswith("attar.errors.")), None)
    if named is not None:
        kind, _, message = named.removeprefix("attar.errors.").partition(": ")
        return next((own for own in _ERRORS if own.__name__ == kind), DataError)(message)
    return DataError(f"{data}: Ray ended with: {lines[-1][:300] if lines else type(error).__name__}; see its logs")


def _count(out: str) -> dict[str, int]:
    """Count the written rows and those without a prediction."""
    import pyarrow.dataset as ds

    system, path = pa.fs.FileSystem.from_uri(_place(out))
    written = ds.dataset(path, filesystem=system, format="parquet")
    bad = written.count_rows(filter=ds.field("prediction").is_null())
    return {"rows": written.count_rows(), "bad_rows": bad}

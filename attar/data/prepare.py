"""From the user's files to a task with canonical splits: read, infer, check, encode, cut.

Texts stay memory-mapped; labels and row numbers are in memory.
"""

from dataclasses import dataclass

import datasets
import numpy as np
import pyarrow as pa
from datasets import Dataset, List, Value

from attar.config import DataConfig
from attar.data.cells import Mask, column_of, empty_rows, is_list, is_string, to_floats
from attar.data.columns import Columns, infer, require_column
from attar.data.draws import draw_rows
from attar.data.fingerprint import fingerprint
from attar.data.readers import read_splits, read_texts
from attar.data.targets import Labels, Part, are_indicators, encode_labels, learn_labels, missing_labels
from attar.data.task import Task, TaskData
from attar.errors import ConfigError, DataError

_LARGEST_DEV = 10_000


@dataclass(frozen=True, kw_only=True)
class _Split:
    """All rows of a file in canonical columns, and the numbers of those in use."""

    rows: Dataset
    kept: np.ndarray

    def view(self) -> Dataset:
        """Return the rows in use."""
        return self.rows if len(self.kept) == len(self.rows) else self.rows.select(self.kept)


def load_data(config: DataConfig, keep: tuple[str, ...] = ()) -> TaskData:
    """Read the data of a task, check it, and bring it to canonical columns.

    Args:
        config: which files and columns.
        keep: columns of numbers (a black box's scores) to keep beside the canonical ones, in every split that
            has them; the training split must.

    Raises:
        DataError: where a file is malformed, or a row does not fit the task (by file and row).
    """
    _check_config(config)
    splits = read_splits(config.path)
    columns = infer(splits["train"], config)
    notes = list(columns.notes)
    _check_kept(splits["train"], keep, f"{config.path} (train)")
    parts = {name: _check_split(config, columns, name, rows, notes) for name, rows in splits.items()}
    labels = learn_labels(_present(parts["train"]), columns)
    canonical = {name: _canonical(part, columns, labels, keep) for name, part in parts.items() if part is not None}
    _check_spread(canonical["train"], columns, config.path)
    train = canonical["train"]
    stratified = columns.kind == "single-label"
    if "dev" not in canonical:
        train, canonical["dev"] = _cut_dev(train, config, stratified, notes)
    train, rest = _apply_limit(train, config, stratified, notes)
    unlabelled = [_read_unlabelled(path, config, columns, train.rows, keep, notes) for path in config.unlabelled]
    if rest is not None:
        unlabelled.insert(0, rest)
    canonical["train"] = train
    return TaskData(
        task=Task(kind=columns.kind, text=columns.text, pair=columns.pair, label=columns.label, labels=labels.names),
        source=config.path,
        fingerprint=_fingerprint(canonical, unlabelled),
        train=train.view(),
        dev=canonical["dev"].view(),
        test=canonical["test"].view() if "test" in canonical else None,
        unlabelled=datasets.concatenate_datasets([part.view() for part in unlabelled]) if unlabelled else None,
        notes=tuple(notes),
    )


def load_split(config: DataConfig, task: Task, name: str) -> Dataset:
    """Read one labelled split for a model that is already trained; a single file is the split.

    Args:
        config: which file or folder, and its columns.
        task: the model's task, whose labels the split may hold.
        name: "train", "dev" or "test".

    Raises:
        DataError: where the split is missing or malformed, or has a label that the model does not know.
    """
    splits = read_splits(config.path)
    rows = splits["train"] if list(splits) == ["train"] else splits.get(name)
    if rows is None:
        raise DataError(f"{config.path} has no {name} split; found {', '.join(splits)}")
    columns = Columns(
        text=config.text or task.text,
        pair=config.pair or task.pair,
        label=config.label or task.label,
        kind=task.kind,
        notes=(),
    )
    for column in columns.label:
        require_column(rows, column, f"{config.path} ({name})")
    part = _present(_check_split(config, columns, name, rows, []))
    indicators = task.labels == tuple(map(str, range(task.n_outputs))) and are_indicators(part, columns, task.n_outputs)
    return _canonical(part, columns, Labels(names=task.labels, indicators=indicators), ()).view()


def _fingerprint(canonical: dict[str, _Split], unlabelled: list[_Split]) -> str:
    named: list[tuple[str, _Split]] = [
        (name, canonical[name]) for name in ("train", "dev", "test") if name in canonical
    ]
    named += [("unlabelled", part) for part in unlabelled]
    return fingerprint((name, part.rows, part.kept) for name, part in named)


def _check_config(config: DataConfig) -> None:
    if not 0 < config.dev_share < 1:
        raise ConfigError(f"setting 'data.dev_share' expects a share between 0 and 1; found {config.dev_share}")
    if config.limit is not None and config.limit < 2:
        raise ConfigError(f"setting 'data.limit' expects at least 2 rows; found {config.limit}")
    if config.split_seed < 0:
        raise ConfigError(f"setting 'data.split_seed' expects a whole number of 0 or more; found {config.split_seed}")


def _check_kept(train: Dataset, keep: tuple[str, ...], where: str) -> None:
    for name in keep:
        require_column(train, name, where)
        if name in ("text", "pair", "label"):
            raise DataError(f"{where}: expected scores in a column of another name than {name!r}; rename the column")


def _present(part: Part | None) -> Part:
    assert part is not None  # only a test split may be left out
    return part


def _check_split(config: DataConfig, columns: Columns, name: str, rows: Dataset, notes: list[str]) -> Part | None:
    """Check the columns and cells of one split; a test split without labels is left out."""
    where = f"{config.path} ({name})"
    unlabelled = any(label not in rows.column_names for label in columns.label)
    if name == "test" and (unlabelled or missing_labels(rows, columns.label).all()):
        notes.append(f"the test split has no labels ({', '.join(columns.label)}) and was left out")
        return None
    for column in (columns.text, columns.pair, *columns.label):
        if column is not None:
            require_column(rows, column, where)
    skip = _bad_texts(rows, (columns.text, columns.pair), columns, where, config.drop_bad_rows, notes)
    for label in columns.label:
        found = missing_labels(rows, (label,))
        skip |= _refuse(found, label, "label", where, config.drop_bad_rows, notes)
    if skip.all():
        raise DataError(f"{where}: expected rows with a text and a label, found none")
    return Part(rows=rows, where=where, skip=skip)


def _bad_texts(
    rows: Dataset, names: tuple[str | None, ...], columns: Columns, where: str, drop: bool, notes: list[str]
) -> Mask:
    """Mark the rows with an empty text, and refuse them unless they may be dropped."""
    skip = np.zeros(len(rows), bool)
    for name in filter(None, names):
        column = column_of(rows, name)
        tokens = columns.kind == "token"
        fits = is_list(column.type) and is_string(column.type.value_type) if tokens else is_string(column.type)
        if not fits and not pa.types.is_null(column.type):
            wanted = "lists of tokens" if tokens else "text"
            raise DataError(f"{where}: expected {wanted} in column {name!r} as in train, found {column.type}")
        skip |= _refuse(empty_rows(column), name, "text", where, drop, notes)
    return skip


def _refuse(bad: Mask, name: str, what: str, where: str, drop: bool, notes: list[str]) -> Mask:
    """Raise an error for the first bad row, or note how many will be dropped."""
    count = int(bad.sum())
    if count and not drop:
        raise DataError(
            f"{where}, row {int(bad.argmax()) + 1}: expected a {what} in column {name!r}, found none "
            f"({count} such row{'s' if count > 1 else ''}); mend the file or drop such rows (--drop-bad-rows)"
        )
    if count:
        notes.append(f"{count} row{'s' if count > 1 else ''} with empty {what} dropped from {where}")
    return bad


def _canonical(part: Part, columns: Columns, labels: Labels, keep: tuple[str, ...]) -> _Split:
    """Return a split with the columns text, pair, label and those to keep."""
    values = encode_labels(part, columns, labels)
    rows = _texts(part.rows, columns.text, columns.pair)
    return _Split(rows=_add(rows, {"label": values, **_scores(part, keep)}), kept=np.flatnonzero(~part.skip))


def _scores(part: Part, keep: tuple[str, ...]) -> dict[str, pa.Array]:
    present = [name for name in keep if name in part.rows.column_names]
    return {name: pa.array(to_floats(column_of(part.rows, name), name, part.where, part.skip)) for name in present}


def _texts(rows: Dataset, text: str, pair: str | None) -> Dataset:
    """Return the text columns under their canonical names."""
    names = {text: "text"} if pair is None else {text: "text", pair: "pair"}
    chosen = rows.select_columns(list(names))
    for name in names:
        kind = column_of(rows, name).type
        if kind not in (pa.string(), pa.list_(pa.string())):  # large strings of a hub dataset
            chosen = chosen.cast_column(name, List(Value("string")) if is_list(kind) else Value("string"))
    # Through names that nobody has, since "pair" and "text" may be swapped.
    chosen = chosen.rename_columns({name: f"__{canonical}" for name, canonical in names.items()})
    return chosen.rename_columns({f"__{canonical}": canonical for canonical in names.values()})


def _add(rows: Dataset, values: dict[str, pa.Array]) -> Dataset:
    for name, column in values.items():
        rows = rows.add_column(name, column)
    return rows


def _check_spread(train: _Split, columns: Columns, path: str) -> None:
    if columns.kind == "regression":
        values = train.rows.data.column("label").to_numpy()[train.kept]
        if values.min() == values.max():
            raise DataError(
                f"{path} (train): expected different numbers in {columns.label[0]!r}, found only {values[0]}"
            )


def _classes(split: _Split, stratified: bool) -> np.ndarray | None:
    return column_of(split.rows, "label").to_numpy()[split.kept] if stratified else None


def _cut_dev(train: _Split, config: DataConfig, stratified: bool, notes: list[str]) -> tuple[_Split, _Split]:
    """Cut a dev split off the training rows."""
    size = min(_LARGEST_DEV, max(1, round(len(train.kept) * config.dev_share)))
    dev = draw_rows(train.kept, _classes(train, stratified), size, config.split_seed, spare=True)
    rest = np.setdiff1d(train.kept, dev, assume_unique=True)
    if not len(dev) or not len(rest):
        raise DataError(
            f"{config.path}: expected enough rows to cut a dev split, found {len(train.kept)}; add a dev file"
        )
    how = "stratified" if stratified else "random"
    notes.append(f"dev: {len(dev)} rows cut from train ({how}, seed {config.split_seed})")
    return _Split(rows=train.rows, kept=rest), _Split(rows=train.rows, kept=dev)


def _apply_limit(train: _Split, config: DataConfig, stratified: bool, notes: list[str]) -> tuple[_Split, _Split | None]:
    """Keep the labels of a few rows; return the others as unlabelled text."""
    total = len(train.kept)
    if config.limit is None or config.limit >= total:
        return train, None
    chosen = draw_rows(train.kept, _classes(train, stratified), config.limit, config.split_seed, spare=False)
    rest = np.setdiff1d(train.kept, chosen, assume_unique=True)
    how = "stratified" if stratified else "random"
    notes.append(
        f"labels of {len(chosen)} of {total} training rows kept ({how}, seed {config.split_seed}); "
        f"the other {len(rest)} rows are used as unlabelled text"
    )
    bare = _add(train.rows.remove_columns("label"), {"label": _no_labels(train.rows)})
    return _Split(rows=train.rows, kept=chosen), _Split(rows=bare, kept=rest)


def _no_labels(like: Dataset, count: int | None = None) -> pa.Array:
    return pa.nulls(len(like) if count is None else count, column_of(like, "label").type)


def _read_unlabelled(
    path: str, config: DataConfig, columns: Columns, train: Dataset, keep: tuple[str, ...], notes: list[str]
) -> _Split:
    """Read more texts; their labels, where the file has any, are not looked at."""
    rows = read_texts(path)
    text = columns.text
    if columns.pair is None and rows.column_names == ["text"]:
        text = "text"  # a plain text file has no other name for it
    for name in filter(None, (text, columns.pair)):
        require_column(rows, name, path)
    skip = _bad_texts(rows, (text, columns.pair), columns, path, config.drop_bad_rows, notes)
    scores = _scores(Part(rows=rows, where=path, skip=skip), keep)
    # Every part needs the same columns to be joined; a score that this file lacks is null.
    scores = {name: scores.get(name, pa.nulls(len(rows), pa.float64())) for name in keep}
    canonical = _add(_texts(rows, text, columns.pair), {"label": _no_labels(train, len(rows)), **scores})
    notes.append(f"{int((~skip).sum())} unlabelled rows from {path}")
    return _Split(rows=canonical, kept=np.flatnonzero(~skip))

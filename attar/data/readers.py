"""Data from a file, a folder of splits or a hub name.

``read_splits`` and ``read_texts`` find the files; :mod:`attar.data.formats.convert` reads them.
"""

import re
from pathlib import Path

import datasets
from datasets import Dataset

from attar.data.formats.convert import KNOWN_FORMATS, format_of, open_file
from attar.errors import DataError, nearest

_SPLITS = {"train": "train", "dev": "dev", "validation": "dev", "valid": "dev", "val": "dev", "test": "test"}
_SPLIT_FILE = re.compile(r"(train|dev|validation|valid|val|test)([-_]\d+(-of-\d+)?)?", re.IGNORECASE)


def read_splits(path: str) -> dict[str, Dataset]:
    """Read labelled data into ``train`` and, where there are such files, ``dev`` and ``test``.

    Args:
        path: a file, a folder with ``train`` / ``dev`` / ``test`` files, or the name of a hub dataset
            (``name`` or ``name:configuration``).

    Raises:
        DataError: where nothing is there, or a file is malformed (by file and line).
    """
    place = Path(path).expanduser()
    if place.is_dir():
        return _read_folder(place)
    if place.is_file():
        if format_of(place) == "text":
            raise DataError(
                f"{path}: expected labelled data as {KNOWN_FORMATS}, found plain text; give it as unlabelled"
            )
        return {"train": _read_file(place)}
    if _looks_like_path(path, place):
        raise _not_found(path, place)
    return _read_hub(path)


def read_texts(path: str, *, skip_bad_rows: bool = False) -> Dataset:
    """Read unlabelled data: the same formats, or plain text with one document a line (column ``text``).

    A folder gives its train split where it has one, else all its data files together. With ``skip_bad_rows`` a
    malformed line is a row without values (:func:`attar.data.formats.convert.open_file`).

    Raises:
        DataError: as :func:`read_splits`.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        split_files = _split_files(place).get("train")
        files = split_files or sorted(file for file in place.iterdir() if file.is_file() and format_of(file))
        if not files:
            raise DataError(f"{path}: expected data files ({KNOWN_FORMATS} or .txt), found none; check the folder")
        return _join(files, skip_bad_rows=skip_bad_rows)
    if place.is_file():
        return _read_file(place, skip_bad_rows=skip_bad_rows)
    if _looks_like_path(path, place):
        raise _not_found(path, place)
    return _read_hub(path)["train"]


def read_documents(path: str) -> list[tuple[str, Dataset]]:
    """Read texts to pre-train on, every file by itself: files of a corpus need not have the same columns.

    Args:
        path: a file; a folder, whose train split is read where it has one, else all files in and below it; or a
            hub dataset name, whose train split is read.

    Returns:
        The name of every file with its rows; plain text has one document a line, in the column ``text``.

    Raises:
        DataError: as :func:`read_splits`, and for a folder with a file that is no text, by its name.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        below = sorted(file for file in place.rglob("*") if file.is_file())
        shown = [file for file in below if not any(part.startswith(".") for part in file.relative_to(place).parts)]
        files = _split_files(place).get("train") or shown
        if not files:
            raise DataError(f"{path}: expected text files ({KNOWN_FORMATS} or .txt), found none; check the folder")
        return [(str(file), _read_file(file)) for file in files]
    if place.is_file():
        return [(path, _read_file(place))]
    if _looks_like_path(path, place):
        raise _not_found(path, place)
    return [(path, _read_hub(path)["train"])]


def _read_file(file: Path, *, skip_bad_rows: bool = False) -> Dataset:
    if format_of(file) is None:
        found = "".join(file.suffixes) or "no extension"
        raise DataError(f"{file}: expected {KNOWN_FORMATS} or .txt, found {found!r}; save the data as one of those")
    return open_file(file, skip_bad_rows=skip_bad_rows)


def _read_folder(folder: Path) -> dict[str, Dataset]:
    files = _split_files(folder)
    if "train" not in files:
        names = sorted(file.name for file in folder.iterdir())
        found = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "an empty folder"
        raise DataError(
            f"{folder}: expected train.csv (or .tsv, .json, .jsonl, .parquet) and, if you have them, dev and test "
            f"files, found {found}; rename the file, or give its own path"
        )
    return {split: _join(files[split]) for split in ("train", "dev", "test") if split in files}


def _split_files(folder: Path) -> dict[str, list[Path]]:
    """Return the files of every split, shards in order; a folder as the hub lays it out has them under ``data``."""
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        match = _SPLIT_FILE.fullmatch(file.name.split(".")[0])
        if match and file.is_file() and format_of(file) not in (None, "text"):
            found.setdefault(_SPLITS[match[1].lower()], []).append(file)
    for files in found.values():
        whole = [file for file in files if not any(mark.isdigit() for mark in file.name.split(".")[0])]
        kinds = {(file.name.split(".", 1)[1].lower(), re.split(r"[-_]", file.name)[0]) for file in files}
        if len(files) > 1 and (whole or len(kinds) > 1):
            raise DataError(
                f"{folder}: expected one file a split, or numbered parts of one, found {files[0].name} and "
                f"{files[1].name}; remove or rename one"
            )
    if not found and (folder / "data").is_dir():
        return _split_files(folder / "data")
    return found


def _join(files: list[Path], *, skip_bad_rows: bool = False) -> Dataset:
    parts = [_read_file(file, skip_bad_rows=skip_bad_rows) for file in files]
    for file, part in zip(files, parts, strict=True):
        if part.features.type != parts[0].features.type:
            raise DataError(
                f"{file}: expected the columns and types of {files[0].name} "
                f"({', '.join(parts[0].column_names)}), found others ({', '.join(part.column_names)}); make them equal"
            )
    return datasets.concatenate_datasets(parts) if len(parts) > 1 else parts[0]


def _looks_like_path(path: str, place: Path) -> bool:
    if path.startswith((".", "/", "~")) or "\\" in path or path.count("/") > 1 or format_of(place):
        return True
    # "reviews/new" is a hub name, unless there is a folder "reviews" here.
    return "/" in path and place.parent.is_dir()


def _not_found(path: str, place: Path) -> DataError:
    if not place.parent.is_dir():
        return DataError(f"no such file or folder: {path} (there is no folder {place.parent}); check the path")
    close = nearest(place.name, [entry.name for entry in place.parent.iterdir()])
    return DataError(f"no such file or folder: {path}{close or '; check the path'}")


def _read_hub(name: str) -> dict[str, Dataset]:
    repository, _, configuration = name.partition(":")
    try:
        loaded = datasets.load_dataset(repository, configuration or None)
    except Exception as error:  # the hub's client raises errors of many kinds, most of them no subclass of another
        reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise DataError(
            f"no such file or folder: {name}, and it could not be loaded as a hub dataset: {reason}; check the name"
        ) from error
    found = {_SPLITS[str(split)]: rows for split, rows in loaded.items() if str(split) in _SPLITS}
    if "train" not in found:
        raise DataError(f"hub dataset {name}: expected a split named 'train', found {', '.join(map(str, loaded))}")
    return found

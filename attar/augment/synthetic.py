"""Synthetic texts by the method that a config names, made once and then found in the cache."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset

from attar.augment.candidates import vector_source, word_candidates
from attar.config import AugmentConfig, Tang, TinyBertAugmentation
from attar.data.augmentation import tang
from attar.data.augmentation.store import cached
from attar.data.augmentation.tinybert import augment, text_columns
from attar.errors import DataError, ModelError
from attar.nets.loading import fingerprint, load_config, load_encoder, load_tokenizer
from attar.progress import progress


def synthetic_texts(examples: Dataset, config: AugmentConfig) -> Dataset:
    """Return synthetic versions of texts, memory-mapped; a second call with the same texts and settings runs nothing.

    Args:
        examples: canonical columns ``text``, ``pair`` (pairs only) and, where known, ``label``.
        config: the method and its settings.

    Returns:
        The synthetic rows alone: ``text``, ``pair``, ``label`` typed as in ``examples``, and ``origin``, the number of
        the row that a text was made from.
    """
    check_augmentation(examples, config)
    if isinstance(config, Tang):
        with progress("augment", 2 * len(examples), unit=" texts") as bar:
            return tang.augmented_dataset(examples, config, progress=lambda done, _: bar.update(done - bar.n))
    columns = [*text_columns(examples), *(["label"] if "label" in examples.column_names else [])]
    kept = examples.select_columns(columns)
    return cached(kept, _settings(config), lambda: _replaced(kept, config))


def check_augmentation(examples: Dataset, config: AugmentConfig) -> None:
    """Refuse what cannot be augmented, before anything runs.

    Raises:
        ConfigError: for a share out of range, or lists of words where the method takes texts alone.
        ModelError: for a model that cannot be loaded, or is no masked language model.
        DataError: for a file of word vectors that is not there.
    """
    if isinstance(config, Tang):
        tang.check(examples, config)
        return
    if load_tokenizer(config.model).mask_token_id is None:
        raise ModelError(f"augment.model expects a tokenizer with a mask token; that of {config.model} has none")
    heads = load_config(config.model).architectures or ["MaskedLM"]
    if not any("MaskedLM" in head or head == "BertForPreTraining" for head in heads):
        raise ModelError(
            f"augment.model = {config.model} has no masked-language-model head, it is a {heads[0]}; "
            "choose a model that has one, or train one on it first: attar pretrain --method mlm-head"
        )
    kind, _, name = config.vectors.partition(":")
    if kind == "file" and not Path(name).is_file():
        raise DataError(f"word vector file {name} not found; set augment.vectors to a GloVe or word2vec file, or model")


def _replaced(examples: Dataset, config: TinyBertAugmentation) -> Iterator[dict[str, Any]]:
    candidates = word_candidates(examples, config)
    with progress("augment", len(examples), unit=" texts") as bar:
        yield from augment(examples, config, candidates, progress=lambda done, _: bar.update(done - bar.n))


def _settings(config: TinyBertAugmentation) -> dict[str, Any]:
    """Return what decides the texts: models by their weights and files by their state instead of by their names."""
    model = _fingerprint(config.model)
    kind, _, name = vector_source(config).partition(":")
    if kind == "file":
        stat = Path(name).stat()
        vectors = f"{Path(name).resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}"
    else:
        vectors = _fingerprint(name)
    return {**dataclasses.asdict(config), "model": model, "vectors": vectors}


def _fingerprint(name: str) -> str:
    try:
        return fingerprint(name)
    except ModelError:  # a hub's model that was never used here; loading it brings it
        load_encoder(name)
        return fingerprint(name)

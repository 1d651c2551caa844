"""Load transformers models and tokenizers, with errors that say what to do."""

import hashlib
import json
from collections.abc import Iterable
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

import attar.nets.bilstm  # (registers the BiLSTM with the Auto classes)
import attar.nets.windowed  # noqa: F401  (registers windowed encoders with the Auto classes)
from attar.errors import ModelError
from attar.nets.deltas.format import is_delta

#: Files beside the weights that decide what a model says of a text.
_DECISIVE = ("config.json", "tokenizer.json", "vocab.txt", "merges.txt", "spiece.model", "sentencepiece.bpe.model")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load a fast tokenizer from a local folder or by hub name; a delta's is its encoder's."""
    return _load(AutoTokenizer, _deltas().encoder_of(name) if is_delta(name) else name, "tokenizer")


def load_config(name: str) -> PreTrainedConfig:
    """Load a model's configuration from a local folder or by hub name; a delta's is its encoder's, for its task."""
    return _deltas().load_delta_config(name) if is_delta(name) else _load(AutoConfig, name, "model")


def load_encoder(name: str) -> PreTrainedModel:
    """Load an encoder without a task head; of a delta, the encoder as the delta changed it."""
    return _deltas().load_delta_model(name).base_model if is_delta(name) else _load(AutoModel, name, "model")


def load_for_task(name: str, kind: str, labels: tuple[str, ...] | None = None, **settings: Any) -> PreTrainedModel:
    """Load an encoder with the head of a task.

    Args:
        name: local folder (of a model or of a delta) or hub name.
        kind: the task's kind.
        labels: names of the outputs, for a new head of that width; None keeps the head that is stored.
        settings: further entries of the model's configuration.

    Raises:
        ModelError: for what cannot be loaded, and where a whole model is needed and the folder holds a delta.
    """
    if labels is not None:
        _refuse_delta(name)
        settings.update(_new_head(labels))
    if is_delta(name):
        return _deltas().load_for_task(name, kind)
    return _load(_task_class(kind), name, "model", **settings)


def load_with_new(name: str, kind: str, labels: tuple[str, ...]) -> tuple[PreTrainedModel, set[str]]:
    """Load an encoder with the head of a task, and say what of it is new.

    Returns:
        The model and the names of those of its parameters that the checkpoint lacks, or has for another head: they
        are drawn at random.

    Raises:
        ModelError: for what cannot be loaded, and for a delta.
    """
    _refuse_delta(name)
    model, found = _load(_task_class(kind), name, "model", **_new_head(labels), output_loading_info=True)
    return model, {*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])}


def task_architecture(config: PreTrainedConfig, kind: str) -> str:
    """Return the name of the class that :func:`load_for_task` makes of an encoder."""
    return _task_class(kind)._model_mapping[type(config)].__name__


def load_masked_lm(name: str) -> tuple[PreTrainedModel, bool]:
    """Load an encoder with the head that fills in masked tokens.

    Returns:
        The model, and whether the head was stored with it; else it is new, drawn from torch's random numbers.
    """
    model, told = _load(AutoModelForMaskedLM, name, "model", output_loading_info=True)
    base = f"{model.base_model_prefix}."
    return model, all(key.startswith(base) for key in told["missing_keys"])


def load_as_stored(name: str) -> PreTrainedModel:
    """Load an encoder with the head that its checkpoint names: for a task, for masked words, or none."""
    for kind in ("single-label", "token"):
        if has_head(name, kind):
            return load_for_task(name, kind)
    named = any(a.endswith(("ForMaskedLM", "ForPreTraining")) for a in load_config(name).architectures or [])
    if named:
        model, stored = load_masked_lm(name)
        if stored:
            return model
    return load_encoder(name)


def require_masked_lm(name: str) -> PreTrainedModel:
    """Load an encoder with the head for masked tokens that is stored with it.

    Raises:
        ModelError: where it has none: its answers would be random.
    """
    model, stored = load_masked_lm(name)
    if not stored:
        raise ModelError(
            f"{name} has no masked-language-model head; choose a model that has one, or train one on it first: "
            f"attar pretrain --method mlm-head --teacher {name} --text … --out model-with-head"
        )
    return model


def length_limit(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the longest input in tokens for a model that does not say with which limit it was tuned."""
    return min(512, tokenizer.model_max_length)


def same_pieces(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Return whether two tokenizers cut every text into the same tokens.

    How they pad and cut off was set by whoever used them last, and does not count.
    """
    tables = [json.loads(tokenizer.backend_tokenizer.to_str()) for tokenizer in (one, other)]
    for table in tables:
        table.update(padding=None, truncation=None)
    return tables[0] == tables[1]


def output_labels(config: PreTrainedConfig) -> list[str]:
    """Return the names of a fine-tuned model's outputs, in order."""
    names = {int(i): str(name) for i, name in (config.id2label or {}).items()}
    return [names[i] for i in sorted(names)]


def fingerprint(name: str) -> str:
    """Return a hash of a model's weights, configuration and tokenizer files; two copies of a folder share it.

    Raises:
        ModelError: where the folder holds no weights.
    """
    if is_delta(name):
        return _deltas().delta_fingerprint(name)
    folder = local_folder(name)
    weights = _weights(folder)
    if not weights and not Path(name).is_dir():
        load_tokenizer(name)  # of a hub's model only what was asked for is on this machine
        load_encoder(name)
        weights = _weights(folder)
    if not weights:
        raise ModelError(f"{name} holds no weights (looked for {' or '.join(_WEIGHTS)})")
    files = [*weights, *(folder / name for name in _DECISIVE if (folder / name).exists())]
    return hash_files(files)


def _weights(folder: Path) -> list[Path]:
    return [file for pattern in _WEIGHTS for file in sorted(folder.glob(pattern))]


def hash_files(files: Iterable[Path]) -> str:
    """Return a hash of the contents of files, in this order."""
    return _hash_files(tuple((file, file.stat().st_mtime_ns, file.stat().st_size) for file in files))


@lru_cache(maxsize=32)
def _hash_files(files: tuple[tuple[Path, int, int], ...]) -> str:
    """Hash files, once for every state of them: a folder may be replaced while the process lives."""
    digest = hashlib.blake2b(digest_size=16)
    for file, _, _ in files:
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=16)).digest())
    return digest.hexdigest()


def local_folder(name: str) -> Path:
    """Return the folder of a model: the given one, or the hub's snapshot on this machine."""
    if Path(name).is_dir():
        return Path(name)
    from transformers.utils import cached_file

    try:
        return Path(cached_file(name, "config.json") or name).parent
    except OSError as error:
        raise ModelError(_not_found(name, "model", error)) from error


def has_head(name: str, kind: str) -> bool:
    """Return whether a folder holds a model (or a delta) with a head for this kind of task."""
    if is_delta(name):
        return _deltas().has_delta_head(name, kind)
    file = local_folder(name) / "config.json"
    if not file.exists():
        raise ModelError(f"{name} is no transformers model: it holds no config.json")
    architectures = json.loads(file.read_text(encoding="utf-8")).get("architectures") or []
    wanted = "ForTokenClassification" if kind == "token" else "ForSequenceClassification"
    return any(wanted in architecture for architecture in architectures)


def _task_class(kind: str) -> Any:
    return AutoModelForTokenClassification if kind == "token" else AutoModelForSequenceClassification


def _new_head(labels: tuple[str, ...]) -> dict[str, Any]:
    return {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
        "num_labels": len(labels),
        "ignore_mismatched_sizes": True,
    }


def _refuse_delta(name: str) -> None:
    if is_delta(name):
        raise ModelError(
            f"{name} holds a delta; a new head needs a whole encoder: give the delta's encoder, or make a whole model "
            f"of the delta: attar merge {name} --out MODEL"
        )


def _deltas() -> Any:
    """Return the module that loads deltas. It builds upon this one, so it is imported when a delta is met."""
    return import_module("attar.nets.deltas.load")


def _load(auto: Any, name: str, what: str, **settings: Any) -> Any:
    try:
        return auto.from_pretrained(name, **settings)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(_not_found(name, what, error)) from error


def _not_found(name: str, what: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"{what} {name!r} could not be loaded: expected a local transformers folder or a hub name ({reason})"

"""Load transformers models and tokenizers, with errors that say what to do."""

import hashlib
import json
from functools import lru_cache
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

import attar.nets.bilstm  # noqa: F401  (registers the BiLSTM with the Auto classes)
from attar.errors import ModelError

#: Files beside the weights that decide what a model says of a text.
_DECISIVE = ("config.json", "tokenizer.json", "vocab.txt", "merges.txt", "spiece.model", "sentencepiece.bpe.model")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load a fast tokenizer from a local folder or by hub name."""
    return _load(AutoTokenizer, name, "tokenizer")


def load_config(name: str) -> PreTrainedConfig:
    """Load a model's configuration from a local folder or by hub name."""
    return _load(AutoConfig, name, "model")


def load_encoder(name: str) -> PreTrainedModel:
    """Load an encoder without a task head."""
    return _load(AutoModel, name, "model")


def load_for_task(name: str, kind: str, labels: tuple[str, ...] | None = None, **settings: Any) -> PreTrainedModel:
    """Load an encoder with the head of a task.

    Args:
        name: local folder or hub name.
        kind: the task's kind.
        labels: names of the outputs, for a new head of that width; None keeps the head that is stored.
        settings: further entries of the model's configuration.
    """
    auto = AutoModelForTokenClassification if kind == "token" else AutoModelForSequenceClassification
    if labels is not None:
        settings.update(
            id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
            num_labels=len(labels),
            ignore_mismatched_sizes=True,
        )
    return _load(auto, name, "model", **settings)


def load_masked_lm(name: str) -> tuple[PreTrainedModel, bool]:
    """Load an encoder with the head that fills in masked tokens.

    Returns:
        The model, and whether the head was stored with it; else it is new, drawn from torch's random numbers.
    """
    model, told = _load(AutoModelForMaskedLM, name, "model", output_loading_info=True)
    base = f"{model.base_model_prefix}."
    return model, all(key.startswith(base) for key in told["missing_keys"])


def require_masked_lm(name: str) -> PreTrainedModel:
    """Load an encoder with the head for masked tokens that is stored with it.

    Raises:
        ModelError: where it has none: its answers would be random.
    """
    model, stored = load_masked_lm(name)
    if not stored:
        raise ModelError(
            f"the teacher {name} has no masked-language-model head; train one on it first: "
            f"attar pretrain --method mlm-head --teacher {name} --text … --out teacher-with-head"
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
    folder = local_folder(name)
    weights = [file for pattern in _WEIGHTS for file in sorted(folder.glob(pattern))]
    if not weights:
        raise ModelError(f"{name} holds no weights (looked for {' or '.join(_WEIGHTS)})")
    files = [*weights, *(folder / name for name in _DECISIVE if (folder / name).exists())]
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
    """Return whether a folder holds a model with a head for this kind of task."""
    file = local_folder(name) / "config.json"
    if not file.exists():
        raise ModelError(f"{name} is no transformers model: it holds no config.json")
    architectures = json.loads(file.read_text(encoding="utf-8")).get("architectures") or []
    wanted = "ForTokenClassification" if kind == "token" else "ForSequenceClassification"
    return any(wanted in architecture for architecture in architectures)


def _load(auto: Any, name: str, what: str, **settings: Any) -> Any:
    try:
        return auto.from_pretrained(name, **settings)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(_not_found(name, what, error)) from error


def _not_found(name: str, what: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"{what} {name!r} could not be loaded: expected a local transformers folder or a hub name ({reason})"

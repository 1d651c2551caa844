"""Configuration: frozen dataclasses to and from TOML, with dotted overrides.

A run is one :class:`RunConfig`. The same value is built from flags, from a recipe file and in Python,
and the resolved one is stored in every bundle, so that a bundle can be made again from its own recipe.
"""

import dataclasses
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import tomli_w

from attar.errors import ConfigError, nearest
from attar.sizes import parse_size

T = TypeVar("T")
TaskKind = Literal["single-label", "multi-label", "regression", "token"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which files hold the texts and which columns hold what."""

    path: str
    """A CSV, TSV, JSON, JSONL or Parquet file (also .gz), a folder of splits, or a hub dataset name."""
    unlabelled: tuple[str, ...] = ()
    """More texts of the same kind, without labels: the same formats, or plain text with one document a line."""
    text: str | None = None
    """Column of the text (or of the list of tokens); inferred where not given."""
    pair: str | None = None
    """Column of the second text of a pair."""
    label: tuple[str, ...] = ()
    """Column of the label; several columns of 0/1 make a multi-label task."""
    task: TaskKind | None = None
    """What is predicted; inferred from the label column where not given."""
    dev_share: float = 0.1
    """Share of the training rows cut off (stratified) as a dev split where the data has none."""
    split_seed: int = 0
    drop_bad_rows: bool = False
    """Drop rows with an empty text or label, and count them, instead of refusing the file."""
    limit: int | None = None
    """Keep the labels of this many training rows (drawn with ``split_seed``)."""


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Where the teacher's answers come from: bundles, or columns of the data files."""

    bundles: tuple[str, ...] = ()
    """One bundle or fine-tuned transformers folder, or several for an ensemble."""
    scores: str | None = None
    """Columns with a black box's answers, as ``probs:LABEL=COLUMN,...`` or ``logits:...`` or ``value:COLUMN``."""
    combine: Literal["probabilities", "logits"] = "probabilities"
    """How an ensemble is averaged."""
    exports: tuple[str, ...] = ()
    """What ``attar export`` made of every bundle, in the same order: it answers in the bundle's place, faster."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run. Every room states its own defaults, with their source."""

    epochs: int = 3
    batch_size: int = 32
    """Examples a batch, over all processes."""
    accumulation: int = 1
    """Batches whose gradients are averaged for one step; a step then learns from batch_size x accumulation examples."""
    lr: float = 2e-5
    head_lr_factor: float = 1.0
    """The task head's last map, from features to labels, learns at ``lr`` times this, by the same schedule."""
    optimizer: Literal["adamw", "adadelta"] = "adamw"
    schedule: Literal["linear", "constant", "cosine"] = "linear"
    warmup: float = 0.1
    """Share of all steps."""
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    average: float = 0.0
    """Decay, a step, of a running average of the weights, such as 0.999: what is scored on dev and kept is the average.
    0 for none."""
    patience: int | None = None
    """Stop after this many epochs without a better dev score; the best epoch is kept either way."""
    max_steps: int | None = None
    max_length: int = 128
    """Longest input in tokens; longer texts are cut."""
    long: Literal["truncate", "head-tail", "chunks", "chunks-max", "windowed"] = "truncate"
    """What is read of a longer text: its head; head and tail; all of it in chunks, whose logits' mean (or maximum) is
    the text's. ``windowed`` gives the encoder windowed attention, to read ``max_length`` tokens at a lower cost."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """``auto`` is bfloat16 autocast where the hardware multiplies it natively, else float32."""
    seed: int = 0
    cache_limit: str = "8GiB"
    """Disk space for what frozen layers, or a teacher's, say of a text: they then run once a text and not every epoch;
    ``0`` for none."""

    def __post_init__(self) -> None:
        try:
            parse_size(self.cache_limit)
        except ValueError as error:
            raise ValueError(f"cache_limit: {error}") from error
        for name in ("epochs", "batch_size", "accumulation", "patience", "max_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} expects a whole number above 0, found {value}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed expects a whole number from 0 to below 2^32, found {self.seed}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average expects a decay from 0 to below 1, found {self.average}")
        if self.head_lr_factor <= 0:
            raise ValueError(f"head_lr_factor expects a number above 0, found {self.head_lr_factor}")
        if self.lr <= 0 or self.max_length < 3 or not 0 <= self.warmup < 1:
            raise ValueError(
                "expected lr above 0, max_length of 3 or more and warmup from 0 to below 1; "
                f"found {self.lr}, {self.max_length} and {self.warmup}"
            )


@dataclass(frozen=True, kw_only=True)
class Tang:
    """Synthetic texts by masking, same-tag replacement and n-gram sampling (Tang et al. 2019)."""

    method: Literal["tang"] = "tang"
    n_iter: int = 20
    p_mask: float = 0.1
    p_pos: float = 0.1
    p_ngram: float = 0.25
    tagger: str = "hanta"
    """``hanta`` (carries its English model) or the name or path of a spaCy pipeline."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class TinyBertAugmentation:
    """Synthetic texts by word replacement with a masked language model and word vectors (Jiao et al. 2020)."""

    method: Literal["tinybert"] = "tinybert"
    model: str
    """Masked language model that proposes words: a local folder or hub name, its head included."""
    vectors: str = "model"
    """Nearest words of those that the tokenizer splits: by vectors of ``model``'s encoder, ``encoder:NAME`` (another
    encoder's, such as the teacher's) or ``file:PATH`` (GloVe or word2vec)."""
    n_iter: int = 20
    """Versions of each text (the paper's N_a), before duplicates are dropped."""
    p_replace: float = 0.4
    """How likely a word is replaced (the paper's p_t)."""
    n_candidates: int = 15
    """Words that may replace a word (the paper's K)."""
    max_length: int = 128
    """Tokens that the model sees around a masked word."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.p_replace <= 1:
            raise ValueError(f"p_replace expects a share from 0 to 1; found {self.p_replace:g}")
        for name, least in (("n_iter", 1), ("n_candidates", 1), ("max_length", 8), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} expects a whole number of {least} or more; found {getattr(self, name)}")
        kind, _, name = self.vectors.partition(":")
        if self.vectors != "model" and not (kind in ("encoder", "file") and name):
            raise ValueError(f"vectors expects model, encoder:NAME or file:PATH; found {self.vectors!r}")


#: Synthetic training texts for the teacher to label; ``method`` says which.
AugmentConfig = Tang | TinyBertAugmentation


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Plain texts to pre-train on: documents without labels."""

    paths: tuple[str, ...]
    """Files (plain text with one document a line, CSV, TSV, JSON, JSONL or Parquet; also .gz) or folders of them."""
    column: str | None = None
    """Column of the text in files that have columns; inferred where not given."""
    min_tokens: int = 12
    """Windows with fewer tokens are dropped: DistilBERT drops those of 11 and fewer, special tokens counted."""
    max_unknown: float = 0.5
    """Windows with this share of unknown tokens or more are dropped (DistilBERT)."""
    dev_share: float = 0.05
    """Share of the documents, at most 2,000, that is held out to judge the training by."""
    split_seed: int = 0

    def __post_init__(self) -> None:
        if not self.paths or not 0 < self.dev_share < 1 or not 0 < self.max_unknown <= 1:
            raise ValueError(
                "expected at least one path, dev_share between 0 and 1 and max_unknown above 0 and up to 1; "
                f"found {list(self.paths)}, {self.dev_share} and {self.max_unknown}"
            )
        if self.split_seed < 0:
            raise ValueError(f"split_seed expects a whole number of 0 or more; found {self.split_seed}")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """A training on texts alone: the section ``[pretrain]`` of a recipe, or the whole of ``attar pretrain``."""

    teacher: str
    """Pre-trained encoder to learn from: a local transformers folder or hub name."""
    text: TextConfig
    method: Any
    """The room's own dataclass, see :mod:`attar.methods.registry`."""
    train: TrainConfig

    def __post_init__(self) -> None:
        if self.train.long != "truncate":
            raise ValueError(
                f"train.long is for texts with labels, found {self.train.long}: in a pre-training, texts are cut into "
                "windows of train.max_length, and all of them are read"
            )


@dataclass(frozen=True, kw_only=True)
class PretrainRun(PretrainConfig):
    """Everything that decides what ``attar pretrain`` produces."""

    command: Literal["pretrain"] = "pretrain"
    out: str
    report_to: tuple[str, ...] = ()
    """Trackers that transformers knows: ``tensorboard``, ``wandb``, ``mlflow``."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides what a run produces."""

    command: Literal["finetune", "distill"]
    out: str
    data: DataConfig
    method: Any
    """The room's own dataclass, see :mod:`attar.methods.registry`."""
    train: TrainConfig
    model: str | None = None
    """Pre-trained encoder to fine-tune (``finetune`` only)."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    augment: AugmentConfig | None = None
    pretrain: PretrainConfig | None = None
    """Pre-train the student on texts first (``distill`` only)."""
    baseline: bool = True
    """Also train the same student on the labels alone, and a TF-IDF linear model."""
    report_to: tuple[str, ...] = ()
    """Trackers that transformers knows: ``tensorboard``, ``wandb``, ``mlflow``."""


def from_table(cls: type[T], table: dict[str, Any], where: str = "") -> T:
    """Build a dataclass from a TOML table; unknown keys and wrong types are refused.

    Raises:
        ConfigError: naming the key by its dotted path, what was expected and what was found.
    """
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            raise ConfigError(f"unknown setting '{where}{key}'{nearest(key, fields)} (known: {', '.join(fields)})")
    missing = [n for n, f in fields.items() if n not in table and _required(f)]
    if missing:
        raise ConfigError(f"setting '{where}{missing[0]}' is missing")
    values = {key: _coerce(hints[key], value, where + key) for key, value in table.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise ConfigError(f"{where.rstrip('.') or 'recipe'}: {error}") from error


def augment_config(table: dict[str, Any]) -> AugmentConfig:
    """Build the augmentation's config from a recipe's ``[augment]`` section, by its ``method`` (default: ``tang``)."""
    return _coerce(AugmentConfig, table, "augment")


def to_table(config: Any) -> dict[str, Any]:
    """Return the TOML table of a dataclass. TOML has no null, so settings that are None are left out."""
    table = {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            value = to_table(value)
        elif isinstance(value, tuple):
            value = list(value)
        if value is not None:
            table[f.name] = value
    return table


def override(table: dict[str, Any], assignment: str) -> None:
    """Apply ``a.b=value`` to a table in place; the value is read as TOML, or else as a plain string."""
    path, sign, text = assignment.partition("=")
    if not sign or not path.strip():
        raise ConfigError(f"--set expects KEY=VALUE such as train.lr=3e-5, found {assignment!r}")
    *parents, key = path.strip().split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {assignment}: {parent!r} is a value, not a section")
    table[key] = _parse(text.strip())


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a recipe file."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"recipe {path} not found") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {path} is not valid TOML: {error}") from error


def dump_toml(table: dict[str, Any]) -> str:
    """Return the text of a recipe."""
    return tomli_w.dumps(table)


def _parse(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _required(f: dataclasses.Field) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _coerce(hint: Any, value: Any, where: str) -> Any:
    """Return ``value`` as the annotated type, widening only int to float and one string to a tuple of one."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _coerce_union(arguments, value, where)
    if origin is Literal:
        if value not in arguments:
            known = ", ".join(map(str, arguments))
            raise ConfigError(f"setting '{where}' expects one of {known}; found {value!r}")
        return value
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_coerce(arguments[0], item, where) for item in items)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return from_table(hint, value, where + ".")  # type: ignore[arg-type]
    return _coerce_plain(hint, value, where)


def _coerce_plain(hint: type, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"setting '{where}' expects {hint.__name__}; found {value!r}")
    return value


def _coerce_union(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if type(None) in arguments and (value is None or value is False):  # TOML has no null: `patience = false`
        return None
    choices = [a for a in arguments if a is not type(None)]
    if len(choices) > 1 and all(map(dataclasses.is_dataclass, choices)):
        return _coerce_by_method(choices, value, where)
    for choice in choices[:-1]:
        try:
            return _coerce(choice, value, where)
        except ConfigError:
            continue
    return _coerce(choices[-1], value, where)


def _coerce_by_method(choices: list[Any], value: Any, where: str) -> Any:
    """Return a section as the one of several dataclasses that its ``method`` names, by default the first."""
    if isinstance(value, tuple(choices)):
        return value
    if not isinstance(value, dict):
        raise ConfigError(f"'{where}' expects a section [{where}]; found {value!r}")
    known = {choice.method: choice for choice in choices}
    method = value.get("method", choices[0].method)
    if method not in known:
        raise ConfigError(f"setting '{where}.method' expects one of {', '.join(known)}; found {method!r}")
    return from_table(known[method], value, where + ".")

"""The canonical tiny run of every method, and what the shared tests may expect of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoModelForSequenceClassification, BertConfig, PreTrainedTokenizerFast

from attar.config import TeacherConfig, TrainConfig
from attar.data.task import Task, TaskData
from attar.methods.adapters.config import Adapters
from attar.methods.bilstm_soft.config import BilstmSoft
from attar.methods.bitfit.config import BitFit
from attar.methods.contract import Context
from attar.methods.distilbert.config import DistilBert
from attar.methods.freezing.config import Freezing, Full
from attar.methods.logits.config import Logits
from attar.methods.lora.config import Lora
from attar.methods.tinybert.config import TinyBert
from attar.teacher.open import open_teacher

WORDS = (
    *("a", "the", "film", "was", "is", "not", "very", "good", "bad", "great", "awful", "dull", "bright", "story"),
    *("actor", "music", "scene", "plot", "boring", "lovely", "anna", "bob", "paris", "rome", "saw", "met", "in"),
    *("of", "and", "it", "this", "never", "always"),
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WIDTH, DEPTH, HEADS, INNER, POSITIONS = 32, 4, 2, 48, 40

TEXTS = (
    "the film was very good",
    "the film was bad",
    "a great story and a lovely scene in paris",
    "awful plot , dull actor",
    "this music is always bright",
    "never saw it",
    "anna met bob in rome and it was boring",
    "not good not bad",
)
LABELS = (1, 0, 1, 0, 1, 0, 0, 1)
TASK = Task(kind="single-label", text="text", label=("label",), labels=("neg", "pos"))
TRAIN = TrainConfig(
    epochs=4, batch_size=4, lr=2e-3, max_length=24, precision="float32", warmup=0.0, schedule="constant"
)
TUNING = TrainConfig(**{**vars(TRAIN), "lr": 2e-2, "head_lr_factor": 2.0})
ADADELTA = TrainConfig(**{**vars(TRAIN), "lr": 1.0, "optimizer": "adadelta"})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One method in the shared tests."""

    config: Any
    """With dropout wherever the method has one."""
    train: TrainConfig
    trainable: Callable[[int, int], int]
    """Number of parameters that move, from the size of the student's vocabulary and the number of labels."""
    frozen: frozenset[str] = frozenset()
    """Parameters that must not move; all others must."""
    overfit_steps: int = 60


def bert_size(vocabulary: int, n_labels: int, depth: int, width: int = WIDTH, inner: int = INNER) -> int:
    """Parameters of a BERT for sequence classification, by arithmetic."""
    norm = 2 * width
    embeddings = (vocabulary + POSITIONS + 2) * width + norm
    attention = 4 * (width * width + width) + norm
    feed_forward = 2 * width * inner + inner + width + norm
    pooler = width * width + width
    return embeddings + depth * (attention + feed_forward) + pooler + n_labels * (width + 1)


def layer_size() -> int:
    """Parameters of one of its layers."""
    return bert_size(0, 0, 1) - bert_size(0, 0, 0)


def head_size(n_labels: int) -> int:
    """Parameters of its classifier."""
    return n_labels * (WIDTH + 1)


def bert_names(moves: Callable[[str], bool]) -> frozenset[str]:
    """Names of its parameters for which ``moves`` is false."""
    config = BertConfig(vocab_size=9, hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS)
    with torch.device("meta"):
        names = dict(AutoModelForSequenceClassification.from_config(config).named_parameters())
    return frozenset(name for name in names if not moves(name))


def top_moves(name: str) -> bool:
    """Whether a parameter belongs to the last two layers, the pooler or the head."""
    return any(part in name for part in ("layer.2.", "layer.3.", "pooler", "classifier"))


def with_peft(names: frozenset[str], targets: tuple[str, ...]) -> frozenset[str]:
    """The same names where peft has wrapped the targets."""
    return frozenset(
        f"{place}.base_layer.{last}" if place.endswith(targets) else name
        for name in names
        for place, _, last in [name.rpartition(".")]
    )


def bilstm_size(vocabulary: int, n_labels: int, *, width: int, hidden: int, projection: int) -> int:
    """Parameters of the BiLSTM without its frozen channel; PyTorch has two bias vectors a direction."""
    lstm = 2 * 4 * hidden * (2 * width + hidden + 2)
    return vocabulary * width + lstm + projection * (2 * hidden + 1) + n_labels * (projection + 1)


SETTINGS = {
    "bilstm-soft": Settings(
        config=BilstmSoft(width=12, hidden=10, projection=14, vectors="random", dropout=0.2),
        train=ADADELTA,
        trainable=lambda v, n: bilstm_size(v, n, width=12, hidden=10, projection=14),
        frozen=frozenset({"frozen_vectors.weight"}),
        overfit_steps=150,
    ),
    "logits": Settings(config=Logits(student="half"), train=TRAIN, trainable=lambda v, n: bert_size(v, n, DEPTH // 2)),
    "distilbert": Settings(
        config=DistilBert(alpha=0.0), train=TRAIN, trainable=lambda v, n: bert_size(v, n, DEPTH // 2)
    ),
    "tinybert": Settings(
        config=TinyBert(layers=2, width=16, feed_forward=24, intermediate_epochs=2),
        train=TRAIN,
        trainable=lambda v, n: bert_size(v, n, 2, width=16, inner=24),
        overfit_steps=300,
    ),
    "full": Settings(config=Full(), train=TRAIN, trainable=lambda v, n: bert_size(v, n, DEPTH)),
    "freezing": Settings(
        config=Freezing(layers=2),
        train=TRAIN,
        trainable=lambda v, n: 2 * layer_size() + WIDTH * (WIDTH + 1) + head_size(n),
        frozen=bert_names(top_moves),
    ),
    "bitfit": Settings(
        config=BitFit(),
        train=TUNING,
        # An embedding norm, a pooler, and in a layer query, key, value, two outputs, two norms and the inner one.
        trainable=lambda v, n: WIDTH + WIDTH + DEPTH * (7 * WIDTH + INNER) + head_size(n),
        frozen=bert_names(lambda name: name.endswith("bias") or "classifier" in name),
        overfit_steps=120,
    ),
    "adapters": Settings(
        config=Adapters(bottleneck=5),
        train=TUNING,
        trainable=lambda v, n: DEPTH * 2 * (2 * WIDTH * 5 + WIDTH + 5) + (1 + 2 * DEPTH) * 2 * WIDTH + head_size(n),
        frozen=bert_names(lambda name: "LayerNorm" in name or "classifier" in name),
        overfit_steps=120,
    ),
    "lora": Settings(
        config=Lora(rank=3),
        train=TUNING,
        trainable=lambda v, n: DEPTH * 2 * 3 * (WIDTH + WIDTH) + head_size(n),
        frozen=with_peft(bert_names(lambda name: "classifier" in name), ("self.query", "self.value")),
        overfit_steps=120,
    ),
}


def tiny_tokenizer(words: tuple[str, ...] = WORDS, mask: str = "[MASK]") -> PreTrainedTokenizerFast:
    """Return a BERT tokenizer of a few words; others are cut into letters."""
    special = [*SPECIAL[:4], mask]
    letters = "abcdefghijklmnopqrstuvwxyz,."
    vocabulary = {p: i for i, p in enumerate(dict.fromkeys([*special, *words, *letters, *(f"##{c}" for c in letters)]))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True)),
        model_max_length=POSITIONS,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def save_model(
    folder: Path,
    labels: tuple[str, ...] = TASK.labels,
    *,
    auto: Any = AutoModelForSequenceClassification,
    tokenizer: PreTrainedTokenizerFast | None = None,
    seed: int = 0,
    depth: int = DEPTH,
    spread: float = 3.0,
    **settings: Any,
) -> str:
    """Write a tiny BERT with a head whose answers differ from text to text, and return its folder."""
    tokenizer = tokenizer or tiny_tokenizer()
    torch.manual_seed(seed)
    model = auto.from_config(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            num_hidden_layers=depth,
            num_attention_heads=HEADS,
            intermediate_size=INNER,
            max_position_embeddings=POSITIONS,
            initializer_range=0.15,
            id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
            **settings,
        )
    )
    if spread and hasattr(model, "classifier"):
        with torch.no_grad():
            model.classifier.weight.mul_(spread)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def task_data(
    task: Task = TASK, *, unlabelled: list | None = None, dev: Dataset | None = None, **columns: list
) -> TaskData:
    """Return the eight texts as a task's data; dev is train unless given."""
    train = Dataset.from_dict({"text": list(TEXTS), "label": list(LABELS), **columns})
    bare = None
    if unlabelled is not None:
        bare = Dataset.from_dict({"text": unlabelled, "label": [None] * len(unlabelled)}, features=train.features)
    return TaskData(
        task=task,
        source="memory",
        fingerprint="0",
        train=train,
        dev=train if dev is None else dev,
        test=None,
        unlabelled=bare,
    )


def distil_context(teacher: str | None, data: TaskData, train: TrainConfig, **settings: Any) -> Context:
    """Return the context of a distillation."""
    bundles = (teacher,) if teacher else ()
    opened = open_teacher(TeacherConfig(bundles=bundles), data.task) if teacher else None
    return Context(data=data, train=train, teacher=opened, teacher_bundles=bundles, **settings)

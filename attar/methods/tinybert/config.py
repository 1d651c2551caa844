"""Settings of TinyBERT: general distillation before the task, and the two stages on it."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from attar.config import TrainConfig
from attar.methods.cut import cut_from_teacher

#: Of the general distillation: 3 epochs at length 128 (Jiao et al. 2020), batch 256 (its README). Rate and warm-up are
#: ours.
PRETRAIN = TrainConfig(
    epochs=3, batch_size=256, lr=1e-3, schedule="linear", warmup=0.01, weight_decay=0.01, max_length=128
)
#: Of the prediction stage: 3 epochs, batch 16 or 32 (paper), linear with 10 % warm-up (released code). The rate is that
#: of a thin student; :func:`train_of` says the others.
TRAIN = TrainConfig(epochs=3, batch_size=32, lr=3e-4, schedule="linear", warmup=0.1, weight_decay=0.01, max_length=128)
#: Rates of the intermediate and of the prediction stage by what the student is. Layers of the teacher have the paper's;
#: new thin ones hardly move at these (ours, measured); a folder may hold either.
_RATES = {"thin": (1e-3, TRAIN.lr), "cut": (5e-5, 3e-5), "given": (2e-4, 1e-4)}


@dataclass(frozen=True, kw_only=True)
class TinyBertPretraining:
    """A thin encoder learns embeddings, attention and hidden states of a pre-trained one, on texts alone."""

    layers: int = 4
    """The student's layers. These sizes are TinyBERT4's; TinyBERT6 has 6, 768 and 3072."""
    width: int = 312
    heads: int | None = None
    """Attention heads; where not given, as many as the teacher has, which comparing attention scores needs."""
    feed_forward: int = 1200
    embeddings: Literal["teacher", "random"] = "teacher"
    """What a thin student's tables of words and positions start from: ``teacher``, its own on their principal axes, as
    many as the student is wide; or ``random``, as in the paper: rare words of a small corpus hardly leave it."""
    attention: Literal["scores", "probabilities", "relations"] = "scores"
    """What of the attention is compared: scores before the softmax (the paper); probabilities after it (its ablation);
    or relations among queries, among keys and among values (MiniLMv2), for students with other numbers of heads."""
    projections: Literal["separate", "shared"] = "separate"
    """Where the widths differ, the embeddings and the hidden states are each mapped to the teacher's width by a matrix
    of their own (paper), or both by one (released code)."""
    embedding_weight: float = 1.0
    """Weight of a loss; 0 leaves it out. The paper has 1 for all."""
    hidden_weight: float = 1.0
    attention_weight: float = 1.0

    def __post_init__(self) -> None:
        check_weights(self.embedding_weight, self.hidden_weight, self.attention_weight)
        if not any((self.embedding_weight, self.hidden_weight, self.attention_weight)):
            raise ValueError("embedding_weight, hidden_weight, attention_weight expect one above 0; all are 0")


@dataclass(frozen=True, kw_only=True)
class TinyBert:
    """Distil embeddings, attention and hidden states into a thin student, then the predictions (Jiao et al. 2020)."""

    student: str = "thin"
    """``thin``: a new network of the sizes below; ``half`` of the teacher's layers or ``layers:0,2,4``; or the folder
    or hub name of an encoder with the teacher's tokenizer, such as ``attar pretrain --method tinybert`` leaves."""
    layers: int = 4
    """Sizes of a thin student; these are TinyBERT4's, TinyBERT6 has 6, 768 and 3072."""
    width: int = 312
    heads: int | None = None
    """Attention heads; where not given, as many as the teacher has, which comparing attention scores needs."""
    feed_forward: int = 1200
    embeddings: Literal["teacher", "random"] = "teacher"
    """What a thin student's tables of words and positions start from: ``teacher``, its own on their principal axes, as
    many as the student is wide; or ``random``, as in the paper: rare words of a small corpus hardly leave it."""
    attention: Literal["scores", "probabilities", "relations"] = "scores"
    """What of the attention is compared: scores before the softmax (the paper); probabilities after it (its ablation);
    or relations among queries, among keys and among values (MiniLMv2), for students with other numbers of heads."""
    projections: Literal["separate", "shared"] = "separate"
    """Where the widths differ, the embeddings and the hidden states are each mapped to the teacher's width by a matrix
    of their own (paper), or both by one (released code)."""
    embedding_weight: float = 1.0
    """Weight of a loss of the intermediate stage; 0 leaves it out, and all 0 the stage. The paper has 1 for all."""
    hidden_weight: float = 1.0
    attention_weight: float = 1.0
    intermediate_epochs: int = 20
    """Epochs of the intermediate stage (paper: 20; 10 for large sets, 50 for CoLA); 0 leaves it out."""
    intermediate_lr: float | None = None
    """Its learning rate, which stays constant (released code). Where not given, 5e-5 for layers of the teacher (paper),
    1e-3 for a thin student and 2e-4 for a folder."""
    prediction: Literal["teacher", "labels"] = "teacher"
    """What the prediction stage learns: the teacher's probabilities (regression: its value), or the labels alone, which
    is the paper's ablation, and for regression what the released code does."""
    alpha: float = 0.0
    """Weight of the labels in the prediction stage; the paper has the teacher alone. 1 learns from labels alone,
    without any teacher."""

    def __post_init__(self) -> None:
        check_weights(self.embedding_weight, self.hidden_weight, self.attention_weight)
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha expects a weight from 0 to 1, found {self.alpha}")
        if self.intermediate_epochs < 0 or (self.intermediate_lr is not None and self.intermediate_lr <= 0):
            raise ValueError(
                "expected intermediate_epochs of 0 or more and intermediate_lr above 0; "
                f"found {self.intermediate_epochs} and {self.intermediate_lr}"
            )

    @property
    def default_rates(self) -> tuple[float, float]:
        """Learning rates of the intermediate and of the prediction stage where none are given."""
        kind = "cut" if cut_from_teacher(self.student) else "thin" if self.student == "thin" else "given"
        return _RATES[kind]

    @property
    def has_intermediate_stage(self) -> bool:
        """Whether anything is left to learn before the predictions."""
        return self.intermediate_epochs > 0 and any((self.embedding_weight, self.hidden_weight, self.attention_weight))


def train_of(config: TinyBert | TinyBertPretraining) -> TrainConfig:
    """Return the training defaults: before the task, or on it with the rate that the student can bear."""
    if isinstance(config, TinyBertPretraining):
        return PRETRAIN
    return dataclasses.replace(TRAIN, lr=config.default_rates[1])


def check_weights(*weights: float) -> None:
    """Refuse weights below 0."""
    if min(weights) < 0:
        raise ValueError(f"embedding_weight, hidden_weight, attention_weight expect 0 or more; found {weights}")

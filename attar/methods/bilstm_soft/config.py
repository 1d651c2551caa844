"""Settings of biLSTM-SOFT."""

from dataclasses import dataclass

from attar.config import TrainConfig

#: Tang et al. 2019, section 4.2: AdaDelta with lr 1.0 and rho 0.95, batch 50 (SST-2), selection on dev.
#: The paper does not state epochs; with patience the number is only an upper bound.
TRAIN = TrainConfig(
    epochs=30,
    batch_size=50,
    lr=1.0,
    optimizer="adadelta",
    schedule="constant",
    warmup=0.0,
    weight_decay=0.0,
    max_grad_norm=5.0,
    patience=5,
    max_length=128,
    precision="float32",
)


@dataclass(frozen=True, kw_only=True)
class BilstmSoft:
    """Distil into a one-layer BiLSTM by regressing the teacher's raw logits (Tang et al. 2019)."""

    hidden: int = 150
    """States a direction (the paper's 150 or 300)."""
    projection: int = 200
    """Width of the ReLU layer (the paper's 200 or 400)."""
    dropout: float = 0.1
    alpha: float = 0.0
    """Weight of the labels' cross-entropy; the paper's best is 0, logits alone. 1 learns from labels alone."""
    vectors: str = "teacher"
    """Word vectors: ``teacher`` (its encoder's, reduced by PCA), ``encoder:NAME`` (another encoder's),
    ``file:PATH`` (GloVe or word2vec text or binary), ``spacy:PIPELINE``, or ``random``."""
    width: int = 300
    """Width of a word vector; the input has two channels of it, frozen and trained."""
    min_count: int = 1
    """Words seen less often in the training texts are unknown."""
    max_words: int = 50000
    """Size limit of the vocabulary, most frequent first."""
    lowercase: bool = True
    teacher_words: bool = True
    """Add the whole words of the encoder's own vocabulary where vectors come from an encoder, so that words which the
    training texts lack have a vector too, as every word of a published vector file has."""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha expects a weight from 0 to 1, found {self.alpha}")
        for name in ("hidden", "projection", "width", "min_count", "max_words"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} expects a whole number above 0, found {getattr(self, name)}")

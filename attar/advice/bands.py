"""How good a method may be expected to be: one table, relative to the reference of its kind, with its source.

The reference is the same encoder with all weights tuned on the same labels; for what is distilled, the teacher.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Band:
    """Share of the reference's score, from low to high."""

    low: float
    high: float
    reference: str
    source: str

    @property
    def middle(self) -> float:
        """The value that candidates are ranked by."""
        return (self.low + self.high) / 2


_ALL = "the encoder with all weights tuned"
_TEACHER = "its teacher"
_RECORD = "our records (tuning.py, movie_reviews, MiniLM, 200 labels, 3 seeds)"

#: With more than 1,000 labels.
MANY = {
    "full": Band(1.0, 1.0, _ALL, "the reference itself"),
    "freezing": Band(0.90, 1.0, _ALL, "Lee et al. 2019: a fourth of the layers reaches 90 % on most tasks"),
    "head": Band(0.64, 0.82, _ALL, "Lee et al. 2019: about 64 % on average; our records: 82 % (movie_reviews, 1,000)"),
    "adapters": Band(0.98, 1.0, _ALL, "Houlsby et al. 2019, table 1: GLUE 80.0 against 80.4"),
    "lora": Band(0.98, 1.01, _ALL, "Hu et al. 2022, RoBERTa-base: GLUE 87.2 against 86.4"),
    "bitfit": Band(0.97, 1.0, _ALL, "Ben-Zaken et al. 2022: close to all weights, below them with much data"),
    "distilbert": Band(0.92, 0.97, _TEACHER, "Sanh et al. 2019: 97 %, after a pre-training of the student"),
    "logits": Band(0.93, 1.0, _TEACHER, "Turc et al. 2019: a pre-trained student, distilled on texts of the task"),
    "tinybert": Band(0.85, 0.97, _TEACHER, "Jiao et al. 2020: 96.8 %; ablations keep 90 to 96 % of that"),
    "bilstm-soft": Band(0.84, 0.98, _TEACHER, "Tang et al. 2019: 84 to 96 %; our records: 88 to 90 %, 98 % (R8)"),
}  # fmt: skip

#: With up to 1,000 labels.
FEW = MANY | {
    "full": Band(0.98, 1.0, _ALL, f"the reference, with the spread of its seeds; {_RECORD}"),
    "freezing": Band(0.99, 1.02, _ALL, f"{_RECORD}: 100.6 %; RoBERTa-base with 200 labels: 101 %"),
    "head": Band(0.70, 0.83, _ALL, f"{_RECORD}: 83 %"),
    "adapters": Band(0.97, 1.0, _ALL, f"{_RECORD}: 98.6 %"),
    "lora": Band(0.98, 1.01, _ALL, f"{_RECORD}: 99.3 %; Hu et al. 2022"),
    "bitfit": Band(0.94, 1.02, _ALL, f"{_RECORD}: 95.3 %; Ben-Zaken et al. 2022: ahead with little data"),
}


def band_of(name: str, *, few: bool) -> Band:
    """Return the band of a candidate, by its name."""
    return (FEW if few else MANY)[name]

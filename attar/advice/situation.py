"""What is known when advice is given: the facts, the machine, and what the user asked for."""

from dataclasses import dataclass
from typing import Any

from attar.advice.encoder import Shape
from attar.advice.facts import Facts
from attar.advice.machine import Machine
from attar.nets.longer import WINDOW, takes_windows


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What must not be exceeded; None for no limit."""

    latency_ms: float | None = None
    """Milliseconds a text, one text a call."""
    memory: int | None = None
    """Peak bytes of the training process."""
    size: int | None = None
    """Bytes on disk of all that is needed to predict."""
    train_seconds: float | None = None
    """Seconds of all training that a candidate needs, a teacher's included."""

    @property
    def any(self) -> bool:
        """Whether anything is limited."""
        return any(value is not None for value in vars(self).values())


#: Share of texts beyond the encoder's limit from which on documents are long.
LONG_SHARE = 0.05
#: Tokens to read with windowed attention at most.
_LONGEST = 4096


@dataclass(frozen=True, kw_only=True)
class Situation:
    """Everything that rules, estimates and candidates look at."""

    data: str
    """What the user gave as --data."""
    settings: dict[str, Any]
    """What else was said of the data: columns, task, limit."""
    model: str | None
    """Encoder to tune."""
    teacher: str | None
    """Bundle to distil, where there is one already."""
    unlabelled: tuple[str, ...]
    facts: Facts
    shape: Shape
    """Sizes of the encoder: --model, or the teacher's."""
    teacher_shape: Shape
    """Sizes of the given teacher; else of the encoder that becomes one."""
    machine: Machine
    limits: Limits = Limits()
    tasks: int = 1
    tokenizer_bytes: int = 1_000_000
    teacher_length: int = 512
    """Longest input of the teacher in tokens."""
    notes: tuple[str, ...] = ()
    """What was inferred, cut or dropped while the data was read."""

    @property
    def few(self) -> bool:
        """Whether labels are few: in our records freezing is level with full tuning at 200, behind it at 1,000."""
        return self.facts.train <= 300

    @property
    def max_length(self) -> int:
        """Tokens to read of a text: what all but 5 % of the texts have, in steps of 32, at most the encoder's limit."""
        wanted = -(-self.facts.length_p95 // 32) * 32
        return max(16, min(wanted, self.facts.limit))

    @property
    def long(self) -> bool:
        """Whether the encoder's limit cuts many of the texts."""
        return self.facts.cut >= LONG_SHARE

    @property
    def chunks(self) -> bool:
        """Whether long texts can be read in chunks, as pairs and words cannot."""
        return self.long and not self.facts.pair and self.facts.kind != "token"

    @property
    def windows(self) -> int | None:
        """Tokens to read with windowed attention, all but 5 % of the texts; None where it has no place.

        In our records of newsgroups it came before chunks, in less time (docs/long-documents.md).
        """
        wanted = min(-(-self.facts.length_p95 // 32) * 32, _LONGEST)
        fits = self.long and takes_windows(self.shape.family) and wanted > max(self.facts.limit, WINDOW)
        return wanted if fits else None

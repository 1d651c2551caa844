"""The rules: what follows from which fact, and who says so. One table, to be read from top to bottom.

``when`` returns the fact that triggers the rule, in words, or None. ``weights`` are added to the rank of the candidates
named, in hundredths of the reference's quality (see :mod:`attar.advice.bands`), so a weight of 3 says: worth three
percent of quality. ``*`` stands for all candidates that distil.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from attar.advice.situation import LONG_SHARE, Situation
from attar.sizes import show_size

_SEED = "Shah, Efficient Transformers II, Recommendations"


@dataclass(frozen=True)
class Rule:
    """One line of the table."""

    id: str
    when: Callable[[Situation], str | None]
    advice: str
    source: str
    weights: Mapping[str, float] = field(default_factory=dict)


def fired(situation: Situation) -> list[tuple[Rule, str]]:
    """Return the rules that apply, each with the fact that triggered it, in the table's order."""
    found = ((rule, rule.when(situation)) for rule in RULES)
    return [(rule, fact) for rule, fact in found if fact is not None]


def _few(s: Situation) -> str | None:
    return f"{s.facts.train:,} labelled rows, at most 300" if s.few else None


def _long(s: Situation) -> str | None:
    if s.facts.cut < LONG_SHARE:
        return None
    return (
        f"{s.facts.cut:.0%} of the texts are longer than the encoder's {s.facts.limit} tokens (median "
        f"{s.facts.length_median}, 95 % {s.facts.length_p95}); {s.facts.lost:.0%} of all tokens are cut off"
    )


def _latency(s: Situation) -> str | None:
    return f"at most {s.limits.latency_ms:g} ms a text" if s.limits.latency_ms is not None else None


def _size(s: Situation) -> str | None:
    return f"at most {show_size(s.limits.size)} on disk" if s.limits.size is not None else None


def _memory(s: Situation) -> str | None:
    return f"at most {show_size(s.limits.memory)} of memory in training" if s.limits.memory is not None else None


def _no_teacher(s: Situation) -> str | None:
    return "no --teacher was given" if s.teacher is None and s.model else None


def _small_and_no_teacher(s: Situation) -> str | None:
    tight = _latency(s) or _size(s)
    return f"{tight}, and {_no_teacher(s)}" if tight and _no_teacher(s) else None


def _tasks(s: Situation) -> str | None:
    return f"{s.tasks} tasks over one encoder" if s.tasks > 1 else None


def _unlabelled(s: Situation) -> str | None:
    many = s.facts.unlabelled >= 2 * s.facts.train
    return f"{s.facts.unlabelled:,} unlabelled rows beside {s.facts.train:,} labelled ones" if many else None


def _unlabelled_teacher(s: Situation) -> str | None:
    return f"{_unlabelled(s)}, and a teacher ({s.teacher})" if _unlabelled(s) and s.teacher else None


def _no_gpu(s: Situation) -> str | None:
    hardware = s.machine.hardware
    return f"no GPU, {hardware['cores']} cores" if hardware["device"] == "cpu" else None


def _no_bfloat16(s: Situation) -> str | None:
    return "this machine does not multiply bfloat16 natively" if not s.machine.hardware["native_bfloat16"] else None


def _no_biases(s: Situation) -> str | None:
    return f"the layers of {s.shape.family} have no biases" if s.model and not s.shape.biases else None


def _enough(s: Situation) -> str | None:
    free = s.tasks == 1 and not s.limits.any and not s.few
    return f"{s.facts.train:,} labelled rows, one task and no limit" if free and s.model else None


def _noisy(s: Situation) -> str | None:
    if s.facts.conflicts:
        return f"{s.facts.conflicts} rows whose text occurs with another label, too"
    doubt = s.facts.doubtful
    return f"a linear model is sure of another label for {doubt:.1%} of a sample" if doubt and doubt >= 0.02 else None


def _repeats(s: Situation) -> str | None:
    facts = s.facts
    if facts.leaked:
        return f"{facts.leaked} texts of dev and test are in train, too"
    return f"{facts.duplicates} of {facts.train:,} texts repeat" if facts.duplicates >= 0.01 * facts.train else None


def _unequal(s: Situation) -> str | None:
    rare = s.facts.smallest_class
    return f"the rarest of {s.facts.labels} classes has {rare} rows" if rare is not None and rare < 20 else None


def _tokens(s: Situation) -> str | None:
    return "a label for every word" if s.facts.kind == "token" else None


RULES = (
    Rule("long-documents", _long,
         "read more than the head of the texts, as the commands here do: by windowed attention (--long windowed; for a "
         "delta attar longer first, then --model), in chunks (--long chunks), or by a long-context encoder",
         f"{_SEED}; Beltagy et al. 2020 (Longformer); our records of newsgroups (benchmarks/long_documents.py)"),
    Rule("latency", _latency,
         "a distilled student: fewer or thinner layers are what makes prediction faster; tuning fewer weights does not",
         f"{_SEED}; Tang et al. 2019; Jiao et al. 2020", {"*": 1}),
    Rule("small-on-disk", _size,
         "a distilled student whose vocabulary and width fit; a delta is small only beside its encoder",
         f"{_SEED}; Jiao et al. 2020", {"*": 1}),
    Rule("small-memory", _memory,
         "a distilled student, or a method that freezes the bottom: no gradients and no optimizer state for it; "
         "smaller batches with accumulation help every method", f"{_SEED}; Lee et al. 2019", {"freezing": 1, "*": 0.5}),
    Rule("needs-a-teacher", _no_teacher,
         "a distilled student needs a full-sized teacher first, and does best distilled both in pre-training (attar "
         "pretrain) and on the task", f"{_SEED}; Jiao et al. 2020, table 2", {"*": -2}),
    Rule("tune-then-distil", _small_and_no_teacher,
         "tune a teacher cheaply, then distil it: both commands are given, and their time is counted together",
         f"{_SEED}; Sanh et al. 2019, section 3.1", {"*": 2}),
    Rule("few-labels", _few,
         "freeze most of the encoder: fewer weights to fit mean less overfitting",
         f"{_SEED}; Ben-Zaken et al. 2022; our records of 200 labels (benchmarks/tuning.py)",
         {"freezing": 1, "adapters": 0.5, "lora": 0.5}),
    Rule("many-tasks", _tasks,
         "one encoder and a delta a task: disk and memory grow by the deltas alone",
         f"{_SEED}; Houlsby et al. 2019; our records: BitFit's tasks share a batch at no cost, adapters' at 12 %",
         {"lora": 3, "bitfit": 3, "adapters": 2, "freezing": -2, "full": -6, "*": -4}),
    Rule("no-faster", _tasks,
         "parameter-efficient methods do not speed prediction up; adapters, and LoRA until merged, slow it a little",
         f"{_SEED}; Rücklé et al. 2021: 4 to 6 %"),
    Rule("unlabelled", _unlabelled,
         "distil on the unlabelled texts: the teacher labels them, and a student learns from all of them",
         "Tang et al. 2019; Turc et al. 2019", {"*": 2}),
    Rule("unlabelled-and-teacher", _unlabelled_teacher,
         "distil the teacher into some of its layers or a pre-trained encoder: answers outnumber the labels by far",
         "Turc et al. 2019; Sanh et al. 2019", {"logits": 5, "distilbert": 5}),
    Rule("no-gpu", _no_gpu,
         "freezing runs its frozen layers once a text (the cache), and a BiLSTM is fast on a processor",
         "Lee et al. 2019; Tang et al. 2019; docs/cache.md", {"freezing": 0.5, "bilstm-soft": 0.5}),
    Rule("no-bfloat16", _no_bfloat16,
         "float32 is used: emulated bfloat16 is slower", "benchmarks/LOG.md, first figures"),
    Rule("no-biases", _no_biases,
         "BitFit has nothing to train; LoRA or adapters take its place", "Ben-Zaken et al. 2022", {"lora": 0.5}),
    Rule("quality-first", _enough,
         "tune every weight; a cheaper method comes close", "Devlin et al. 2019; Houlsby et al. 2019", {"full": 1}),
    Rule("doubtful-labels", _noisy,
         "look at these rows before anything is trained: wrong labels bound what any method can reach",
         "Northcutt et al. 2021 (confident learning), the idea"),
    Rule("repeats", _repeats,
         "remove repeated texts: in test they make results look better than they are",
         "benchmark corpora have them, too: R8 has test texts that are in train"),
    Rule("rare-classes", _unequal,
         "judge by macro F1, and collect more rows of the rare classes", "standard practice; no paper of ours"),
    Rule("token-labels", _tokens,
         "the BiLSTM labels whole texts: distil into an encoder with the teacher's tokenizer instead",
         "docs/methods/logits.md"),
)  # fmt: skip

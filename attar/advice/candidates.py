"""The candidates: for every method its recipes (one, or a teacher's and a student's) and their command lines."""

import shlex
from dataclasses import dataclass, field
from typing import Any

from attar.advice.encoder import Shape
from attar.advice.situation import Situation
from attar.recipe import config_of

#: Bytes of a word in both tables of the BiLSTM: twice 300 numbers.
WORD_BYTES = 2 * 300 * 4
#: Bytes of the BiLSTM beside its tables.
BILSTM_BYTES = 963_002 * 4
#: Rows that a training should see, over all epochs, and the epochs of most methods' defaults: with 1,000 labels, 8
#: epochs in batches of 16 brought full fine-tuning from 70 to 80 % (benchmarks/LOG.md).
_ROWS_SEEN, _PASSES = 8000, 3
#: Shapes of thin students, as (layers, width, feed-forward), the largest first; the first is TinyBERT4's.
_THIN = ((4, 312, 1200), (4, 264, 1024), (3, 264, 1024), (3, 192, 768), (2, 192, 768), (2, 128, 512))


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to go."""

    name: str
    """Name of the method that makes the result."""
    title: str
    recipes: tuple[dict[str, Any], ...]
    """Tables of the runs, in order. The last one makes the result; one before it makes its teacher."""
    shape: Shape | None
    """Sizes of the resulting encoder; None for the BiLSTM."""
    words: int = 0
    """Words in the BiLSTM's vocabulary."""
    extra: dict[str, int] = field(default_factory=dict)
    """What the method moves or adds: ``moving`` parameters, ``inserted`` parameters, ``top`` layers that move."""

    @property
    def distils(self) -> bool:
        """Whether a teacher is needed."""
        return self.recipes[-1]["command"] == "distill"

    @property
    def commands(self) -> list[str]:
        """Return the command lines, one a recipe."""
        return [command_line(recipe) for recipe in self.recipes]


def candidates(situation: Situation) -> list[Candidate]:
    """Return every way to go that the data and what was given allow."""
    found = _tuned(situation) if situation.model else []
    if situation.teacher or situation.model:
        found += _distilled(situation)
    return found


def _tuned(situation: Situation) -> list[Candidate]:
    shape = situation.shape
    head = (shape.width + 1) * situation.facts.labels
    pooler = shape.width * (shape.width + 1)  # moves with the top layers
    quarter = max(1, round(shape.layers / 4))
    inserted = 2 * (2 * shape.width * 64 + shape.width + 64) * shape.layers
    lora = 2 * 2 * 8 * shape.width * shape.layers
    whole = shape.parameters

    def make(name: str, title: str, method: dict[str, Any], **extra: int) -> Candidate:
        recipe = _recipe(situation, "finetune", {"name": name, **method}, model=situation.model)
        key = "head" if method.get("layers") == 0 else name
        return Candidate(name=key, title=title, recipes=(recipe,), shape=shape, extra=extra)

    found = [
        make("full", "tune every weight", {}, moving=whole + head, top=shape.layers),
        make("freezing", f"tune the top {quarter} of {shape.layers} layers", {"layers": quarter},
             moving=quarter * shape.layer_parameters + pooler + head, top=quarter),
        make("adapters", "tune adapters in a frozen encoder", {}, moving=inserted + shape.norms + head,
             inserted=inserted),
        make("lora", "tune low-rank updates of a frozen encoder", {}, moving=lora + head, inserted=lora),
        make("freezing", "train the head alone", {"layers": 0}, moving=pooler + head, top=0),
    ]  # fmt: skip
    if shape.biases:
        found.append(make("bitfit", "tune the biases", {}, moving=shape.biases + head))
    return found


def _distilled(situation: Situation) -> list[Candidate]:
    before = () if situation.teacher else (_teacher_recipe(situation),)
    teacher = situation.teacher or "teacher"
    shape = situation.teacher_shape
    found = []

    def make(name: str, title: str, method: dict[str, Any], student: Shape | None, words: int = 0) -> None:
        recipe = _recipe(situation, "distill", {"name": name, **method}, teacher={"bundles": [teacher]})
        recipe["data"] |= {"unlabelled": list(situation.unlabelled)} if situation.unlabelled else {}
        recipe["baseline"] = False
        found.append(Candidate(name=name, title=title, recipes=(*before, recipe), shape=student, words=words))

    if shape.layers > 1:
        half = shape.cut(shape.layers // 2)
        make("distilbert", f"distil into {half.layers} of the teacher's {shape.layers} layers", {}, half)
    if situation.teacher and situation.model:
        make("logits", "distil the teacher into the encoder", {"student": situation.model}, situation.shape)
    layers, width, inner = _thin_size(situation)
    thin = shape.thin(layers, width, inner)
    sizes: dict[str, Any] = {"layers": layers, "width": width, "feed_forward": inner}
    if _windowed_teacher(situation):  # it has no scores of whole texts to compare
        sizes["attention"] = "relations"
    make("tinybert", f"distil into a thin encoder of {layers} x {width}", sizes, thin)
    if situation.facts.kind != "token":
        words = _words(situation)
        smaller = words < situation.facts.words
        method = {"max_words": words, "teacher_words": False} if smaller else {}
        if not smaller:
            words = _vocabulary(situation)
        make("bilstm-soft", f"distil into a BiLSTM over {words:,} words", method, None, words)
    return found


def _teacher_recipe(situation: Situation) -> dict[str, Any]:
    """A teacher has to be made first: of all weights, or with few labels of the top layers."""
    quarter = max(1, round(situation.shape.layers / 4))
    method = {"name": "freezing", "layers": quarter} if situation.few else {"name": "full"}
    return _recipe(situation, "finetune", method, model=situation.model) | {"out": "teacher"}


def _thin_size(situation: Situation) -> tuple[int, int, int]:
    """Return the largest thin student that fits the size limit; its width divides by the teacher's heads."""
    shape = situation.teacher_shape
    fitting = []
    for layers, width, inner in _THIN:
        width = max(shape.heads, width // shape.heads * shape.heads)
        size = (min(layers, shape.layers), min(width, shape.width), min(inner, shape.feed_forward))
        fitting.append(size)
        if situation.limits.size is None or _thin_bytes(situation, size) <= situation.limits.size:
            return size
    return fitting[-1]


def _thin_bytes(situation: Situation, size: tuple[int, int, int]) -> int:
    return 4 * situation.teacher_shape.thin(*size).parameters + situation.tokenizer_bytes


def _words(situation: Situation) -> int:
    """Return the words that the size limit leaves room for; without one, those of the texts."""
    wanted = min(situation.facts.words, 50_000)
    if situation.limits.size is None:
        return wanted
    room = max(2000, int((situation.limits.size - BILSTM_BYTES) / (WORD_BYTES + 40)))  # 40: the tokenizer's entry
    return wanted if _vocabulary(situation) <= room else min(room, max(2000, wanted - 1))


def _vocabulary(situation: Situation) -> int:
    """Return the words of texts and teacher together; half of the texts' are taken to be among the teacher's."""
    return min(situation.facts.words, 50_000) // 2 + _teacher_words(situation.teacher_shape)


def _teacher_words(shape: Shape) -> int:
    """Whole words that a teacher's vocabulary adds; about 7 of 10 entries are whole words (BERT: 21,700 of 30,522)."""
    return int(0.7 * shape.table_parameters / shape.width)


def _recipe(situation: Situation, command: str, method: dict[str, Any], **given: Any) -> dict[str, Any]:
    name = method["name"]
    stem = {"finetune": "tuned", "distill": "student"}[command]
    recipe: dict[str, Any] = {
        "command": command,
        "out": f"{stem}-{'head' if method.get('layers') == 0 else name}",
        **given,
        "data": {"path": situation.data, **situation.settings},
        "method": method,
        "train": {},
    }
    epochs = config_of(recipe).train.epochs
    recipe["train"] |= {"max_length": situation.max_length, **_long(situation, name)}
    passes = min(20, round(_ROWS_SEEN / max(1, situation.facts.train)))
    if command == "finetune" and passes > _PASSES:
        recipe["train"] |= {"epochs": max(epochs, passes), "batch_size": 16}
    return recipe


def _long(situation: Situation, method: str) -> dict[str, Any]:
    """Return how a method reads texts that the encoder's limit cuts.

    Its whole encoder may get windows, and students cut from that have them; a delta stands beside the encoder as it
    is, and reads chunks. A BiLSTM costs no more a word on a long text.
    """
    windows = situation.windows
    if method == "bilstm-soft":
        return {}
    if windows and (method == "full" or (method == "distilbert" and _windowed_teacher(situation))):
        return {"long": "windowed", "max_length": windows}
    if not situation.chunks:
        return {}
    # TinyBERT's first stage runs a batch as a whole, and a text may have 16 chunks: few texts, averaged over several.
    return {"long": "chunks", **({"batch_size": 4, "accumulation": 8} if method == "tinybert" else {})}


def _windowed_teacher(situation: Situation) -> bool:
    """Return whether students learn from a teacher that has to be made first, and gets windows."""
    return situation.windows is not None and not situation.teacher and not situation.few


def command_line(recipe: dict[str, Any]) -> str:
    """Return the command that runs a recipe."""
    words = ["attar", recipe["command"]]
    for teacher in recipe.get("teacher", {}).get("bundles", ()):
        words += ["--teacher", teacher]
    if recipe.get("model"):
        words += ["--model", recipe["model"]]
    words += ["--data", recipe["data"]["path"]]
    for file in recipe["data"].get("unlabelled", ()):
        words += ["--unlabelled", file]
    words += _data_flags(recipe["data"])
    method = dict(recipe["method"])
    words += ["--method", method.pop("name")]
    flags = ("student",) if recipe["command"] == "distill" else ("layers",)
    for flag in flags:
        if flag in method:
            words += [f"--{flag}", str(method.pop(flag))]
    for key, value in recipe["train"].items():
        words += (
            ["--set", f"train.{key}={value}"] if key == "accumulation" else [f"--{key.replace('_', '-')}", str(value)]
        )
    for key, value in method.items():
        words += ["--set", f"method.{key}={str(value).lower() if isinstance(value, bool) else value}"]
    if recipe.get("baseline") is False:
        words.append("--no-baseline")
    return shlex.join([*words, "--out", recipe["out"]])


def _data_flags(data: dict[str, Any]) -> list[str]:
    """Return the flags of what is said of the data beside its path and unlabelled files."""
    words = []
    for key, value in data.items():
        if key in ("text", "pair", "task", "limit"):
            words += [f"--{key}", str(value)]
        elif key == "label":
            words += [word for label in value for word in ("--label", label)]
        elif key == "drop_bad_rows":
            words += ["--drop-bad-rows"] if value else []
        elif key not in ("path", "unlabelled"):
            words += ["--set", f"data.{key}={value}"]
    return words

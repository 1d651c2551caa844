import pytest
from datasets import ClassLabel, Dataset, Features, Value

from attar.config import DataConfig
from attar.data.columns import infer
from attar.errors import DataError

PROSE = ["a fine film", "a dull film", "no plot at all", "a joy"]
OTHER = ["what a night", "what a bore", "I left", "I stayed"]


def columns_of(table, **config):
    return infer(Dataset.from_dict(table), DataConfig(path="data.csv", **config))


@pytest.mark.parametrize(
    ("table", "text", "pair", "label"),
    [
        ({"text": PROSE, "label": ["a", "b"] * 2, "rating": [1, 2] * 2}, "text", None, ("label",)),
        ({"Review": PROSE, "Sentiment": ["a", "b"] * 2}, "Review", None, ("Sentiment",)),
        ({"idx": ["0", "1", "2", "3"], "snippet": PROSE, "y": ["0", "1"] * 2}, "snippet", None, ("y",)),
        ({"headline": PROSE, "lead": OTHER, "label": ["a", "b"] * 2}, "headline", "lead", ("label",)),
        ({"hypothesis": PROSE, "premise": OTHER, "label": [0, 1] * 2}, "premise", "hypothesis", ("label",)),
        ({"question": PROSE, "answer": OTHER, "label": [0, 1] * 2}, "question", "answer", ("label",)),
        ({"title": PROSE, "text": OTHER, "label": [0, 1] * 2}, "text", None, ("label",)),
        ({"text": PROSE, "genre": ["x", "y"] * 2}, "text", None, ("genre",)),
        ({"comment": PROSE, "toxic": ["0", "1"] * 2, "rude": ["1", "1"] * 2}, "comment", None, ("toxic", "rude")),
        ({"snippet": PROSE * 9, "source": ["x", "y"] * 18, "label": [0, 1] * 18}, "snippet", None, ("label",)),
    ],
)
def test_columns_by_name_and_content(table, text, pair, label):
    found = columns_of(table)
    assert (found.text, found.pair, found.label) == (text, pair, label)


def test_flags_override():
    table = {"text": PROSE, "body": OTHER, "label": [0, 1] * 2, "rating": [0.5, 1.0] * 2}
    found = columns_of(table, text="body", label=("rating",))
    assert (found.text, found.pair, found.label, found.kind) == ("body", None, ("rating",), "regression")
    found = columns_of(table, pair="body")
    assert (found.text, found.pair) == ("text", "body")
    assert columns_of({"text": PROSE, "label": list(range(4))}, task="regression").kind == "regression"


TOKENS = [["a", "film"], ["dull"]]


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        ({"text": PROSE, "label": ["a", "b"] * 2}, "single-label"),
        ({"text": PROSE, "label": [True, False] * 2}, "single-label"),
        ({"text": PROSE, "label": [1.0, 2.0] * 2}, "single-label"),
        ({"text": PROSE, "label": ["0", "1"] * 2}, "single-label"),
        ({"text": PROSE, "label": ["a|b", "b"] * 2}, "single-label"),
        ({"text": PROSE, "label": [1.5, 2.0] * 2}, "regression"),
        ({"text": PROSE, "label": ["1.5", " -2"] * 2}, "regression"),
        ({"text": PROSE, "label": ["1.5", "n/a"] * 2}, "single-label"),
        ({"text": PROSE[:2], "label": [["a"], []]}, "multi-label"),
        ({"tokens": TOKENS, "tags": [["x", "y"], ["x"]], "genre": ["n", "m"]}, "token"),
        ({"id": ["1", "2"], "tokens": TOKENS, "pos_tags": [[1, 2], [1]], "ner_tags": [[0, 1], [0]]}, "token"),
    ],
)
def test_kind(table, kind):
    assert columns_of(table).kind == kind


def test_many_whole_numbers():
    texts = [f"text {i}" for i in range(400)]
    intents = columns_of({"text": texts, "intent": [i % 60 for i in range(400)]})
    assert intents.kind == "single-label"
    assert "60 whole numbers, taken as classes" in intents.notes[1]
    assert columns_of({"text": texts, "score": [i % 60 for i in range(400)]}).kind == "regression"
    prices = columns_of({"text": texts, "label": [7 * (i % 60) for i in range(400)]})
    assert prices.kind == "regression"
    assert "--task" in prices.notes[1]
    features = Features({"text": Value("string"), "label": ClassLabel(num_classes=400)})
    hub = Dataset.from_dict({"text": texts, "label": list(range(400))}, features=features)
    assert infer(hub, DataConfig(path="hub")).kind == "single-label"


def test_notes_say_what_was_inferred():
    table = {"text": PROSE, "label": ["a", "b"] * 2, "rating": [1, 2] * 2}
    expected = "text column 'text', label column 'label', single-label task (inferred); not used: 'rating'"
    assert columns_of(table).notes == (expected,)
    given = columns_of(table, text="text", label=("label",), task="single-label")
    assert "inferred" not in given.notes[0]


@pytest.mark.parametrize(
    ("table", "config", "expected"),
    [
        ({"text": PROSE, "label": [0, 1] * 2}, {"text": "txt"}, "column 'txt', found text, label; did you mean 'text'"),
        ({"text": PROSE, "label": [0, 1] * 2}, {"label": ("labels",)}, "did you mean 'label'"),
        ({"text": PROSE, "a": OTHER, "b": OTHER}, {}, "found text, a, b; name the label column"),
        ({"a": PROSE, "b": OTHER, "c": PROSE, "label": [0, 1] * 2}, {}, "name the text column"),
        ({"text": PROSE, "label": [0, 1] * 2}, {"text": "label", "label": ("label",)}, "found one named twice"),
        ({"text": [1, 2], "label": [0, 1]}, {"text": "text"}, "expected text in column 'text', found int64"),
        ({"text": PROSE, "label": [0, 1] * 2}, {"task": "token"}, "expected lists of tokens"),
        ({"tokens": TOKENS, "label": [0, 1]}, {"text": "tokens"}, "expected text in column 'tokens'"),
        ({"text": PROSE[:2], "label": [["a"], []]}, {"task": "regression"}, "one label a row"),
        ({"text": PROSE[:2], "a": [["a"], []], "b": [1, 0]}, {"label": ("a", "b")}, "expected 0 or 1"),
    ],
)
def test_columns_that_do_not_fit(table, config, expected):
    with pytest.raises(DataError, match=expected):
        columns_of(table, **config)

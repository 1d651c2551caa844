"""Advice: facts of toy data, rules one by one, costs that follow from sizes, limits, commands that can be run."""

import dataclasses
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import typer.main
from datasets import Dataset

from attar.advice.bands import FEW, MANY
from attar.advice.candidates import candidates, command_line
from attar.advice.encoder import Shape, read_shape
from attar.advice.estimates import estimate, loop_seconds, stored_states
from attar.advice.facts import Facts, gather
from attar.advice.machine import Machine
from attar.advice.probe import corrected, run_steps
from attar.advice.rank import rank, verdict
from attar.advice.recommend import limits_of
from attar.advice.rules import RULES, fired
from attar.advice.situation import Limits, Situation
from attar.cli.main import app
from attar.data.task import TaskData
from attar.errors import ConfigError
from attar.recipe import config_of

SHAPE = Shape(name="bert", family="bert", layers=12, width=768, feed_forward=3072, heads=12, parameters=109_482_240,
              layer_parameters=7_087_872, biases=102_912, norms=38_400, positions=512)  # fmt: skip
HARDWARE = {"device": "cuda", "cores": 8, "native_bfloat16": True, "gpu": "one", "memory_gib": 64}
MACHINE = Machine(hardware=HARDWARE, forward_rate=1e11, train_rate=1e11, single_rate=5e10, dispatch=2e-4, overhead=1e-3,
                  adam=1e-9, lstm_step=0.05, table_step=5e-9, lstm_single=2e-3, resident=600 * 2**20)  # fmt: skip
FACTS = Facts(kind="single-label", pair=False, labels=2, train=8000, dev=1000, test=1000, unlabelled=0,
              smallest_class=4000, majority=0.5, length_median=30, length_p95=60, length_max=90, limit=512, cut=0.0,
              lost=0.0, duplicates=0, leaked=0, conflicts=0, linear=0.8, doubtful=0.0, words=20_000,
              words_per_text=25.0, lengths=(20, 30, 60), sampled=3)  # fmt: skip


def situation(
    *, model="enc", teacher=None, tasks=1, limits=Limits(), machine=None, shape=SHAPE, files=(), settings=None, **facts
):
    return Situation(
        data="d.csv", settings=settings or {},
        model=model, teacher=teacher, unlabelled=files, tasks=tasks, limits=limits, shape=shape,
        facts=dataclasses.replace(FACTS, **facts), teacher_shape=SHAPE,
        machine=dataclasses.replace(MACHINE, hardware=HARDWARE | (machine or {})),
    )  # fmt: skip


def ranked(s):
    return rank([(c, estimate(c, s)) for c in candidates(s)], s, fired(s))


def named(s, name):
    return next(c for c in candidates(s) if c.name == name)


def cost(s, name):
    return estimate(named(s, name), s)


# Facts -------------------------------------------------------------------------------------------------------------


def data_of(make_task, texts, labels, dev):
    rows = Dataset.from_dict({"text": texts, "label": labels})
    other = Dataset.from_dict({"text": dev, "label": [0] * len(dev)})
    return TaskData(task=make_task(), source="x", fingerprint="x", train=rows, dev=other, test=None, unlabelled=None)


def test_facts_count_what_is_cut_repeated_leaked_and_contradicted(make_task, tokenizer):
    texts = ["good film", "good film", "bad plot", "bad plot", "the film was very good and bright and lovely"]
    found = gather(data_of(make_task, texts, [1, 1, 0, 1, 1], ["bad plot", "dull"]), tokenizer, 6)
    assert (found.duplicates, found.leaked, found.conflicts) == (2, 1, 2)
    assert found.smallest_class == 1 and found.majority == 0.8
    assert found.length_median == 4 and found.length_max == 11  # two special tokens each
    assert found.cut == 0.2 and found.lost == pytest.approx(5 / 27, abs=1e-4)
    assert found.tokens(6) == pytest.approx((4 * 4 + 6) / 5) and found.longest(6) == 6


def test_a_sure_answer_against_the_label_is_counted(make_task, tokenizer):
    texts = [f"{word} {i}" for i in range(60) for word in ("superb lovely bright", "awful dull boring")]
    labels = [1, 0] * 60
    clean = gather(data_of(make_task, texts, labels, ["x"]), tokenizer, 64)
    wrong = gather(data_of(make_task, texts, [1 - labels[0], *labels[1:]], ["x"]), tokenizer, 64)
    assert clean.doubtful == 0 and clean.linear == 1
    assert wrong.doubtful == pytest.approx(1 / 120, abs=1e-4)


def test_an_encoders_sizes_are_those_of_its_model(make_folder, make_model, family):
    shape, _ = read_shape(make_folder(family=family))
    model = make_model(family)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert (shape.layers, shape.width) == (2, 32)
    assert (shape.biases == 0) == (family == "modernbert")


def test_thin_sizes_are_those_of_tinybert():
    assert SHAPE.thin(4, 312, 1200).parameters == pytest.approx(14_350_248, rel=0.03)
    assert SHAPE.cut(6).parameters == 109_482_240 - 6 * 7_087_872


# Rules -------------------------------------------------------------------------------------------------------------

#: For every rule, a situation in which it applies, beside one (of nothing special) in which it does not.
CASES = {
    "long-documents": {"cut": 0.3},
    "latency": {"limits": Limits(latency_ms=5)},
    "small-on-disk": {"limits": Limits(size=50_000_000)},
    "small-memory": {"limits": Limits(memory=2**31)},
    "needs-a-teacher": {},
    "tune-then-distil": {"limits": Limits(latency_ms=5)},
    "few-labels": {"train": 200},
    "many-tasks": {"tasks": 20},
    "no-faster": {"tasks": 20},
    "unlabelled": {"train": 1000, "unlabelled": 7000},
    "unlabelled-and-teacher": {"train": 1000, "unlabelled": 7000, "teacher": "t"},
    "no-gpu": {"machine": {"device": "cpu"}},
    "no-bfloat16": {"machine": {"native_bfloat16": False}},
    "no-biases": {"shape": dataclasses.replace(SHAPE, biases=0)},
    "quality-first": {},
    "doubtful-labels": {"doubtful": 0.05},
    "repeats": {"duplicates": 100},
    "rare-classes": {"smallest_class": 3},
    "token-labels": {"kind": "token"},
}
NOTHING = {"teacher": "t", "train": 8000, "limits": Limits(train_seconds=1e9)}


def test_every_rule_has_a_case_and_a_source_and_an_id_of_its_own():
    assert [rule.id for rule in RULES] == list(CASES)
    assert all(rule.source and rule.advice for rule in RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_applies_in_its_case_and_not_otherwise(rule):
    assert rule.when(situation(**CASES[rule.id]))
    assert rule.when(situation(**NOTHING)) is None
    assert set(rule.weights) <= {*MANY, "*"}


def test_bands_and_candidates_have_the_same_names():
    names = {c.name for s in (situation(), situation(teacher="t")) for c in candidates(s)}
    assert names == set(MANY) == set(FEW)


# Ranking: the cases of the seed ------------------------------------------------------------------------------------


def test_few_labels_put_a_method_that_freezes_first():
    assert ranked(situation(train=200))[0].candidate.name in {"freezing", "lora", "adapters", "bitfit"}


def test_many_tasks_put_deltas_first_and_count_one_encoder():
    s = situation(tasks=20)
    assert {r.candidate.name for r in ranked(s)[:2]} <= {"lora", "adapters", "bitfit"}
    assert cost(s, "full").all_tasks.value == pytest.approx(20 * cost(s, "full").size.value)
    assert cost(s, "lora").all_tasks.value < 1.1 * cost(s, "lora").size.value


def test_tight_latency_and_size_put_a_small_student_first_with_its_teacher():
    first = ranked(situation(limits=Limits(latency_ms=5, size=50_000_000)))[0]
    assert first.candidate.name == "bilstm-soft" and not first.misses
    assert len(first.candidate.commands) == 2 and "--teacher teacher" in first.candidate.commands[1]
    assert first.estimate.size.value <= 50_000_000


def test_unlabelled_text_and_a_teacher_put_distillation_first():
    s = situation(train=1000, unlabelled=7000, files=("u.txt",), teacher="t")
    first = ranked(s)[0]
    assert first.candidate.name in ("logits", "distilbert") and "--unlabelled u.txt" in first.candidate.commands[0]


def test_enough_labels_and_no_limit_put_full_tuning_first():
    assert ranked(situation())[0].candidate.name == "full"


def test_an_impossible_budget_is_said_with_the_nearest():
    s = situation(limits=Limits(latency_ms=0.001))
    entries = ranked(s)
    assert all(r.misses for r in entries)
    assert "latency" in verdict(entries, s) and entries[0].candidate.title in verdict(entries, s)
    assert verdict(ranked(situation()), situation()) is None


def test_limits_that_contradict_each_other_are_told_from_one_that_is_impossible():
    slow, fast = cost(situation(), "full").seconds.value, cost(situation(), "bilstm-soft").latency_ms.value
    head = cost(situation(), "head").seconds.value
    s = situation(limits=Limits(latency_ms=fast * 1.5, train_seconds=head * 1.5))
    assert slow > head and "though each can be kept" in verdict(ranked(s), s)


@pytest.mark.parametrize(
    ("limit", "message"),
    [((-1, None, None, None), "max-latency-ms"), ((None, "much", None, None), "max-memory"),
     ((float("nan"), None, None, None), "max-latency-ms"), ((None, None, "0", None), "max-size"),
     ((None, None, None, "soon"), "train-budget")],
)  # fmt: skip
def test_a_limit_that_is_none_is_refused(limit, message):
    with pytest.raises(ConfigError, match=message):
        limits_of(*limit)


# Costs -------------------------------------------------------------------------------------------------------------


def test_costs_follow_the_papers_ratios():
    def once(name):
        return cost(s, name).seconds.value / config_of(named(s, name).recipes[0]).train.epochs

    s = situation(dev=1)
    assert once("bitfit") / once("full") == pytest.approx(2 / 3, rel=0.1)  # 2F against 3F
    assert once("freezing") < 0.5 * once("full")  # 1.5F, and the prefix runs once
    assert cost(s, "distilbert").latency_ms.value < 0.6 * cost(s, "full").latency_ms.value
    assert cost(s, "adapters").latency_ms.value > cost(s, "full").latency_ms.value
    assert cost(s, "bitfit").memory.value < 0.6 * cost(s, "full").memory.value


def test_a_teacher_at_hand_saves_its_training():
    for name in ("distilbert", "tinybert", "bilstm-soft"):
        assert cost(situation(teacher="t"), name).seconds.value < cost(situation(), name).seconds.value


def test_a_probe_scales_the_loop_by_what_was_measured():
    s = situation()
    candidate, guess = named(s, "full"), cost(s, "full")
    lengths = (20,) * 128 + (60,) * 128
    short = dataclasses.replace(s, facts=dataclasses.replace(s.facts, train=256, dev=0, lengths=lengths))
    recipe = {**candidate.recipes[0], "train": {**candidate.recipes[0]["train"], "epochs": 1}}
    expected = estimate(dataclasses.replace(candidate, recipes=(recipe,)), short).seconds.value
    measured = {"lengths": list(lengths), "steps": 8, "step_seconds": 2 * expected / 8, "step_spread": 0.1,
                "latency_ms": 3.0, "latency_low": 2.0, "latency_high": 4.0, "peak": 10**9}  # fmt: skip
    found = corrected(candidate, guess, s, measured)
    assert found.seconds.value == pytest.approx(2 * guess.seconds.value)
    assert found.seconds.low < found.seconds.value < found.seconds.high
    assert found.latency_ms.value == 3.0 and found.memory.value == 10**9


def test_a_token_stands_in_a_longer_text_than_the_mean():
    facts = situation(lengths=(10, 10, 10, 370)).facts
    assert facts.tokens(400) == 100
    assert facts.attended(400) == pytest.approx((3 * 10 * 10 + 370 * 370) / 400)
    assert facts.attended(10) == 10
    # Attention's share of a few long texts is that of long texts.
    even, uneven = (situation(length_p95=370, lengths=lengths) for lengths in ((100,) * 4, (10, 10, 10, 370)))
    assert cost(uneven, "full").seconds.value > cost(even, "full").seconds.value


LONG = dict(cut=0.2, length_p95=900, length_max=3000, lengths=(400, 900, 3000))


def train_of(s, name, recipe=-1):
    return named(s, name).recipes[recipe]["train"]


def test_long_documents_are_read_in_windows_by_whole_encoders_and_in_chunks_by_deltas():
    windowed = {"long": "windowed", "max_length": 928}
    assert train_of(situation(**LONG), "full").items() >= windowed.items()
    assert train_of(situation(**LONG), "distilbert").items() >= windowed.items()
    assert train_of(situation(**LONG), "distilbert", 0).items() >= windowed.items(), "its teacher"
    for name in ("freezing", "adapters", "lora", "bitfit", "head", "tinybert"):
        found = train_of(situation(**LONG), name)
        assert (found["long"], found["max_length"]) == ("chunks", 512)
    assert "long" not in train_of(situation(**LONG), "bilstm-soft")


def test_a_thin_student_compares_relations_where_its_teacher_has_windows():
    assert named(situation(**LONG), "tinybert").recipes[-1]["method"]["attention"] == "relations"
    for s in (situation(teacher="t", **LONG), situation(train=200, **LONG), situation()):
        assert "attention" not in named(s, "tinybert").recipes[-1]["method"]


def test_windows_and_chunks_have_their_bounds():
    # A student of a given teacher has the teacher's attention, and DeBERTa takes no windows.
    assert train_of(situation(teacher="t", **LONG), "distilbert")["long"] == "chunks"
    deberta = dataclasses.replace(SHAPE, family="deberta-v2")
    assert train_of(situation(shape=deberta, **LONG), "full")["long"] == "chunks"
    # Pairs are not cut in the middle, but windows read them.
    assert train_of(situation(pair=True, **LONG), "full")["long"] == "windowed"
    assert "long" not in train_of(situation(pair=True, **LONG), "lora")
    assert train_of(situation(**{**LONG, "length_p95": 90_000}), "full")["max_length"] == 4096
    assert "long" not in train_of(situation(**{**LONG, "cut": 0.01}), "full")


def test_a_window_costs_less_than_attention_to_the_whole_text():
    long = situation(**LONG)
    whole = named(long, "full")
    recipe = whole.recipes[0]
    full = dataclasses.replace(whole, recipes=({**recipe, "train": {**recipe["train"], "long": "truncate"}},))
    assert estimate(whole, long).seconds.value < 0.95 * estimate(full, long).seconds.value


def test_a_batch_of_long_texts_takes_the_memory_of_the_tokens_that_run_at_a_time():
    long = {**LONG, "length_p95": 4000, "length_max": 4000, "lengths": (4000,) * 3}
    few, many = (
        dataclasses.replace(c, recipes=({**c.recipes[0], "train": {**c.recipes[0]["train"], "batch_size": size}},))
        for c in [named(situation(**long), "full")]
        for size in (2, 32)
    )
    assert estimate(few, situation(**long)).memory.value == pytest.approx(
        estimate(many, situation(**long)).memory.value, rel=0.03
    )


def test_the_scores_of_chunks_grow_with_a_text_and_not_with_its_square():
    def memory(length):
        s = situation(**{**LONG, "length_p95": length, "length_max": length, "lengths": (length,) * 3})
        return cost(s, "tinybert").memory.value

    assert memory(8000) < 2.2 * memory(4000)


def test_a_teacher_whose_layers_are_kept_runs_once_a_text():
    s = situation()
    student = named(s, "tinybert")

    def seconds(limit):
        recipe = {**student.recipes[-1], "train": {**student.recipes[-1]["train"], "cache_limit": limit}}
        return loop_seconds(dataclasses.replace(student, recipes=(recipe,)), s, recipe)

    # Embeddings, and states and scores of the mapped layers, 2 bytes each: room for half of the texts.
    tokens = (s.facts.train + s.facts.unlabelled + s.facts.dev) * s.facts.tokens(128)
    layers = student.shape.layers
    half = round(tokens * ((1 + layers) * SHAPE.width + layers * SHAPE.heads * s.facts.attended(128)))
    assert seconds("0") > 2 * seconds("1TiB")
    assert seconds(str(half)) == pytest.approx((seconds("0") + seconds("1TiB")) / 2, rel=0.01)


def test_the_stored_states_of_a_frozen_prefix_take_memory():
    s = situation()
    top = named(s, "freezing")

    def found(limit):
        recipe = {**top.recipes[0], "train": {**top.recipes[0]["train"], "cache_limit": limit}}
        candidate = dataclasses.replace(top, recipes=(recipe,))
        guess = estimate(candidate, s)
        measured = {"lengths": [30], "steps": 1, "step_seconds": 1.0, "step_spread": 0.1, "latency_ms": 3.0,
                    "latency_low": 2.0, "latency_high": 4.0, "peak": 10**9}  # fmt: skip
        return guess.memory.value, corrected(candidate, guess, s, measured).memory.value

    states = 9000 * s.facts.tokens(128) * SHAPE.width * 2
    assert np.subtract(found("1TiB"), found("0")) == pytest.approx([states, states])
    assert stored_states(s, config_of(named(s, "full").recipes[0]).method, config_of(top.recipes[0]).train) == 0


def test_training_has_to_fit_into_the_machine():
    small = situation(machine={"gpu": None, "memory_gib": 1.5})
    ranked = rank([(c, estimate(c, small)) for c in candidates(small)], small, fired(small))
    missed = {r.candidate.name for r in ranked if any("memory" in miss for miss in r.misses)}
    assert "full" in missed and "head" not in missed


# What to run next --------------------------------------------------------------------------------------------------

SITUATIONS = [
    situation(),
    situation(train=200),
    situation(teacher="some teacher", files=("more.txt",)),
    situation(limits=Limits(size=30_000_000)),
    situation(kind="token"),
    situation(cut=0.2, length_p95=900, length_max=3000),
    situation(settings={"text": "a b", "label": ["x", "y"], "limit": 200, "drop_bad_rows": True, "split_seed": 3}),
]


@pytest.mark.parametrize("s", SITUATIONS)
def test_every_command_parses_into_the_recipe_that_it_stands_for(s, monkeypatch):
    from attar.cli import execute
    from attar.config import override

    resolved = []

    def resolve(table, *, settings, **_):
        for assignment in settings or []:
            override(table, assignment)
        resolved.append(config_of(table))

    monkeypatch.setattr(execute, "execute", resolve)
    for recipe in (recipe for c in candidates(s) for recipe in c.recipes):
        words = shlex.split(command_line(recipe))
        command = typer.main.get_command(app).commands[words[1]]
        with command.make_context(words[1], words[2:]) as context:
            command.invoke(context)
        assert resolved.pop() == config_of(recipe)


def test_token_classification_has_no_bilstm():
    assert "bilstm-soft" not in {c.name for c in candidates(situation(kind="token"))}


def test_a_probe_runs_the_recipes_own_plan(make_folder, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("text,label\n" + "\n".join(f"{w} film {i},{w}" for i in range(40) for w in ("good", "bad")))
    recipe = {"command": "finetune", "model": make_folder("enc"), "out": "x", "data": {"path": str(file)},
              "method": {"name": "bitfit"}, "train": {"max_length": 16, "batch_size": 4}}  # fmt: skip
    found = run_steps(recipe, 4, tmp_path / "probe")
    assert found["steps"] == 4 and len(found["lengths"]) == 16 and found["step_seconds"] > 0
    assert found["latency_low"] <= found["latency_ms"] <= found["latency_high"] and found["peak"] > 2**20


def test_a_probe_has_batches_of_one_length_as_a_run_has(make_folder, tmp_path):
    file = tmp_path / "rows.csv"
    texts = (f"{word} {'film ' * (1 + 3 * (i % 5))}{i}" for i in range(40) for word in ("good", "bad"))
    file.write_text("text,label\n" + "\n".join(f"{text},{text.split()[0]}" for text in texts))
    recipe = {"command": "finetune", "model": make_folder("enc"), "out": "x", "data": {"path": str(file)},
              "method": {"name": "bitfit"}, "train": {"max_length": 32, "batch_size": 4}}  # fmt: skip
    batches = np.array(run_steps(recipe, 4, tmp_path / "probe")["lengths"]).reshape(4, 4)
    assert (np.ptp(batches, axis=1) <= 3).all(), batches  # numbers have some pieces more or fewer
    assert np.ptp(batches) > 3


def test_what_moves_is_counted_as_in_a_run_of_minilm():
    minilm = Shape(name="m", family="bert", layers=6, width=384, feed_forward=1536, heads=12, parameters=22_713_216,
                   layer_parameters=1_774_464, biases=26_112, norms=9_984, positions=512)  # fmt: skip
    moving = {c.name: c.extra["moving"] for c in candidates(situation(shape=minilm)) if not c.distils}
    assert moving == {"full": 22_713_986, "head": 148_610, "bitfit": 26_882, "adapters": 605_954, "lora": 74_498,
                      "freezing": 2 * 1_774_464 + 148_610}  # fmt: skip


def test_the_page_lists_every_rule():
    page = (Path(__file__).resolve().parents[2] / "docs" / "choosing-a-method.md").read_text()
    assert re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE) == [rule.id for rule in RULES]


def test_texts_of_stop_words_alone_have_no_doubtful_labels(make_task, tokenizer):
    found = gather(data_of(make_task, ["the of and", "to a"] * 40, [0, 1] * 40, ["x"]), tokenizer, 64)
    assert (found.doubtful, found.linear) == (None, None)

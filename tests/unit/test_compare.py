import json
import sys

import numpy as np
import pytest
from rich.console import Console

from attar.compare.folder import sole_user
from attar.compare.grid import cells_of, grid_of
from attar.compare.process import run_apart
from attar.compare.schedule import Spent, estimate, next_cell
from attar.compare.significance import differences, metric, text_statistics
from attar.errors import BundleError, ConfigError
from attar.report.costs import COSTS
from attar.report.grid import render_grid
from attar.report.pareto import front
from attar.sizes import parse_duration


def table(**changes):
    methods = [{"name": "full"}, {"name": "bitfit"}, {"name": "bilstm-soft", "vectors": "random"}]
    return {"out": "out", "model": "m", "data": {"path": "d.csv"}, "method": methods, "seeds": [0, 1]} | changes


# The grid ------------------------------------------------------------------------------------------------------------


def test_every_cell_has_the_same_data_and_its_own_seed_and_settings():
    grid = grid_of(table(train={"epochs": 2}, method=[{"name": "full", "train": {"epochs": 5}}, {"name": "bitfit"}]))
    cells = cells_of(grid)
    assert [cell.name for cell in cells] == ["full-0", "bitfit-0", "full-1", "bitfit-1"]
    assert [cell.table["train"] for cell in cells[:2]] == [{"epochs": 5, "seed": 0}, {"epochs": 2, "seed": 0}]
    assert all(cell.table["data"] == {"path": "d.csv"} and cell.table["baseline"] is False for cell in cells)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": [{"name": "bitfitt"}]}, "did you mean 'bitfit'"),
        ({"method": []}, "at least one"),
        ({"method": [{"name": "bitfit"}, {"name": "bitfit"}]}, "called 'bitfit'"),
        ({"method": [{"name": "bitfit", "as": "a/b"}]}, "names a folder"),
        ({"method": [{"name": "bitfit", "augment": {"method": "tang"}}]}, "no teacher"),
        ({"method": [{"name": "bitfit", "layerz": 2}]}, "layerz"),
        ({"method": [{"name": "logits"}]}, "needs a teacher"),
        ({"model": None}, "tunes an encoder"),
        ({"seeds": [1, 1]}, "different seeds"),
        ({"budget": "soon"}, "found 'soon'"),
        ({"budget": ""}, "budget"),
        ({"method": [{"name": "bitfit", "train": 5}]}, "table of settings; found 5"),
        ({"data": "d.csv"}, "data"),
        ({"sedes": [1]}, "did you mean 'seeds'"),
    ],
)
def test_a_grid_that_cannot_run_is_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        grid_of({key: value for key, value in table(**changes).items() if value is not None})


def test_two_forms_of_one_method_are_told_apart():
    methods = [{"name": "freezing", "layers": 1, "as": "top-1"}, {"name": "freezing", "layers": 2, "as": "top-2"}]
    assert [cell.label for cell in cells_of(grid_of(table(method=methods, seeds=[3])))] == ["top-1", "top-2"]


@pytest.mark.parametrize(("text", "seconds"), [("2h", 7200), ("90min", 5400), ("1h30min", 5400), ("1.5 s", 1.5)])
def test_durations_are_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "-1h", "0s", "2 weeks"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


# The order -----------------------------------------------------------------------------------------------------------


def order(cells, seconds):
    """The order in which runs come that take `seconds` by label."""
    waiting, spent = list(cells), []
    while waiting:
        cell = next_cell(waiting, waiting, spent)
        waiting.remove(cell)
        spent.append(Spent(cell, seconds[cell.label]))
    return [s.cell.name for s in spent]


def test_first_seeds_come_first_and_then_the_cheapest():
    cells = cells_of(grid_of(table(method=[{"name": "full"}, {"name": "freezing"}], seeds=[0, 1, 2])))
    # By the settings freezing is thought cheaper; what was measured then says that it is not.
    assert order(cells, {"full": 1.0, "freezing": 9.0}) == [
        "freezing-0", "full-0", "full-1", "full-2", "freezing-1", "freezing-2",
    ]  # fmt: skip


def test_a_run_is_estimated_by_its_own_method_and_else_by_the_others():
    methods = [{"name": "full"}, {"name": "bitfit"}]
    full, bitfit = cells_of(grid_of(table(method=methods, seeds=[0], train={"epochs": 3})))
    assert estimate(full, []) is None
    assert estimate(full, [Spent(full, 10.0), Spent(full, 20.0), Spent(bitfit, 1.0)]) == 15.0
    assert estimate(full, [Spent(bitfit, 10.0)]) == 15.0
    assert estimate(bitfit, [Spent(full, 10.0)]) == 10.0  # no run is shorter than the shortest so far


def test_a_folder_is_used_by_one_comparison_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("attar.compare.folder._PATIENCE", 0.1)
    with sole_user(tmp_path / "c", resume=False):
        with pytest.raises(BundleError, match="another comparison"), sole_user(tmp_path / "c", resume=True):
            pass
        with pytest.raises(BundleError, match="--resume"), sole_user(tmp_path / "c", resume=False):
            pass
    with sole_user(tmp_path / "c", resume=True):
        pass


# Significance --------------------------------------------------------------------------------------------------------


def flips(n, right, seed):
    rng = np.random.default_rng(seed)
    return np.stack([(rng.random(n) < right).astype(float), np.ones(n)], axis=1)


def test_a_large_difference_is_significant_and_none_is_not():
    runs = {
        "good": {s: flips(400, 0.9, s) for s in range(3)},
        "also": {s: flips(400, 0.9, 10 + s) for s in range(3)},
        "poor": {s: flips(400, 0.6, 20 + s) for s in range(3)},
    }
    found = {frozenset((pair["a"], pair["b"])): pair for pair in differences(runs, "single-label", samples=500)}
    large = found[frozenset(("good", "poor"))]
    assert large["p_holm"] < 0.05 < found[frozenset(("good", "also"))]["p_holm"]
    assert (large["a"], large["b"]) == ("good", "poor")
    assert 0 < large["low"] <= large["difference"] <= large["high"]
    assert all(pair["difference"] >= 0 and pair["p"] <= pair["p_holm"] <= 1 for pair in found.values())


def test_two_equal_models_do_not_differ():
    runs = {"a": {0: flips(100, 0.8, 1)}, "b": {0: flips(100, 0.8, 1)}}
    (pair,) = differences(runs, "single-label", samples=200)
    assert (pair["difference"], pair["p"]) == (0.0, 1.0)


def test_seeds_that_swing_take_the_certainty_away():
    steady = {"a": {s: flips(2000, 0.85, s) for s in range(3)}, "b": {s: flips(2000, 0.8, 9 + s) for s in range(3)}}
    swinging = {"a": {s: flips(2000, (0.98, 0.70, 0.87)[s], s) for s in range(3)}, "b": steady["b"]}
    (sure,), (unsure,) = (differences(runs, "single-label", samples=500) for runs in (steady, swinging))
    assert sure["p"] < 0.05 < unsure["p"]
    assert unsure["high"] - unsure["low"] > 3 * (sure["high"] - sure["low"])


def test_only_common_seeds_are_compared():
    one, two = flips(50, 0.5, 0), flips(50, 0.5, 1)
    (pair,) = differences({"a": {0: one, 1: two}, "b": {1: two, 2: one}}, "single-label", samples=50)
    assert (pair["seeds"], pair["difference"]) == (1, 0.0)
    assert differences({"a": {0: one}, "b": {1: two}}, "single-label", samples=50) == []


def test_the_statistics_sum_to_the_headline_metric():
    from scipy import stats
    from sklearn.metrics import f1_score

    assert metric(text_statistics(["a", "b", "a"], ["a", "a", "a"], "single-label").sum(0), "single-label") == 2 / 3
    assert metric(text_statistics([["O", "B"], ["O"]], [["O", "O"], ["O"]], "token").sum(0), "token") == 2 / 3
    true, said = [["x, z", "y"], [], ["y"]], [["x, z"], ["y"], ["y"]]
    grid = [[[name in row for name in ("x, z", "y")] for row in rows] for rows in (true, said)]
    found = metric(text_statistics(true, said, "multi-label").sum(0), "multi-label")
    assert found == pytest.approx(f1_score(*grid, average="micro"))
    x, y = np.random.default_rng(0).normal(size=(2, 30))
    r = metric(text_statistics(x, y, "regression").sum(0), "regression")
    assert r == pytest.approx(stats.pearsonr(x, y).statistic)
    far = metric(text_statistics(x + 1e9, y + 1e9, "regression").sum(0), "regression")
    assert far == pytest.approx(r, abs=1e-4)
    cut_off = text_statistics([["O", "B", "O"]], [["O", None, "B"]], "token")
    assert metric(cut_off.sum(0), "token") == 0.5, "a word that the model did not read counts neither way"


# What is shown -------------------------------------------------------------------------------------------------------


def test_the_front_holds_what_no_other_beats():
    points = [(0.9, 10.0), (0.8, 10.0), (0.7, 1.0), (0.6, 5.0), (0.95, 20.0), (None, 0.1), (0.9, 10.0)]
    assert front(points) == [2, 0, 4]
    assert front([]) == []


def test_the_terminal_says_what_failed_and_what_is_beyond_chance():
    spread = {"mean": 0.9, "std": 0.01}
    costs = {key: {"mean": 5.0, "std": None} for key in COSTS}
    record = {
        "name": "c",
        "metric": "accuracy",
        "splits": {"same": True, "seed": 0, "judged_on": "test"},
        "methods": [{"label": "full", "seeds": [0, 1], "quality": spread, **costs}],
        "fronts": {"bytes": ["full"]},
        "differences": [{"a": "full", "b": "lora", "difference": 0.1, "low": 0.05, "high": 0.2, "p_holm": 0.01}],
        "runs": [{"label": "lora", "seed": 1, "status": "failed", "error": "killed by SIGKILL"}],
    }
    assert json.loads(json.dumps(record)) == record
    console = Console(width=120, record=True)
    console.print(render_grid(record))
    text = console.export_text()
    assert "lora, seed 1: failed, killed by SIGKILL." in text
    assert "0.900 ± 0.010" in text
    assert "yes" in text


# Processes -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def apart(tmp_path, monkeypatch):
    """Run a line of Python in the place of a run."""

    def run(code, limit=None):
        monkeypatch.setattr("attar.compare.process._command", lambda recipe: [sys.executable, "-c", code])
        with sole_user(tmp_path / "c", resume=True) as lock:
            return run_apart(tmp_path / "recipe", tmp_path / "c" / "logs" / "run.log", limit=limit, lock=lock)

    return run


def test_what_came_of_a_process_is_told_in_one_line(apart):
    assert apart("pass")["status"] == "done"
    told = apart("import sys; print('error: no such file', file=sys.stderr); sys.exit(2)")
    assert (told["status"], told["error"]) == ("failed", "no such file")
    assert apart("raise ValueError('odd')")["error"] == "ValueError: odd"
    assert "SIGKILL" in apart("import os; os.kill(os.getpid(), 9)")["error"]


def test_a_process_is_stopped_at_its_limit(apart):
    stopped = apart("import time; time.sleep(60)", limit=0.2)
    assert stopped["status"] == "stopped"
    assert 0.2 <= stopped["seconds"] < 30

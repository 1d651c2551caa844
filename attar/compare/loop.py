"""The main path of a comparison: grid → runs, one after another, within the budget → comparison record."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attar.compare.folder import read_outcome, sole_user, write_outcome, write_recipe
from attar.compare.grid import Cell, Grid, budget_of, cells_of, grid_of, recipe_text, with_teacher
from attar.compare.process import run_apart
from attar.compare.result import comparison_record
from attar.compare.schedule import Spent, estimate, next_cell
from attar.errors import BundleError
from attar.records import COMPARISON_FILE, read_record, write_json, write_text
from attar.report import format as fmt
from attar.report.tables import comparison
from attar.workspace import changed_settings, is_finished

log = logging.getLogger("attar")


@dataclass
class _State:
    """What has come of the runs so far, by their names."""

    grid: Grid
    folder: Path
    lock: int
    outcomes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def spent(self, cells: Sequence[Cell]) -> list[Spent]:
        done = [(cell, self.outcomes.get(cell.name, {})) for cell in cells]
        return [Spent(cell, max(found["seconds"], 0.01)) for cell, found in done if found.get("status") == "done"]

    @property
    def left(self) -> float | None:
        """Seconds of the budget that are left."""
        budget = budget_of(self.grid)
        return None if budget is None else budget - sum(found.get("seconds", 0.0) for found in self.outcomes.values())


def compare_methods(grid: dict[str, Any], *, resume: bool = False) -> dict[str, Any]:
    """Run methods x seeds on the same splits and return the comparison's record (:mod:`attar.records`).

    Each run is a process of its own and leaves a bundle in ``out/runs``; one that fails is recorded and stops no other.
    With a budget, a run that is estimated to exceed it is left out, and one that does is stopped.

    Args:
        grid: the table of a grid: ``out``, ``data``, ``model``, ``method`` (a list of tables), ``seeds``, ``budget``, …
            (:class:`attar.compare.grid.Grid`).
        resume: go on with an earlier comparison. Finished runs are kept, interrupted ones continue, failed ones are
            tried again; methods, seeds and budget may have grown.

    Raises:
        ConfigError: for a grid that cannot be run, before anything is.
        BundleError: where something is in the way at ``out``, a finished run there has other settings, or no run
            came to its end.
    """
    checked = grid_of(grid)
    cells = cells_of(checked)
    folder = Path(checked.out)
    with sole_user(folder, resume=resume) as lock:
        state = _State(checked, folder, lock, _earlier(cells, folder))
        try:
            _run_all(state, cells)
        finally:
            record = comparison_record(checked, cells, state.outcomes, folder)
            write_json(record, folder / COMPARISON_FILE)
    if not record["methods"]:
        errors = [run["error"] for run in record["runs"] if run.get("error")]
        raise BundleError(f"no run of the comparison came to its end; the first said: {errors[0] if errors else '–'}")
    return record


def _earlier(cells: Sequence[Cell], folder: Path) -> dict[str, dict[str, Any]]:
    """Return the seconds of finished runs, and of those that were tried, of an earlier comparison in this folder."""
    found = {cell.name: outcome for cell in cells if (outcome := read_outcome(folder, cell.name)) is not None}
    for cell in cells:
        done = found.get(cell.name, {}).get("status") == "done"
        if not (folder / "runs" / cell.name).exists():
            if done:  # deleted, to be made again
                del found[cell.name]
        elif not done:  # a kill may fall between the end of a run and the note of it
            timings = read_record(folder / "runs" / cell.name).get("timings") or {}
            found[cell.name] = {"status": "done", "seconds": round(sum(timings.values()), 2)}
    return found


def _run_all(state: _State, cells: Sequence[Cell]) -> None:
    waiting = [cell for cell in cells if not _is_done(state, cell)]
    total = len(cells)
    while waiting:
        ready = [cell for cell in waiting if not _waits(state, cell, waiting)]
        cell = next_cell(waiting, ready, state.spent(cells))
        waiting.remove(cell)
        seconds = estimate(cell, state.spent(cells))
        before = state.outcomes.get(cell.name, {}).get("seconds", 0.0)
        if state.left is not None and (state.left <= 0 or (seconds or 0.0) > state.left):
            said = f"estimated at {fmt.seconds(seconds)}, {fmt.seconds(max(0.0, state.left))} of the budget left"
            state.outcomes[cell.name] = {"status": "left out", "seconds": before, "error": said}
            log.info("%s left out: %s", cell.name, said)
            continue
        number = total - len(waiting)
        log.info("run %d of %d: %s%s", number, total, cell.name, f" (about {fmt.seconds(seconds)})" if seconds else "")
        outcome = _run(state, cell)
        outcome["seconds"] = round(outcome["seconds"] + before, 2)
        state.outcomes[cell.name] = outcome
        write_outcome(state.folder, cell.name, outcome)
        log.info("%s %s after %s%s", cell.name, outcome["status"], fmt.seconds(outcome["seconds"]), _why(outcome))


def _run(state: _State, cell: Cell) -> dict[str, Any]:
    table = cell.table
    if cell.command == "distill" and state.grid.teacher is None:
        teacher = _teacher(state)
        if teacher is None:
            return {"status": "failed", "seconds": 0.0, "error": "no full run came to its end that could teach"}
        table = with_teacher(table, teacher)
    recipe = write_recipe(state.folder, cell.name, recipe_text(table))
    said = state.folder / "logs" / f"{cell.name}.log"
    outcome = run_apart(recipe, said, limit=state.left, lock=state.lock)
    if outcome["status"] == "stopped":
        outcome["error"] = "the budget was used up; --resume with a larger one continues it"
    return outcome


def _is_done(state: _State, cell: Cell) -> bool:
    """Return whether a run is finished.

    Raises:
        BundleError: where it is, with other settings.
    """
    bundle = state.folder / "runs" / cell.name
    if not bundle.exists():
        return False
    table = cell.table
    if cell.command == "distill" and state.grid.teacher is None:
        table = with_teacher(table, _teacher(state) or "")
    recipe = recipe_text(table)
    if not is_finished(bundle, recipe):
        changed = changed_settings(bundle, recipe) or "it has no recipe"
        raise BundleError(f"{bundle} was made with other settings ({changed}); choose another --out, or delete it")
    return True


def _waits(state: _State, cell: Cell, waiting: Sequence[Cell]) -> bool:
    """Return whether a distillation has to wait for runs that may become its teacher.

    Without a budget, for all ``full`` runs of the grid. With one, for the first of them: the others might leave no
    time for the students.
    """
    if cell.command == "finetune" or state.grid.teacher is not None or (state.folder / "teacher").exists():
        return False
    candidates = [other for other in cells_of(state.grid) if other.method == "full"]
    undone = {other.name for other in waiting}
    if state.grid.budget is not None and any(_finished(state, other) for other in candidates):
        return False
    return any(other.name in undone for other in candidates)


def _finished(state: _State, cell: Cell) -> bool:
    return state.outcomes.get(cell.name, {}).get("status") == "done"


def _teacher(state: _State) -> str | None:
    """Return the bundle that teaches, chosen once: the best ``full`` run on dev of those that are done."""
    file = state.folder / "teacher"
    if file.exists():
        return file.read_text(encoding="utf-8").strip()
    done = [cell.table["out"] for cell in cells_of(state.grid) if cell.method == "full" and _finished(state, cell)]
    if not done:
        return None
    best = max(done, key=_on_dev)
    log.info("teacher of this grid: %s, the best of %d on dev", best, len(done))
    write_text(best + "\n", file)
    return best


def _on_dev(bundle: str) -> float:
    record = read_record(bundle)
    metric = comparison(record)[0].metric
    return record["models"][0]["metrics"]["dev"][metric]


def _why(outcome: dict[str, Any]) -> str:
    return f": {outcome['error']}" if outcome.get("error") else ""

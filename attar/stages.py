"""Run the stages of a plan inside a work folder; each resumes from its own checkpoints."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from attar.training.loop import Trackers, run_stage
from attar.training.stage import Stage
from attar.workspace import Workspace

log = logging.getLogger("attar")


def run_stages(
    role: str, stages: Iterable[Stage], work: Workspace, report_to: Sequence[str]
) -> tuple[list[dict[str, Any]], Stage]:
    """Train one stage after the other.

    Args:
        role: what is trained, in the record's words; names the checkpoints.
        stages: the plan's.
        work: where checkpoints and logs go.
        report_to: trackers of transformers.

    Returns:
        The stages as the record keeps them, and the last one, whose model is what the plan leaves.
    """
    found = []
    for i, stage in enumerate(stages):
        for note in stage.notes:
            log.info(note)
        folder = work.folder / "checkpoints" / f"{role}-{i}-{stage.name}"
        trackers = Trackers(names=report_to, folder=work.logs / role)
        result = run_stage(stage, folder, title=f"{role}: {stage.name}", trackers=trackers)
        found.append({"name": stage.name, "role": role, "notes": stage.notes, **result})
    return found, stage

"""The folder of an unfinished run. What is done stays done: an interrupted run continues where it was.

``OUT.work/`` holds the recipe of the run, one JSON file for every finished step, and checkpoints. When everything
is done the finished bundle is moved to ``OUT`` and the folder is deleted.
"""

import difflib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attar.errors import AttarError, BundleError
from attar.locks import WorkFolder
from attar.process_group import barrier, is_main
from attar.records import RECIPE_FILE, write_json, write_text


class Workspace(WorkFolder):
    """One run's work folder.

    Args:
        out: the folder that the run will leave.
        recipe: the resolved recipe; a run resumes only with the one it was started with.
        resume: continue an interrupted run, where there is one.
        overwrite: replace a finished bundle at ``out`` when this run finishes, and drop an interrupted one.

    Raises:
        BundleError: where something is in the way and neither flag says what to do.
    """

    def __init__(self, out: str | Path, recipe: str, *, resume: bool = False, overwrite: bool = False) -> None:
        self.out = Path(out)
        if not self.out.name or self.out.is_file():
            raise BundleError(f"--out expects the name of a folder to make; found {str(out)!r}")
        super().__init__(self.out.with_name(self.out.name + ".work"))
        self.logs = self.out.with_name(self.out.name + ".logs")
        """What trackers write; it stays beside the bundle."""
        self._recipe, self._resume, self._overwrite = recipe, resume, overwrite
        if self.out.exists() and not overwrite:
            changed = changed_settings(self.out, recipe) if resume else ""
            said = f"was made with other settings ({changed})" if changed else "exists already"
            raise BundleError(f"{out} {said}; choose another --out, or --overwrite to replace it")
        if self.folder.exists() and not resume and not overwrite:
            raise BundleError(f"{self.folder} holds an interrupted run; --resume continues it, --overwrite starts anew")
        if resume and (changed := changed_settings(self.folder, recipe)):
            raise BundleError(
                f"{self.folder} was started with other settings ({changed}); "
                "use the same ones to --resume, or --overwrite to start anew"
            )

    def start(self) -> None:
        """Make the folder. Until this is called, nothing is written, so that bad input leaves nothing behind.

        Raises:
            BundleError: where another process is at work in it, or has just finished.
        """
        barrier()
        if is_main():
            self.take(empty=not self._resume)
            if self.out.exists() and not self._overwrite:
                self.delete()
                raise BundleError(f"{self.out} was finished by another process meanwhile")
            write_text(self._recipe, self.folder / RECIPE_FILE)
        barrier()

    def step(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the result of a step: the stored one, or that of ``make``, which is then stored.

        Every process of a distributed run calls it; the first one writes.
        """
        file = self.folder / f"{name}.json"
        done = file.exists()
        barrier()
        if done:
            return json.loads(file.read_text(encoding="utf-8"))
        try:
            result = make()
        except AttarError:
            # Found before anything was trained, it is bad input like any other, and leaves nothing behind.
            if is_main() and not self._resume and not (self.folder / "checkpoints").exists():
                self.delete()
            raise
        barrier()
        if is_main():
            write_json(result, file)
        barrier()
        return result

    def finish(self, bundle: Path) -> None:
        """Move the finished bundle into place and delete the work folder."""
        if is_main():
            if self.out.exists() and self._overwrite:
                shutil.rmtree(self.out)
            bundle.replace(self.out)
            self.delete()
        barrier()


def is_finished(out: str | Path, recipe: str) -> bool:
    """Return whether a folder holds the finished bundle of this very recipe."""
    file = Path(out) / RECIPE_FILE
    return file.exists() and file.read_text(encoding="utf-8") == recipe


def changed_settings(folder: Path, recipe: str) -> str:
    """Return the first lines in which the recipe of a folder, where it has one, differs from the one of now."""
    file = folder / RECIPE_FILE
    if not file.exists():
        return ""
    # Line by line in order: the same line may stand in several sections, and a setting may be gone.
    lines = difflib.ndiff(file.read_text(encoding="utf-8").splitlines(), recipe.splitlines())
    changed = [line for line in lines if line[0] in "+-"]
    return f"- before, + now: {'; '.join(changed[:4])}" if changed else ""

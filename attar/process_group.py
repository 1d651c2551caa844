"""The processes of one distributed run (torchrun, accelerate launch). A single process is a group of one."""

import os


def world_size() -> int:
    """Return the number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return this process's number, 0 for the one that writes."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Return whether this process writes files and talks to the user."""
    return rank() == 0


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()

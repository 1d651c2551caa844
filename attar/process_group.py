"""The processes of one distributed run (torchrun, accelerate launch). A single process is a group of one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

#: How long the others wait for the first process: it alone compares and measures at the end of a run.
_PATIENCE = timedelta(hours=6)
_alone = False


def world_size() -> int:
    """Return the number of processes."""
    return 1 if _alone else int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return this process's number, 0 for the one that writes."""
    return 0 if _alone else int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Return whether this process writes files and talks to the user."""
    return rank() == 0


@contextmanager
def solo() -> Iterator[None]:
    """Be a group of one for a while: what the first process does within it waits for nobody."""
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False


def all_agree(answer: bool) -> bool:
    """Return whether every process says yes."""
    if world_size() == 1:
        return answer
    import torch.distributed

    barrier()  # it joins the group
    answers: list[bool] = [False] * world_size()
    torch.distributed.all_gather_object(answers, answer)
    return all(answers)


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        import torch
        from accelerate import PartialState

        # Without cpu=True accelerate joins no group on a machine without a GPU, and waits for nobody.
        PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE).wait_for_everyone()

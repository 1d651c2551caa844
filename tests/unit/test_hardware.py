"""What is asked of the machine: memory that goes back to the system."""

import platform
import subprocess
import sys

import pytest

#: Frees a block that raises glibc's threshold, then all of twelve blocks of 8 MiB but the one that ends the heap.
BLOCKS = """
import psutil, torch
from attar.nets.hardware import return_freed_memory
if {returned}:
    return_freed_memory()
torch.ones(30 << 18)
rss = psutil.Process().memory_info
before = rss().rss
blocks = [torch.ones(8 << 18) for _ in range(12)]
del blocks[:-1]
print((rss().rss - before) >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have other rules")
def test_freed_blocks_go_back_though_a_later_one_is_held():
    mib = {
        returned: int(subprocess.check_output([sys.executable, "-c", BLOCKS.format(returned=returned)]))
        for returned in (False, True)
    }
    assert mib[True] < 24 < 72 < mib[False], mib

"""What is asked of the machine: memory that goes back to the system, and kernels that are not kept."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from attar.nets.hardware import keep_few_kernels

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


#: Multiplies by a matrix in 150 shapes, and says by how much the process has grown.
SHAPES = """
import psutil, torch
from attar.nets.hardware import keep_few_kernels
if {few}:
    keep_few_kernels()
weight = torch.ones(256, 256, dtype=torch.bfloat16)
rss = psutil.Process().memory_info
torch.nn.functional.linear(torch.ones(8, 256, dtype=torch.bfloat16), weight)
before = rss().rss
for rows in range(9, 159):
    torch.nn.functional.linear(torch.ones(rows, 256, dtype=torch.bfloat16), weight)
print((rss().rss - before) >> 10)
"""


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="oneDNN makes no products here")
def test_few_kernels_are_kept():
    environment = {name: value for name, value in os.environ.items() if not name.endswith("CACHE_CAPACITY")}
    kib = {
        few: int(subprocess.check_output([sys.executable, "-c", SHAPES.format(few=few)], env=environment))
        for few in (False, True)
    }
    assert kib[True] < 0.7 * kib[False], kib


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    keep_few_kernels()
    assert (os.environ["LRU_CACHE_CAPACITY"], os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]) == ("7", "64")

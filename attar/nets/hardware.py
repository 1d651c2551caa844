"""What this machine computes well, and what a run should therefore use."""

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch

#: Numbers of mallopt's settings, from malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: Bytes of a block that goes back to the system at once (see :func:`return_freed_memory`).
_LARGE_BLOCK = 4 << 20
#: What bounds the compiled kernels that oneDNN keeps, and those that PyTorch keeps around them.
_KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
#: Kernels to keep: a step of two networks has some thirty shapes, which all of their layers share.
_KERNELS = 64
#: Linux's advice to take pages out of memory, from mman.h; nothing is lost by it.
_MADV_PAGEOUT = 21


def pick_device() -> torch.device:
    """Return this process's accelerator where torch has one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def native_bfloat16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 in hardware.

    Emulated bfloat16 is slower than float32 (half the speed on an AVX-512 processor without the BF16 extension),
    so a kernel that merely runs is not enough.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool({"avx512_bf16", "amx_bf16", "bf16"} & _cpu_flags())


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Return the autocast context of ``precision``: "float32", "bfloat16" or "auto"."""
    if resolve_precision(device, precision) == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


def resolve_precision(device: torch.device, precision: str) -> str:
    """Return "float32" or "bfloat16" for a setting that may be "auto"."""
    if precision != "auto":
        return precision
    return "bfloat16" if native_bfloat16(device) else "float32"


def describe_hardware() -> dict[str, Any]:
    """Return what the record says about the machine."""
    device = pick_device()
    return {
        "cpu": _cpu_name(),
        "cores": len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "device": device.type,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "native_bfloat16": native_bfloat16(device),
    }


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return set(found.partition(":")[2].split())


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def keep_few_kernels() -> None:
    """Have this process keep few compiled kernels, if nothing was multiplied in it yet; what the user has set stays.

    On a CPU a kernel is compiled for every shape of a product, and 1,024 are kept, twice. Batches of texts have
    hundreds of shapes, each for a step or two, so that memory creeps up with the steps (benchmarks/kernel_caches.py).
    """
    for name in _KERNEL_CACHES:
        os.environ.setdefault(name, str(_KERNELS))


def return_freed_memory() -> None:
    """Have large blocks go back to the system when they are freed, from now on, where glibc allocates them.

    It would else take the largest block freed so far (up to 32 MiB) for the size below which blocks share one heap
    (mallopt(3), M_MMAP_THRESHOLD), and activations of all sizes leave that heap full of holes. A block of its own is
    cleared by the system every time: with a threshold of 1 MiB a training step of an encoder of 12 layers in bfloat16
    takes half as long again, with 4 MiB no longer than without, at a few hundredths less memory to a tenth.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
        library.mallopt(_M_TRIM_THRESHOLD, _LARGE_BLOCK)


def trim_heap() -> None:
    """Give back to the system what the heap holds free between blocks in use, where glibc allocates.

    After training that is most of what the activations took, and what comes next would be added to it.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def leave_memory(tensor: torch.Tensor) -> None:
    """Let the system take back the memory of a tensor on the CPU that nobody will read for a while, where it can.

    Pages of a mapped checkpoint are dropped and read from the file again when they are asked for. Advice: nothing
    changes but what is resident, and a system without it goes on as before.
    """
    if platform.system() == "Linux":
        page = os.sysconf("SC_PAGE_SIZE")
        start = -(-tensor.data_ptr() // page) * page
        size = (tensor.data_ptr() + tensor.nbytes) // page * page - start
        if size > 0:
            ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), _MADV_PAGEOUT)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Take numbers below 1e-38 for zero meanwhile.

    Gradients that fade over 150 words of a BiLSTM become such numbers, which processors compute with some 20 times
    more slowly. Threads take the setting from the one that starts them: it reaches all only where no product of
    matrices has started them before.
    """
    already = bool((torch.full((1,), 1e-39) * 1) == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(already)

"""Sizes of memory and files, and durations, as people write them."""

import re
import shutil
import tempfile

_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
#: Share of the free disk that temporary files may take; checkpoints may have to go to the same one.
_FREE_SHARE = 0.9
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def parse_size(text: str) -> int:
    """Return bytes of ``8GiB``, ``500 MB``, ``0`` and the like; a number without a unit is bytes.

    Raises:
        ValueError: for anything else.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text, re.ASCII)
    factor = _UNITS.get(found[2].lower() or "b") if found else None
    if found is None or factor is None:
        raise ValueError(f"expected a size such as 8GiB, 500MB or 0; found {text!r}")
    return int(float(found[1]) * factor)


def show_size(size: float) -> str:
    """Return bytes in binary units: ``2.3 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def room_for_temporary_files() -> int:
    """Return the bytes that temporary files may take now."""
    return int(_FREE_SHARE * shutil.disk_usage(tempfile.gettempdir()).free)


def parse_duration(text: str) -> float:
    """Return seconds of ``2h``, ``90min``, ``1h30min``, ``45 s`` and the like.

    Raises:
        ValueError: for anything else, and for no time at all.
    """
    part = r"(\d+(?:\.\d+)?)\s*(s|min|h|d)\s*"
    found = re.findall(part, text, re.ASCII) if re.fullmatch(rf"\s*(?:{part})+", text, re.ASCII) else []
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in found)
    if seconds <= 0:
        raise ValueError(f"expected a duration such as 2h, 90min or 1h30min; found {text!r}")
    return seconds

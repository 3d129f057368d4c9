"""How much memory a device has left, and what a process holds without need."""

import ctypes
import sys
from pathlib import Path

import torch

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")  # of a container, whose limit may lie below the machine's


def available_memory(device: torch.device | str) -> int | None:
    """Bytes that a new tensor on ``device`` can take without swapping; None where the system does not tell.

    >>> there = available_memory("cpu")
    >>> there is None or there > 0
    True
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    limits = [each for each in (_machine(), _container()) if each is not None]
    return min(limits) if limits else None


def give_back_memory() -> None:
    """Give the system what the C library keeps of freed tensors, where that is glibc; another keeps it.

    For the end of what takes much memory once: what comes after it may want fewer and larger pieces.

    >>> give_back_memory()
    """
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


def _machine() -> int | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def _container() -> int | None:
    try:
        limit, used = ((_GROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        cached = dict(line.split() for line in (_GROUP / "memory.stat").read_text().splitlines())
        return max(0, int(limit) - int(used) + int(cached["inactive_file"]))
    except (OSError, ValueError, KeyError):  # none, without a limit ("max"), or of another kind
        return None

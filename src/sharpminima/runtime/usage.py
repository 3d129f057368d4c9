"""What a job takes: seconds and peak memory, over all its attempts.

Beside the results, never among them: ``usage.json`` differs from run to run, and nothing that is compared or hashed
depends on it.
"""

import contextlib
import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import torch

from sharpminima.base.files import read_json, write_json

USAGE = "usage.json"


class Usage(TypedDict, total=False):
    """What the attempts at a job took together; nothing where nothing was measured."""

    wall_s: float
    cpu_s: float
    gpu_s: float  # wall seconds with a GPU held
    attempts: int
    peak_mb: float  # resident, of one attempt
    gpu_peak_mb: float  # of torch's allocator
    device: str
    finished: bool


_KB = 1024 if sys.platform == "darwin" else 1  # getrusage counts bytes there, KB elsewhere


@contextlib.contextmanager
def usage_recorded(folder: Path, *, goes_on: bool = False) -> Iterator[None]:
    """Add what the block takes to ``folder/usage.json``; after a finished job it begins anew.

    Args:
        folder: of the job's files.
        goes_on: what a finished job has made is a part of what this one makes, and so is what it took.

    An attempt that is killed without a chance to say so (SIGKILL) is missing from the sums; one that is stopped by
    SIGTERM or fails is not.
    """
    path = folder / USAGE
    wall, before = time.perf_counter(), _cpu_seconds()
    finished = False
    try:
        yield
        finished = True
    finally:
        cuda = torch.cuda.is_initialized()
        wall_s = time.perf_counter() - wall
        total = _Sum(_earlier(path, finished_too=goes_on))
        total.add("wall_s", wall_s)
        total.add("cpu_s", _cpu_seconds() - before)
        total.add("gpu_s", wall_s if cuda else 0.0)
        total.add("attempts", 1)
        total.peak("peak_mb", _KB * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
        total.peak("gpu_peak_mb", torch.cuda.max_memory_allocated() / 1e6 if cuda else 0.0)
        device = torch.cuda.get_device_name() if cuda else "cpu"
        write_json(path, total.values | {"device": device, "finished": finished})


def read_usage(folder: Path) -> Usage:
    """What `usage_recorded` has summed up."""
    path = folder / USAGE
    usage: Usage = read_json(path) if path.exists() else {}
    return usage


class _Sum:
    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def add(self, name: str, value: float) -> None:
        self.values[name] = round(self.values.get(name, 0) + value, 3)

    def peak(self, name: str, value: float) -> None:
        self.values[name] = round(max(self.values.get(name, 0.0), value), 1)


def _earlier(path: Path, *, finished_too: bool) -> dict[str, Any]:
    """Of the attempts before this one."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if finished_too or not values.get("finished", True) else {}


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

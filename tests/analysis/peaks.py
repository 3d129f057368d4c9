"""Peaks of memory, measured in a process of their own."""

import os
import subprocess
import sys

_PEAK = """
from pathlib import Path

def peak():  # bytes; resource.getrusage starts from what the parent has held
    return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


def run_measured(script: str, *arguments: str) -> list[int]:
    """The whole numbers that a script prints, which may call `peak()`, the most bytes that its process has held.

    Each block of memory of 128 KiB or more goes back when it is freed. By itself glibc keeps larger and larger ones, in
    pieces that differ between machines: 330 MB came to 370 on one, and to 465 on another.
    """
    fixed = {"MALLOC_MMAP_THRESHOLD_": str(2**17)}
    command = [sys.executable, "-c", _PEAK + script, *arguments]
    run = subprocess.run(command, env=os.environ | fixed, capture_output=True, text=True, check=True)
    return [int(number) for number in run.stdout.split()]

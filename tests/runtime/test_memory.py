"""Memory that freed tensors leave with the C library."""

import subprocess
import sys

import pytest

_HELD = """
import ctypes
from pathlib import Path
import torch
from sharpminima.runtime.memory import give_back_memory

def held():
    return 1024 * int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])

ctypes.CDLL(None).mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD: pieces of any size lie in one heap
parts = [torch.ones(1 << 18) for _ in range(100)]
full = held()
del parts[:-1]  # the last one keeps the heap from shrinking by itself
kept = held()
give_back_memory()
print(full - kept, kept - held())
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_is_kept_of_freed_tensors_is_given_back() -> None:
    run = subprocess.run([sys.executable, "-c", _HELD], capture_output=True, text=True, check=True)
    by_itself, given_back = map(int, run.stdout.split())
    assert by_itself < 20e6 < 80e6 < given_back

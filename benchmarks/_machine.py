"""The machine: its description, its fastest matrix product, and the memory of a process."""

import os
import platform
import time
from pathlib import Path
from typing import Any

import torch

from sharpminima import __version__
from sharpminima.runtime.device import configure


class Peak:
    """A large float32 matrix product, the practical limit of arithmetic."""

    def __init__(self, device: str, threads: int, size: int) -> None:
        self._device = configure(device, threads)
        draws = torch.Generator().manual_seed(0)
        self._left, self._right = (torch.rand(size, size, generator=draws).to(self._device) for _ in range(2))

    def warm_up(self) -> None:
        """Let the library choose its kernel."""
        self.epoch()

    def epoch(self) -> tuple[float, float]:
        """GFLOP/s of the fastest of several products, and 0."""
        size, seconds = len(self._left), []
        for _ in range(5):
            start = time.perf_counter()
            self._left @ self._right
            if self._device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        return 2 * size**3 / min(seconds) / 1e9, 0.0


def peak_memory() -> dict[str, float]:
    """MiB that this process has held at most, and on the GPU where there is one; processes of a loader not counted."""
    peaks = {"peak_memory_mib": _peak_resident_kib() / 1024}
    if torch.cuda.is_initialized():
        peaks["peak_device_memory_mib"] = torch.cuda.max_memory_allocated() / 2**20
    return peaks


def _peak_resident_kib() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss of Linux starts from the parent's.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if platform.system() == "Darwin" else peak


def describe(device: str) -> dict[str, Any]:
    """What the numbers depend on."""
    facts: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "sharpminima": __version__,
    }
    if hasattr(os, "getloadavg"):
        facts["load_average_at_start"] = round(os.getloadavg()[0], 2)
    if hasattr(os, "sysconf"):
        facts["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    if device == "cuda":
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

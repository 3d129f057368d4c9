"""Where and how numbers are computed: device and threads, from the config and recorded with every result."""

import ctypes
import os
import sys
import warnings

import torch

from sharpminima.base.errors import TrainingError
from sharpminima.runtime.gpus import take_gpu
from sharpminima.runtime.precision import set_precision


def configure(device: str, threads: int, precision: str = "float32") -> torch.device:
    """Set threads and determinism for this process, take one GPU where there are several, and return the device.

    Args:
        device: ``auto`` (CUDA where there is one), ``cpu`` or ``cuda``.
        threads: CPU threads of the numerical library. Results depend on it in the last bits.
        precision: of training, as for `sharpminima.runtime.precision.set_precision`.

    Raises:
        TrainingError: ``cuda`` asked for where there is none, or ``tf32`` on a CPU.
    """
    torch.set_num_threads(threads)
    # Weights that LOBSTER decays for long become denormal numbers, on which CPUs are ten times slower.
    torch.set_flush_denormal(True)
    _keep_freed_memory()
    if device != "cpu":
        take_gpu()
    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise TrainingError(
            "device: cuda asked for, but torch sees no CUDA device here; "
            "install a CUDA build of torch (make TORCH_INDEX=...), ask for a GPU node, or set device: auto"
        )
    chosen = torch.device("cuda" if cuda and device != "cpu" else "cpu")
    set_precision(precision, chosen)
    if chosen.type == "cpu":
        if device == "auto" and os.environ.get("CUDA_VISIBLE_DEVICES"):
            warnings.warn(
                f"this job holds a GPU slot (CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']}) "
                "but runs on the CPU: torch sees no CUDA device",
                stacklevel=2,
            )
        return chosen
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    return chosen


def _keep_freed_memory() -> None:
    """Let glibc keep the memory of freed activations for the next step, which else may cost a page fault a page."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # names of malloc.h
        mallopt(trim_threshold, 1 << 30)
        mallopt(mmap_threshold, 1 << 30)

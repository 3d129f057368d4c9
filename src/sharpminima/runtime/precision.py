"""The precision of training: what its forward and backward passes compute in.

In bfloat16 the products and the maps between layers have 7 bits of mantissa; weights, their gradients as methods see
them, momentum, BatchNorm's statistics, losses and all evaluations stay float32.
"""

import contextlib
import warnings
from contextlib import AbstractContextManager

import torch

from sharpminima.base.errors import TrainingError

_chosen = "float32"


def set_precision(precision: str, device: torch.device) -> None:
    """Choose for the trainings of this process.

    Args:
        precision: ``float32``; ``tf32``, CUDA's products with 10 bits of mantissa; or ``bfloat16``.
        device: where they run.

    Raises:
        TrainingError: ``tf32`` on a CPU.
    """
    global _chosen
    if precision == "tf32" and device.type == "cpu":
        raise TrainingError("precision: tf32 asked for, which CPUs do not have; set precision: float32, or use CUDA")
    if precision == "bfloat16" and not _has_bfloat16(device):
        warnings.warn(
            f"precision: bfloat16 asked for, which this {device.type} has no instructions for (AMX or AVX512-BF16): "
            "it will be slow; set precision: float32",
            stacklevel=3,
        )
    # Off unless asked for: too coarse for eigenvalues, and results would differ from the CPU's.
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    _chosen = precision


def is_bfloat16() -> bool:
    """Whether trainings of this process compute in bfloat16."""
    return _chosen == "bfloat16"


def passes(device: torch.device) -> AbstractContextManager[None]:
    """For a training's forward pass on ``device``, in the precision that is chosen.

    >>> with passes(torch.device("cpu")):
    ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    torch.float32
    """
    if not is_bfloat16():
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()

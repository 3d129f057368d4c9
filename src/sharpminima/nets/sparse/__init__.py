"""Layers that compute with their surviving weights only, on a CPU.

The batch is the last axis in memory, so that each weight meets a contiguous row. The cost is in proportion to the
survivors. The results are those of the dense layer up to the rounding of sums.
"""

import torch
from torch import Tensor, nn

from sharpminima.nets.sparse.conv2d import SparseConv2d
from sharpminima.nets.sparse.linear import SparseLinear
from sharpminima.nets.sparse.pooling import batch_last

__all__ = ["SparseConv2d", "SparseLinear", "batch_last", "is_offered", "is_worth"]

_DENSITY = 0.25  # of a linear layer's weights; above it dense kernels are faster, though they multiply zeros
_CONVOLUTION_DENSITY = 0.5  # likewise, where images have several channels; with one, dense kernels are never faster
_SIZE = 4096  # weights of a linear layer, zeros included; below it the calls cost more than the products


def is_worth(mask: Tensor) -> bool:
    """Whether a layer whose weights ``mask`` keeps computes faster with its survivors only."""
    if mask.ndim == 4:
        return mask.shape[1] == 1 or int(mask.count_nonzero()) <= _CONVOLUTION_DENSITY * mask.numel()
    return mask.numel() >= _SIZE and int(mask.count_nonzero()) <= _DENSITY * mask.numel()


def is_offered(layer: nn.Module, device: torch.device) -> bool:
    """Whether there is a sparse version of ``layer`` on ``device``; that of a linear layer takes MKL's products."""
    if device.type != "cpu":
        return False
    if isinstance(layer, nn.Linear):
        return torch.backends.mkl.is_available()
    return (
        isinstance(layer, nn.Conv2d)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )

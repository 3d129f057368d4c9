"""relu(max-pooling(x)) as one operation."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from sharpminima.nets.fused import _pool_kernels
from sharpminima.nets.sparse.pooling import window_of
from sharpminima.runtime.parallel import Parts

_PART = 1 << 16  # elements, about

_POOL, _UNPOOL = Parts(_pool_kernels.pool), Parts(_pool_kernels.unpool)


def pooled(features: Tensor, pool: nn.MaxPool2d) -> Tensor:
    """relu(pool(features)), which is pool(relu(features)), in one pass over memory: the same bits.

    On anything else than bfloat16 maps on a CPU, channels last, in windows side by side, the two are done.

    Args:
        features: [N, C, H, W].
        pool: whose windows to take.

    >>> pooled(torch.tensor([[-1.0, 2.0], [-3.0, -4.0]]).view(1, 2, 1, 2), nn.MaxPool2d((1, 2))).flatten()
    tensor([2., 0.])
    """
    window = window_of(pool)
    offered = (
        window is not None
        and features.dtype == torch.bfloat16
        and features.device.type == "cpu"
        and features.is_contiguous(memory_format=torch.channels_last)
        and features.shape[2] >= window[0]
        and features.shape[3] >= window[1]
    )
    if not offered:
        return F.relu(pool(features))
    maps: Tensor = _Pooled.apply(features, window)
    return maps


class _Pooled(torch.autograd.Function):
    """`pooled`, of what it is offered for."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: tuple[int, int]) -> Tensor:
        images, channels, height, width = x.shape
        shape = (images, channels, height // window[0], width // window[1])
        y = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
        _POOL(*_layout(x, window), x.data_ptr(), y.data_ptr())
        ctx.save_for_backward(x, y)
        ctx.window = window
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, y = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        covered = all(size % step == 0 for size, step in zip(x.shape[2:], ctx.window, strict=True))
        to_x = torch.empty_like(x) if covered else torch.zeros_like(x)
        _UNPOOL(*_layout(x, ctx.window), gradient.data_ptr(), x.data_ptr(), y.data_ptr(), to_x.data_ptr())
        return to_x, None


def _layout(x: Tensor, window: tuple[int, int]) -> tuple[int, ...]:
    """What `_pool_kernels` say."""
    images, channels, height, width = x.shape
    of_image, columns = height // window[0], width // window[1]
    rows = images * of_image
    part = max(1, _PART // (window[0] * width * channels))
    return -(-rows // part), part, rows, of_image, columns, channels, *window, height, width

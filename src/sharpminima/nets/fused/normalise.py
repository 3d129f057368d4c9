"""relu(BatchNorm(x) + other) as one operation."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from sharpminima.nets.fused import _kernels
from sharpminima.runtime.parallel import Parts

_TILE = 512  # elements, about: its rows of float32 stay in the first-level cache
_PART = 1 << 16  # elements, about: enough to be worth a thread, few enough that all threads have some

_MOMENTS, _NORMALISE = Parts(_kernels.moments), Parts(_kernels.normalise)
_RECTIFY, _SLOPES = Parts(_kernels.rectify_slopes), Parts(_kernels.slopes)


def normalised(features: Tensor, norm: nn.BatchNorm2d, other: Tensor | None = None) -> Tensor:
    """relu(norm(features) + other), in fewer passes over memory than three operations make.

    Arithmetic is float32 with one rounding of each result to bfloat16; the three operations round after each. On
    anything else than bfloat16 maps in training mode on a CPU, channels last, those three are what is done.

    Args:
        features: [N, C, H, W].
        norm: whose running statistics it brings up to date in training mode.
        other: like the features; None: nothing is added.

    >>> norm, features = nn.BatchNorm2d(2), torch.tensor([[-1.0, 1.0], [3.0, 1.0]]).view(2, 2, 1, 1)
    >>> normalised(features, norm).flatten(1).round()
    tensor([[0., 0.],
            [1., 0.]], grad_fn=<RoundBackward0>)
    """
    return normalised_twice(features, norm, other)[0]


def normalised_twice(features: Tensor, norm: nn.BatchNorm2d, other: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """`normalised` for two readers, each with a tensor of its own over the same memory.

    So the backward pass adds their gradients as it goes, which else is a pass by itself.
    """
    if not _is_offered(features, norm, other):
        values = norm(features)
        rectified = F.relu(values if other is None else values + other)
        return rectified, rectified
    assert norm.num_batches_tracked is not None  # of `_is_offered`
    norm.num_batches_tracked.add_(1)
    share = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    both: tuple[Tensor, Tensor] = _Normalised.apply(features, norm.weight, norm.bias, other, norm, share)
    return both


def _is_offered(features: Tensor, norm: nn.BatchNorm2d, other: Tensor | None) -> bool:
    return (
        norm.training
        and norm.affine
        and norm.track_running_stats
        and norm.weight.dtype == torch.float32
        and features.dtype == torch.bfloat16
        and features.device.type == "cpu"
        and features.numel() > features.shape[1]  # one pixel has no variance: BatchNorm says so
        and features.is_contiguous(memory_format=torch.channels_last)
        and (other is None or (other.dtype == features.dtype and other.shape == features.shape))
    )


class _Normalised(torch.autograd.Function):
    """`normalised`, of what it is offered for."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, other: Tensor | None, norm: nn.BatchNorm2d, share: float
    ) -> tuple[Tensor, Tensor]:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        layout = _layout(x)
        parts, channels = layout[0], x.shape[1]
        if other is not None:
            other = other.contiguous(memory_format=torch.channels_last)
        y = torch.empty_like(x)
        sums = torch.empty(parts, 2, channels, dtype=torch.float64)
        kept = torch.empty(2, channels)
        numbers = torch.tensor([share, norm.eps], dtype=torch.float64)
        _MOMENTS(*layout, x.data_ptr(), sums.data_ptr())
        _NORMALISE(
            *layout,
            x.data_ptr(),
            0 if other is None else other.data_ptr(),
            sums.data_ptr(),
            weight.data_ptr(),
            bias.data_ptr(),
            norm.running_mean.data_ptr(),
            norm.running_var.data_ptr(),
            y.data_ptr(),
            kept.data_ptr(),
            numbers.data_ptr(),
        )
        ctx.save_for_backward(x, weight, y, kept)
        ctx.adds = other is not None
        ctx.set_materialize_grads(False)
        return y, y.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        given = [each.contiguous(memory_format=torch.channels_last) for each in gradients if each is not None]
        if not given:
            return (None,) * 6
        x, weight, y, kept = ctx.saved_tensors
        layout = _layout(x)
        passed, to_x = torch.empty_like(x), torch.empty_like(x)  # in one place they would not be vectorised
        to_parameters = torch.empty_like(kept)
        sums = torch.empty(layout[0], 2, x.shape[1], dtype=torch.float64)
        _RECTIFY(
            *layout,
            given[0].data_ptr(),
            given[1].data_ptr() if len(given) == 2 else 0,
            y.data_ptr(),
            x.data_ptr(),
            kept.data_ptr(),
            passed.data_ptr(),
            sums.data_ptr(),
        )
        _SLOPES(
            *layout,
            passed.data_ptr(),
            x.data_ptr(),
            kept.data_ptr(),
            sums.data_ptr(),
            weight.data_ptr(),
            to_x.data_ptr(),
            to_parameters.data_ptr(),
        )
        return to_x, to_parameters[0], to_parameters[1], passed if ctx.adds else None, None, None


def _layout(x: Tensor) -> tuple[int, int, int, int, int]:
    """Parts, elements of a part, elements, channels, elements of a tile."""
    channels, size = x.shape[1], x.numel()
    tile = max(1, _TILE // channels) * channels
    part = max(1, _PART // tile) * tile
    return -(-size // part), part, size, channels, tile

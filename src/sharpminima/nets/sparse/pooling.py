"""Pooling of maps whose batch is the last axis in memory, as `sharpminima.nets.sparse` leaves them; it stays so."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from sharpminima.nets.sparse import _kernels
from sharpminima.runtime.compiled import shared

_WINNERS = 256  # that a byte can tell


def batch_last(pool: nn.MaxPool2d | nn.AvgPool2d) -> nn.Module:
    """The same pooling of maps [N, C, H, W] with the batch as the last axis in memory, on a CPU."""
    window = window_of(pool)
    return BatchLast(pool) if window is None else BatchLastMaxPool(window)


def window_of(pool: nn.Module) -> tuple[int, int] | None:
    """Height and width of a max-pooling's windows if they lie side by side, else None."""
    if not isinstance(pool, nn.MaxPool2d) or pool.ceil_mode or pool.return_indices:
        return None
    window = _pair(pool.kernel_size)
    apart = _pair(pool.stride) == window and _pair(pool.padding) == (0, 0) and _pair(pool.dilation) == (1, 1)
    return window if apart and math.prod(window) <= _WINNERS else None


class BatchLast(nn.Module):
    """Any pooling."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, maps: Tensor) -> Tensor:
        """As the pooling. Seen as C images of N channels, the maps are channels last, which is fast."""
        return self.pool(maps.transpose(0, 1)).transpose(0, 1)


class BatchLastMaxPool(nn.Module):
    """The largest value of each window, where windows do not overlap."""

    def __init__(self, window: tuple[int, int]) -> None:
        super().__init__()
        self.window = window

    def forward(self, maps: Tensor) -> Tensor:
        """As ``nn.MaxPool2d``: the first of equal values gets the gradient, and NaN is the largest."""
        values = maps.permute(1, 2, 3, 0).contiguous()
        return _Largest.apply(values, self.window)[0].permute(3, 0, 1, 2)


class _Largest(torch.autograd.Function):
    """The largest value of each window of maps [C, H, W, N], and which of the window's it is, [C, H', W', N] both."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, window: tuple[int, int]) -> tuple[Tensor, Tensor]:
        channels, height, width, batch = values.shape
        largest = values.new_empty(channels, height // window[0], width // window[1], batch)
        winners = torch.empty_like(largest, dtype=torch.uint8)
        _kernels.pool(shared(values), tuple(values.shape), window, shared(largest), shared(winners))
        ctx.shape, ctx.window = values.shape, window
        ctx.mark_non_differentiable(winners)
        ctx.save_for_backward(winners)
        ctx.save_for_forward(winners)
        return largest, winners

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: None) -> tuple[Tensor, None]:
        return ToWinners.apply(gradient.contiguous(), *ctx.saved_tensors, ctx.shape, ctx.window), None

    @staticmethod
    def jvp(ctx: Any, values: Tensor, _: None) -> tuple[Tensor, None]:
        (winners,) = ctx.saved_tensors
        return of_winners(values, winners, ctx.window), None


class ToWinners(torch.autograd.Function):
    """Maps [C, H, W, N] that hold each window's gradient at its winner, and zeros: linear in the gradients."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, winners: Tensor, shape: torch.Size, window: tuple[int, int]) -> Tensor:
        ctx.shape, ctx.window = shape, window
        ctx.save_for_backward(winners)
        ctx.save_for_forward(winners)
        whole = all(size % step == 0 for size, step in zip(shape[1:3], window, strict=True))
        image_gradient = gradient.new_empty(shape) if whole else gradient.new_zeros(shape)  # what no window covers
        _kernels.unpool(shared(gradient), shared(winners), tuple(shape), window, shared(image_gradient))
        return image_gradient

    @staticmethod
    def backward(ctx: Any, values: Tensor) -> tuple[Tensor | None, ...]:
        (winners,) = ctx.saved_tensors
        return of_winners(values, winners, ctx.window), None, None, None

    @staticmethod
    def jvp(ctx: Any, gradient: Tensor, *_: None) -> Tensor:
        return ToWinners.apply(gradient.contiguous(), *ctx.saved_tensors, ctx.shape, ctx.window)


def of_winners(values: Tensor, winners: Tensor, window: tuple[int, int]) -> Tensor:
    """The values [C, H, W, N] at the winners [C, H', W', N]."""
    (tall, wide), (channels, rows, columns, batch) = window, winners.shape
    windows = values[:, : rows * tall, : columns * wide].reshape(channels, rows, tall, columns, wide, batch)
    windows = windows.transpose(2, 3).reshape(channels, rows, columns, tall * wide, batch)
    return windows.gather(3, winners.long().unsqueeze(3)).squeeze(3)

"""Convolutions by their surviving weights with the max-pooling behind them, with derivatives of any order."""

from typing import Any

import torch
from torch import Tensor

from sharpminima.nets.sparse import _kernels
from sharpminima.nets.sparse.convolution import Convolve, Taps, ToImages, along, keep, total
from sharpminima.nets.sparse.pooling import ToWinners, of_winners
from sharpminima.runtime.compiled import shared


class ConvolvePooled(torch.autograd.Function):
    """The largest of each window of the maps of `Convolve`, and which of the window's it is: [F, H'', W'', N] both."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, taps: Taps, window: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        batch, (rows, columns) = images.shape[-1], taps.outputs
        largest = images.new_empty(len(bias), rows // window[0], columns // window[1], batch)
        winners = torch.empty_like(largest, dtype=torch.uint8)
        _kernels.convolve_pooled(
            shared(images),
            shared(weight),
            shared(bias),
            taps.starts,
            taps.places * batch,
            taps.geometry(batch),
            batch,
            window,
            shared(largest),
            shared(winners),
        )
        keep(ctx, taps, images, weight, bias, winners)
        ctx.window = window
        ctx.mark_non_differentiable(winners)
        return largest, winners

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if gradient is None:
            return None, None, None, None, None
        images, weight, _, winners = ctx.saved_tensors
        wanted, gradient = ctx.needs_input_grad, gradient.contiguous()
        return (
            _to_images(gradient, winners, weight, ctx) if wanted[0] else None,
            _ToWeightsPooled.apply(images, gradient, winners, ctx.taps, ctx.window) if wanted[1] else None,
            gradient.flatten(1).sum(1) if wanted[2] else None,
            None,
            None,
        )

    @staticmethod
    def jvp(ctx: Any, images: Tensor | None, weight: Tensor | None, bias: Tensor | None, *_: None) -> tuple[Any, None]:
        *old, winners = ctx.saved_tensors
        moved = along(old, (images, weight, bias), ctx.taps)
        return None if moved is None else of_winners(moved, winners, ctx.window), None


class _ToWeightsPooled(torch.autograd.Function):
    """Gradients [S] of the weights, of padded images [C, H, W, N], gradients of windows and winners [F, H'', W'', N].

    Linear in the images and in the gradients.
    """

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, gradient: Tensor, winners: Tensor, taps: Taps, window: tuple[int, int]
    ) -> Tensor:
        keep(ctx, taps, images, gradient, winners)
        ctx.window, batch = window, images.shape[-1]
        weight_gradient = images.new_zeros(len(taps.places))
        _kernels.to_weights_pooled(
            shared(images),
            shared(gradient),
            shared(winners),
            taps.starts,
            taps.places * batch,
            taps.geometry(batch),
            batch,
            window,
            shared(weight_gradient),
        )
        return weight_gradient

    @staticmethod
    def backward(ctx: Any, weight: Tensor | None) -> tuple[Tensor | None, ...]:
        if weight is None:
            return None, None, None, None, None
        images, gradient, winners = ctx.saved_tensors
        wanted, weight = ctx.needs_input_grad, weight.contiguous()
        to_gradient = None
        if wanted[1]:
            maps = Convolve.apply(images, weight, weight.new_zeros(len(gradient)), ctx.taps)
            to_gradient = of_winners(maps, winners, ctx.window)
        return _to_images(gradient, winners, weight, ctx) if wanted[0] else None, to_gradient, None, None, None

    @staticmethod
    def jvp(ctx: Any, images: Tensor | None, gradient: Tensor | None, *_: None) -> Tensor | None:
        old_images, old_gradient, winners = ctx.saved_tensors
        rest = (winners, ctx.taps, ctx.window)
        return total(
            None if images is None else _ToWeightsPooled.apply(images.contiguous(), old_gradient, *rest),
            None if gradient is None else _ToWeightsPooled.apply(old_images, gradient.contiguous(), *rest),
        )


def _to_images(gradient: Tensor, winners: Tensor, weight: Tensor, ctx: Any) -> Tensor:
    """Gradients of the images: `ToImages` of what goes to the winners."""
    shape = torch.Size((len(gradient), *ctx.taps.outputs, gradient.shape[-1]))
    return ToImages.apply(ToWinners.apply(gradient, winners, shape, ctx.window), weight, ctx.taps)

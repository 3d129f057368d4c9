"""Convolutions by their surviving weights, with derivatives of any order."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sharpminima.nets.sparse import _kernels
from sharpminima.runtime.compiled import shared


class Taps:
    """Where the surviving weights of a convolution meet padded images of a size, in positions of one image.

    Args:
        mask: bool [filters, channels, height, width] of the kernels, with S true.
        images: height and width of the padded images.
    """

    def __init__(
        self, mask: np.ndarray, images: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
    ) -> None:
        kernel = mask.shape[2:]
        self.images, self.stride = images, stride
        self.outputs = tuple(
            (size - apart * (extent - 1) - 1) // step + 1
            for size, extent, step, apart in zip(images, kernel, stride, dilation, strict=True)
        )
        filters, channels, rows, columns = mask.nonzero()
        tops = rows * dilation[0]
        self.lefts = np.arange(kernel[1]) * dilation[1]
        self.places = (channels * images[0] + tops) * images[1] + self.lefts[columns]
        self.starts = np.searchsorted(filters, np.arange(len(mask) + 1))
        # The same weights by channel and column, for the gradients of the images.
        group = channels * kernel[1] + columns
        self.order = np.argsort(group, kind="stable")
        self.filters, self.tops = filters[self.order], tops[self.order]
        self.group_starts = np.searchsorted(group[self.order], np.arange(mask.shape[1] * kernel[1] + 1))

    def geometry(self, batch: int) -> _kernels.Geometry:
        """The runs for a batch: whole rows, or single positions if a stride parts them."""
        (rows, columns), (down, right) = self.outputs, self.stride
        runs, length = (1, columns * batch) if right == 1 else (columns, batch)
        return _kernels.Geometry(rows, runs, length, down * self.images[1] * batch, right * batch)


def keep(ctx: Any, taps: Taps, *tensors: Tensor) -> None:
    """Keep what both modes of differentiation start from; zero derivatives stay None, which saves their cost.

    Called in ``forward``: a ``setup_context``, which only torch.func's transforms need, costs thrice the call itself.
    """
    ctx.taps = taps
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)
    ctx.set_materialize_grads(False)


class Convolve(torch.autograd.Function):
    """Maps [F, H', W', N] of padded images [C, H, W, N], weights [S] and a bias [F].

    Linear in the images and in the weights, as are `ToImages` and `ToWeights`. Each of the three is a derivative of
    the others, so that they have derivatives of any order, forward and reverse.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, taps: Taps) -> Tensor:
        keep(ctx, taps, images, weight, bias)
        batch = images.shape[-1]
        maps = images.new_empty(len(bias), *taps.outputs, batch)
        _kernels.convolve(
            shared(images),
            shared(weight),
            shared(bias),
            taps.starts,
            taps.places * batch,
            taps.geometry(batch),
            shared(maps),
        )
        return maps

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, ...]:
        if gradient is None:
            return None, None, None, None
        images, weight, _ = ctx.saved_tensors
        wanted, gradient = ctx.needs_input_grad, gradient.contiguous()
        return (
            ToImages.apply(gradient, weight, ctx.taps) if wanted[0] else None,
            ToWeights.apply(images, gradient, ctx.taps) if wanted[1] else None,
            gradient.flatten(1).sum(1) if wanted[2] else None,
            None,
        )

    @staticmethod
    def jvp(ctx: Any, images: Tensor | None, weight: Tensor | None, bias: Tensor | None, _: None) -> Tensor | None:
        return along(ctx.saved_tensors, (images, weight, bias), ctx.taps)


class ToImages(torch.autograd.Function):
    """Gradients [C, H, W, N] of padded images, of gradients of maps [F, H', W', N] and weights [S]."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, weight: Tensor, taps: Taps) -> Tensor:
        keep(ctx, taps, gradient, weight)
        batch = gradient.shape[-1]
        (height, width), channels = taps.images, (len(taps.group_starts) - 1) // len(taps.lefts)
        image_gradient = gradient.new_zeros(channels, height, width, batch)
        _kernels.to_inputs(
            shared(gradient),
            shared(weight)[taps.order],
            taps.group_starts,
            taps.filters,
            taps.tops,
            taps.lefts * batch,
            taps.stride[0],
            height,
            width * batch,
            taps.geometry(batch),
            shared(image_gradient),
        )
        return image_gradient

    @staticmethod
    def backward(ctx: Any, images: Tensor | None) -> tuple[Tensor | None, ...]:
        if images is None:
            return None, None, None
        gradient, weight = ctx.saved_tensors
        wanted, images = ctx.needs_input_grad, images.contiguous()
        return (
            Convolve.apply(images, weight, weight.new_zeros(len(gradient)), ctx.taps) if wanted[0] else None,
            ToWeights.apply(images, gradient, ctx.taps) if wanted[1] else None,
            None,
        )

    @staticmethod
    def jvp(ctx: Any, gradient: Tensor | None, weight: Tensor | None, _: None) -> Tensor | None:
        old_gradient, old_weight = ctx.saved_tensors
        return total(
            None if gradient is None else ToImages.apply(gradient.contiguous(), old_weight, ctx.taps),
            None if weight is None else ToImages.apply(old_gradient, weight.contiguous(), ctx.taps),
        )


class ToWeights(torch.autograd.Function):
    """Gradients [S] of the weights, of padded images [C, H, W, N] and gradients of maps [F, H', W', N]."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, gradient: Tensor, taps: Taps) -> Tensor:
        keep(ctx, taps, images, gradient)
        batch = images.shape[-1]
        weight_gradient = images.new_zeros(len(taps.places))
        _kernels.to_weights(
            shared(images),
            shared(gradient),
            taps.starts,
            taps.places * batch,
            taps.geometry(batch),
            shared(weight_gradient),
        )
        return weight_gradient

    @staticmethod
    def backward(ctx: Any, weight: Tensor | None) -> tuple[Tensor | None, ...]:
        if weight is None:
            return None, None, None
        images, gradient = ctx.saved_tensors
        wanted, weight = ctx.needs_input_grad, weight.contiguous()
        return (
            ToImages.apply(gradient, weight, ctx.taps) if wanted[0] else None,
            Convolve.apply(images, weight, weight.new_zeros(len(gradient)), ctx.taps) if wanted[1] else None,
            None,
        )

    @staticmethod
    def jvp(ctx: Any, images: Tensor | None, gradient: Tensor | None, _: None) -> Tensor | None:
        old_images, old_gradient = ctx.saved_tensors
        return total(
            None if images is None else ToWeights.apply(images.contiguous(), old_gradient, ctx.taps),
            None if gradient is None else ToWeights.apply(old_images, gradient.contiguous(), ctx.taps),
        )


def along(old: Sequence[Tensor], moves: Sequence[Tensor | None], taps: Taps) -> Tensor | None:
    """How the maps of `Convolve` move with its images, weights and bias, of which None do not."""
    (images, weight, bias), (by_images, by_weight, by_bias) = old, moves
    none = torch.zeros_like(bias)
    moved = None if by_images is None else Convolve.apply(by_images.contiguous(), weight, none, taps)
    if by_weight is None and by_bias is None:
        return moved
    by_weight = torch.zeros_like(weight) if by_weight is None else by_weight.contiguous()
    return total(moved, Convolve.apply(images, by_weight, none if by_bias is None else by_bias, taps))


def total(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """Their sum, of which None is a zero."""
    if first is None or second is None:
        return second if first is None else first
    return first + second

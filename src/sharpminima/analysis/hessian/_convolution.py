"""Convolutions whose second derivatives are convolutions again, as large as the first ones.

Torch writes that of the kernel's gradient as a convolution with kernels of the size of the images, which its libraries
are slow at; here it is the gradient with respect to a kernel, for which they have one.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_Geometry = tuple[list[int], list[int], list[int], int]  # stride, padding, dilation, groups

_FUNCTIONS: tuple[Callable[..., Tensor], ...] = (F.conv1d, F.conv2d, F.conv3d)


class _Convolution(Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.geometry = geometry
        return _convolved(inputs, weight, bias, geometry)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return (*_Gradients.apply(*gradients, *ctx.saved_tensors, ctx.geometry, ctx.needs_input_grad[:3]), None)


class _Gradients(Function):
    """Of a convolution with respect to inputs, weight and bias: bilinear in the output's and each of the first two."""

    @staticmethod
    def forward(
        ctx: Any, gradient: Tensor, inputs: Tensor, weight: Tensor, geometry: _Geometry, wanted: tuple[bool, ...]
    ) -> tuple[Tensor | None, ...]:
        ctx.save_for_backward(gradient, inputs, weight)
        ctx.geometry = geometry
        ctx.set_materialize_grads(False)
        return _pulled(gradient, inputs, weight, geometry, wanted)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_inputs: Tensor | None, of_weight: Tensor | None, of_bias: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        gradient, inputs, weight = ctx.saved_tensors
        geometry = ctx.geometry
        to_gradient, to_inputs, to_weight = ctx.needs_input_grad[:3]
        terms = []
        if to_gradient:
            if of_inputs is not None:
                terms.append(_convolved(of_inputs, weight, None, geometry))
            if of_weight is not None:
                terms.append(_convolved(inputs, of_weight, None, geometry))
            if of_bias is not None:
                terms.append(of_bias.view(-1, *[1] * (gradient.dim() - 2)).expand_as(gradient))
        return (
            sum(terms[1:], terms[0]) if terms else None,
            _pulled(gradient, inputs, of_weight, geometry, (True, False, False))[0]
            if to_inputs and of_weight is not None
            else None,
            _pulled(gradient, of_inputs, weight, geometry, (False, True, False))[1]
            if to_weight and of_inputs is not None
            else None,
            None,
            None,
        )


def _convolved(inputs: Tensor, weight: Tensor, bias: Tensor | None, geometry: _Geometry) -> Tensor:
    stride, padding, dilation, groups = geometry
    return torch.convolution(inputs, weight, bias, stride, padding, dilation, False, [0] * len(stride), groups)


def _pulled(
    gradient: Tensor, inputs: Tensor, weight: Tensor, geometry: _Geometry, wanted: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    stride, padding, dilation, groups = geometry
    return torch.ops.aten.convolution_backward(
        gradient,
        inputs,
        weight,
        [weight.shape[0]],
        stride,
        padding,
        dilation,
        False,
        [0] * len(stride),
        groups,
        list(wanted),
    )


class OwnConvolutions(TorchFunctionMode):
    """Takes convolutions of batches by the ones of this module, where padding is given as numbers."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _FUNCTIONS:
            return func(*args, **kwargs)
        return _own(func, *args, **kwargs)


def _own(
    func: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: str | int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> Tensor:
    axes = weight.dim() - 2
    if isinstance(padding, str) or input.dim() != weight.dim():
        return func(input, weight, bias, stride, padding, dilation, groups)
    geometry = (_each(stride, axes), _each(padding, axes), _each(dilation, axes), groups)
    return _Convolution.apply(input, weight, bias, geometry)


def _each(value: int | tuple[int, ...], axes: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * axes if len(values) == 1 else values

"""The first-order entropy of a layer as one operation on a CPU."""

import ctypes
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sharpminima.base.errors import TrainingError
from sharpminima.runtime.parallel import Parts
from sharpminima.training import _entropy_kernels

_PART = {True: 2048, False: 128}  # neurons whose sums stay in a cache; fewer where each is a cache line of its own
_SHARPEST = 1e30  # of 1 / tau: there all states are 0 or 1, and the arithmetic is still that of finite numbers

_ENTROPIES, _GRADIENTS = Parts(_entropy_kernels.entropies), Parts(_entropy_kernels.gradients)


def layer_entropy(z: Tensor, labels: Tensor, weights: Tensor, running: Tensor, tau: float) -> Tensor:
    """The entropies of soft states, summed over neurons and classes [], in bits, with a gradient of ``z``.

    Args:
        z: pre-activations [N, K], float32 on a CPU.
        labels: int64 [N], each at least 0 and below the number of classes.
        weights: of each class [classes, 3], float32: images (at least 1), and the shares that what was seen before has
            in the frequencies, and the mini-batch in the running estimates.
        running: estimates of the frequencies [classes, ..., K], float32; changed in place.
        tau: width of the soft state.
    """
    summed: Tensor = _LayerEntropy.apply(z.resolve_neg(), labels.contiguous(), weights, running, tau)
    return summed


def first_order(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A ``backward`` that has no derivative, and says so.

    torch's own `once_differentiable` tells only of an incoming gradient that has a graph; of another one the second
    derivative would be without a part, and nobody would know.

    Raises:
        TrainingError: when it is called, a graph of the gradient is asked for.
    """
    once = once_differentiable(backward)

    @wraps(backward)
    def checked(ctx: Any, *gradients: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise TrainingError(
                "the PSP-entropy has no second derivatives; take its gradient without create_graph=True, apart from "
                "the loss's"
            )
        return once(ctx, *gradients)

    return checked


class _LayerEntropy(torch.autograd.Function):
    """`layer_entropy`."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, labels: Tensor, weights: Tensor, running: Tensor, tau: float) -> Tensor:
        states, slopes = z.new_empty(z.shape), z.new_empty(len(weights), z.shape[1])
        ctx.layout, ctx.sharpness = _layout(z, len(weights)), min(1 / tau, _SHARPEST)
        sums = z.new_empty(ctx.layout[0], dtype=torch.float64)
        _ENTROPIES(
            *ctx.layout,
            _bits(ctx.sharpness),
            z.data_ptr(),
            labels.data_ptr(),
            weights.data_ptr(),
            running.data_ptr(),
            states.data_ptr(),
            slopes.data_ptr(),
            sums.data_ptr(),
        )
        ctx.save_for_backward(labels, states, slopes)
        return sums.sum(dtype=z.dtype)

    @staticmethod
    @first_order
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        labels, states, slopes = ctx.saved_tensors
        images, neurons = states.shape
        of_neuron = ctx.layout[-1]
        to_z = torch.empty_like(states) if of_neuron == 1 else states.new_empty(neurons, images).T
        _GRADIENTS(
            *_layout(to_z, len(slopes)),
            _bits(gradient.item() * ctx.sharpness),
            labels.data_ptr(),
            states.data_ptr(),
            slopes.data_ptr(),
            to_z.data_ptr(),
        )
        return to_z, None, None, None, None


def _layout(z: Tensor, classes: int) -> tuple[int, ...]:
    """What the kernels say, and before it the number of parts."""
    (images, neurons), (of_image, of_neuron) = z.shape, z.stride()
    part = _PART[of_neuron == 1]
    return -(-neurons // part), part, images, neurons, classes, of_image, of_neuron


def _bits(number: float) -> int:
    """Of the nearest float32."""
    return ctypes.c_uint32.from_buffer(ctypes.c_float(number)).value

"""Ways to a product of a matrix of curvature with vectors."""

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import grad, jvp, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from sharpminima.analysis._loss import Part
from sharpminima.analysis.hessian._convolution import OwnConvolutions

Parameters = dict[str, Tensor]
"""Name -> values; of directions with a leading axis of b vectors."""
Loss = Callable[[Parameters], Tensor]
Product = Callable[[Any, Parameters, Parameters], Tensor]
"""Function of a batch (`Kind`), parameters, directions -> the products, [b, elements of the parameters]."""
Linear = Callable[[Parameters], Tensor]
"""Directions -> the products; what does not depend on the directions is computed and held."""


def vectorised(loss: Loss, parameters: Parameters, directions: Parameters) -> Tensor:
    """Forward over reverse mode, all vectors in one pass."""

    def product(direction: Parameters) -> Parameters:
        return jvp(grad(loss), (parameters,), (direction,))[1]

    return rows_of(vmap(product)(directions))


def forward_over_reverse(loss: Loss, parameters: Parameters, directions: Parameters) -> Tensor:
    """Forward over reverse mode, one vector after another.

    The same as ``jvp(grad(loss))``, whose transforms cost what a layer of survivors saves.
    """
    rows = [_along(loss, parameters, direction)[None] for direction in each(directions)]
    return torch.cat(rows) if len(rows) > 1 else rows[0]


def double_backward(loss: Loss, parameters: Parameters, directions: Parameters) -> Tensor:
    """The gradient of the gradient times a vector, one after another: for nets that have no forward mode."""
    return _of_gradient(loss, parameters)(directions)


def kept_graph(loss: Loss, parameters: Parameters) -> Linear:
    """The same with the gradient's graph held, and without what torch's convolutions lose in it."""
    with OwnConvolutions():
        return _of_gradient(loss, parameters)


def _of_gradient(loss: Loss, parameters: Parameters) -> Linear:
    """Derivatives of the gradient by another backward pass."""
    leaves = {name: parameter.detach().requires_grad_() for name, parameter in parameters.items()}
    inputs = list(leaves.values())
    gradients = torch.autograd.grad(loss(leaves), inputs, create_graph=True, allow_unused=True)

    def products(directions: Parameters) -> Tensor:
        rows = []
        for direction in each(directions):
            terms = [
                (gradient * part).sum()
                for gradient, part in zip(gradients, direction, strict=True)
                if gradient is not None and gradient.requires_grad
            ]
            images = (
                torch.autograd.grad(sum(terms, torch.zeros(())), inputs, retain_graph=True, allow_unused=True)
                if terms
                else [None] * len(inputs)
            )
            rows.append(flat_of(images, inputs))
        return torch.stack(rows)

    return products


def gradient(loss: Loss, parameters: Parameters) -> Tensor:
    """The gradient itself, flat."""
    leaves = {name: parameter.detach().requires_grad_() for name, parameter in parameters.items()}
    inputs = list(leaves.values())
    return flat_of(torch.autograd.grad(loss(leaves), inputs, allow_unused=True), inputs)


def each(directions: Parameters) -> Iterator[list[Tensor]]:
    """One direction after another, by parameter."""
    for i in range(len(next(iter(directions.values())))):
        yield [part[i] for part in directions.values()]


def rows_of(parts: Parameters) -> Tensor:
    """Parts with a leading axis of vectors, [b, their elements]; those of a scalar parameter are [b]."""
    return torch.cat([part.reshape(len(part), -1) for part in parts.values()], dim=1)


def flat_of(parts: Sequence[Tensor | None], like: list[Tensor]) -> Tensor:
    """The parts in one vector, detached; None is a part of zeros."""
    return torch.cat(
        [
            torch.zeros_like(leaf).flatten() if part is None else part.detach().flatten()
            for part, leaf in zip(parts, like, strict=True)
        ]
    )


def _along(loss: Loss, parameters: Parameters, direction: list[Tensor]) -> Tensor:
    """The derivative of the gradient of ``loss`` along a direction, flat."""
    with forward_ad.dual_level():
        leaves = [parameter.detach().requires_grad_() for parameter in parameters.values()]
        moved = [forward_ad.make_dual(leaf, part) for leaf, part in zip(leaves, direction, strict=True)]
        gradients = torch.autograd.grad(loss(dict(zip(parameters, moved, strict=True))), moved, allow_unused=True)
        tangents = [None if gradient is None else forward_ad.unpack_dual(gradient).tangent for gradient in gradients]
        return flat_of(tangents, leaves)


@functools.cache
def load_forward_mode() -> None:
    """Let torch load its forward-mode formulas, which warns of its own use of ``torch.jit.script``."""
    with warnings.catch_warnings():
        # A DeprecationWarning with torch 2.13, a FutureWarning with 2.15.
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.script")
        jvp(torch.sin, (torch.zeros(()),), (torch.zeros(()),))


class _Decomposed(TorchFunctionMode):
    """Computes what has no second derivative in torch, or a wrong one, by what has.

    Args:
        plain: hard sigmoids too.
    """

    def __init__(self, plain: bool) -> None:
        super().__init__()
        self._plain = plain

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch._weight_norm:
            return _weight_norm(*args, **(kwargs or {}))
        if self._plain and func is F.hardsigmoid:
            return F.hardtanh(args[0] + 3, 0.0, 6.0) / 6
        if func is F.embedding:
            return _embedding(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _embedding(tokens: Tensor, weight: Tensor, padding_idx: int | None = None, *args: Any, **kwargs: Any) -> Tensor:
    """Rows of a table; that of padding is a constant: backward mode takes it for one, forward mode does not."""
    rows = F.embedding(tokens, weight, padding_idx, *args, **kwargs)
    if padding_idx is None:
        return rows
    return torch.where((tokens == padding_idx % len(weight)).unsqueeze(-1), rows.detach(), rows)


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """v at length g: torch's kernel takes the length for a constant in its second derivative."""
    return v * (g / torch.norm_except_dim(v, 2, dim))


@contextlib.contextmanager
def differentiable_kernels(plain: bool = False) -> Iterator[None]:
    """Attention, weight norm and the padding of embeddings by operations that have the right second derivatives.

    With ``plain`` recurrent layers and hard sigmoids too.
    """
    backends: tuple[Any, ...] = (torch.backends.mkldnn, torch.backends.cudnn)
    before = [backend.enabled for backend in backends]
    try:
        if plain:
            for backend in backends:
                backend.enabled = False  # their `flags` set more than this
        with sdpa_kernel(SDPBackend.MATH), _Decomposed(plain):
            yield
    finally:
        for backend, enabled in zip(backends, before, strict=True):
            if backend.enabled != enabled:
                backend.enabled = enabled


class Losses(Protocol):
    """A loss of batches, as `MeanLoss` is one."""

    def outputs(self, net: nn.Module, parameters: Mapping[str, Tensor], part: Part) -> Any:
        """What a net gives for a batch with these parameters."""

    def of_outputs(self, outputs: Any, part: Part, scale: Tensor | float = 1.0) -> Tensor:
        """The sum of the samples' losses, of outputs divided by a scale where the loss has one."""

    def total(
        self, net: nn.Module, parameters: Mapping[str, Tensor], part: Part, scale: Tensor | float = 1.0
    ) -> Tensor:
        """The sum of the samples' losses with these parameters."""


@dataclass(frozen=True)
class Kind:
    """A matrix of curvature, by what its products are made of and three ways to them."""

    # Of the loss, a net, those of its parameters that stand still, a batch and the scale of its logits: what the ways
    # take, a function of the other parameters.
    function: Callable[[Losses, nn.Module, Parameters, Part, Tensor | float], Any]
    forward: Product  # in forward mode, one vector after another
    vectorised: Product  # all vectors in one pass
    backward: Product  # for nets that have no forward mode
    kept: Callable[[Any, Parameters], Linear] | None = None  # with a graph that is held
    # The gradient that belongs to it, [elements of the parameters]; None: what the net itself bends does not count.
    gradient: Callable[[Any, Parameters], Tensor] | None = None


def _total(loss: Losses, net: nn.Module, fixed: Parameters, part: Part, scale: Tensor | float) -> Loss:
    return lambda parameters: loss.total(net, fixed | parameters, part, scale)


HESSIAN = Kind(_total, forward_over_reverse, vectorised, double_backward, kept_graph, gradient)


def values_of(net: nn.Module) -> Parameters:
    """The parameters of a net, without a graph."""
    return {name: parameter.detach() for name, parameter in net.named_parameters()}


def split(flat: Tensor, parameters: Parameters) -> Parameters:
    """Vectors [b, elements of the parameters] as directions in the parameters' shapes and dtypes: copies.

    Views would not be aligned in memory, which BLAS's bits depend on.
    """
    parts = flat.split([parameter.numel() for parameter in parameters.values()], dim=1)
    return {
        name: part.reshape(len(flat), *parameter.shape).to(parameter.dtype, copy=True)
        for (name, parameter), part in zip(parameters.items(), parts, strict=True)
    }

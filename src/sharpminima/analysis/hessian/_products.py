"""Ways to a product of the Hessian with vectors, and which of them a net allows."""

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from sharpminima.analysis._inputs import logits_of
from sharpminima.analysis._reduced import Reduced, reductions, whole_of
from sharpminima.base.errors import AnalysisError, SharpminimaError
from sharpminima.nets.modes import reason_of
from sharpminima.nets.sparse import SparseConv2d
from sharpminima.runtime.rng import generator

Parameters = dict[str, Tensor]
"""Name -> values; of directions with a leading axis of b vectors."""
Loss = Callable[[Parameters], Tensor]
Product = Callable[[Loss, Parameters, Parameters], Tensor]
"""Loss, parameters, directions -> the products, float64 [b, elements of the parameters]."""

_SAME = 1e-2  # of a product's length: more than rounding at a kink, less than a term that is missing


def vectorised(loss: Loss, parameters: Parameters, directions: Parameters) -> Tensor:
    """Forward over reverse mode, all vectors in one pass."""

    def product(direction: Parameters) -> Parameters:
        return jvp(grad(loss), (parameters,), (direction,))[1]

    return torch.cat([part.flatten(1).double() for part in vmap(product)(directions).values()], dim=1)


def forward_over_reverse(loss: Loss, parameters: Parameters, directions: Parameters) -> Tensor:
    """Forward over reverse mode, one vector after another.

    The same as ``jvp(grad(loss))``, whose transforms cost what a layer of survivors saves.
    """
    return torch.stack([_along(loss, parameters, direction) for direction in _each(directions)]).double()


def double_backward(loss: Loss, parameters: Parameters, directions: Parameters) -> Tensor:
    """The gradient of the gradient times a vector, one after another: for nets that have no forward mode."""
    leaves = {name: parameter.detach().requires_grad_() for name, parameter in parameters.items()}
    inputs = list(leaves.values())
    gradients = torch.autograd.grad(loss(leaves), inputs, create_graph=True, allow_unused=True)
    rows = []
    for direction in _each(directions):
        terms = [
            (gradient * part).sum()
            for gradient, part in zip(gradients, direction, strict=True)
            if gradient is not None and gradient.requires_grad
        ]
        found = (
            torch.autograd.grad(sum(terms, torch.zeros(())), inputs, retain_graph=True, allow_unused=True)
            if terms
            else [None] * len(inputs)
        )
        rows.append(_flat(found, inputs))
    return torch.stack(rows).double()


def _each(directions: Parameters) -> Iterator[list[Tensor]]:
    for i in range(len(next(iter(directions.values())))):
        yield [part[i] for part in directions.values()]


def _flat(parts: Sequence[Tensor | None], like: list[Tensor]) -> Tensor:
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
        found = torch.autograd.grad(loss(dict(zip(parameters, moved, strict=True))), moved, allow_unused=True)
        tangents = [None if gradient is None else forward_ad.unpack_dual(gradient).tangent for gradient in found]
        return _flat(tangents, leaves)


@functools.cache
def load_forward_mode() -> None:
    """Let torch load its forward-mode formulas, which warns of its own use of ``torch.jit.script``."""
    with warnings.catch_warnings():
        # A DeprecationWarning with torch 2.13, a FutureWarning with 2.15.
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.script")
        jvp(torch.sin, (torch.zeros(()),), (torch.zeros(()),))


class _Decomposed(TorchFunctionMode):
    """Computes what has no second derivative in torch by what has."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.hardsigmoid:
            return F.hardtanh(args[0] + 3, 0.0, 6.0) / 6
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def differentiable_kernels(plain: bool = False) -> Iterator[None]:
    """Attention by products that have second derivatives; with ``plain`` recurrent layers and hard sigmoids too."""
    backends: tuple[Any, ...] = (torch.backends.mkldnn, torch.backends.cudnn)
    before = [backend.enabled for backend in backends]
    try:
        if plain:
            for backend in backends:
                backend.enabled = False  # their `flags` set more than this
        with sdpa_kernel(SDPBackend.MATH), _Decomposed() if plain else contextlib.nullcontext():
            yield
    finally:
        for backend, enabled in zip(backends, before, strict=True):
            if backend.enabled != enabled:
                backend.enabled = enabled


@dataclass(frozen=True)
class Way:
    """How a net's products are computed."""

    reduced: Reduced
    single: Product  # of one vector
    several: Product  # of more
    plain: bool  # with `differentiable_kernels`


def find_way(
    model: nn.Module,
    masks: Mapping[str, Tensor] | None,
    survivors: Tensor,
    few: Tensor,
    target: Tensor,
    dtype: torch.dtype | None,
) -> Way:
    """The fastest way that agrees with double backward through the whole net, on few images and two vectors.

    So a net without a rule for forward mode, a layout that it does not take, hooks, parts without gradient and other
    code that a smaller net does not see cost time, and not the result.

    Args:
        survivors: bool [P].
        few, target: images, in what is computed in, and their labels.

    Raises:
        AnalysisError: the loss depends on no parameter, the net computes in less than float32, or has no second
            derivatives.
    """
    vectors = torch.zeros(2, len(survivors), dtype=torch.float64, device=survivors.device)
    draws = generator(0, "trial of a product")
    vectors[:, survivors] = torch.randn(2, int(survivors.sum()), generator=draws, dtype=torch.float64).to(vectors)
    whole = whole_of(model, dtype)
    scale = torch.ones(())

    def tried(reduced: Reduced, product: Product, count: int) -> Tensor:
        def loss(parameters: Parameters) -> Tensor:
            logits = functional_call(reduced.net, parameters, (few.contiguous(memory_format=reduced.layout),))
            # Logits of the size of 1: a net that is certain of its classes has no curvature to compare.
            return F.cross_entropy(logits / scale, target, reduction="sum")

        parameters = values_of(reduced.net)
        parts = split(vectors[:count, reduced.places.to(vectors.device)], parameters)
        found = vectors.new_zeros(count, len(survivors))
        found[:, reduced.places.to(vectors.device)] = product(loss, parameters, parts)
        return found[:, survivors]

    logits = logits_of(whole.net, few)
    if torch.finfo(logits.dtype).bits < 32:
        raise AnalysisError(f"the model computes in {logits.dtype}, too coarse for curvature; let it take float32")
    if not logits.requires_grad:
        raise AnalysisError("the loss depends on no parameter of the model, so there is no Hessian")
    scale = logits.detach().abs().max().clamp(min=1)
    plain, expected = _reference(lambda: tried(whole, double_backward, 2))
    with differentiable_kernels(plain):

        def agrees(reduced: Reduced, product: Product, count: int) -> bool:
            try:
                found = tried(reduced, product, count)
            except torch.OutOfMemoryError:
                raise
            except Exception:  # whatever torch or the model's own code make of a mode, a layout, a transform
                return False
            error, length = (found - expected[:count]).norm(), expected[:count].norm()
            return not length.isfinite() or bool(error <= _SAME * length)

        for product in (forward_over_reverse, double_backward):
            for reduced in reductions(model, masks, dtype):
                if agrees(reduced, product, 1):
                    sparse = any(isinstance(module, SparseConv2d) for module in reduced.net.modules())  # know no vmap
                    together = product is forward_over_reverse and not sparse and agrees(reduced, vectorised, 2)
                    return Way(reduced, product, vectorised if together else product, plain)
    return Way(whole, double_backward, double_backward, plain)


def _reference(compute: Callable[[], Tensor]) -> tuple[bool, Tensor]:
    """What double backward gives, and whether it took plain kernels."""
    for plain in (False, True):
        try:
            with differentiable_kernels(plain):
                return plain, compute()
        except (torch.OutOfMemoryError, SharpminimaError):
            raise
        except Exception as error:  # whatever torch or the model's own code raise
            problem = error
    raise AnalysisError(
        f"the model has no second derivatives ({reason_of(problem)}); replace the layer that has none"
    ) from problem


def values_of(net: nn.Module) -> Parameters:
    """The parameters of a net, without a graph."""
    return {name: parameter.detach() for name, parameter in net.named_parameters()}


def split(flat: Tensor, parameters: Parameters) -> Parameters:
    """Vectors [b, elements of the parameters] as directions in the parameters' shapes and dtypes."""
    parts = flat.split([parameter.numel() for parameter in parameters.values()], dim=1)
    return {
        name: part.reshape(len(flat), *parameter.shape).to(parameter.dtype)
        for (name, parameter), part in zip(parameters.items(), parts, strict=True)
    }

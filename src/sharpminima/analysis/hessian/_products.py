"""Ways to a product of a matrix of curvature with vectors, and which of them a net allows."""

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import grad, jvp, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from sharpminima.analysis._loss import MeanLoss, Part
from sharpminima.analysis._reduced import Reduced, reductions, whole_of
from sharpminima.analysis._structure import floating_of
from sharpminima.analysis.hessian._convolution import OwnConvolutions
from sharpminima.base.errors import AnalysisError, SharpminimaError
from sharpminima.nets.modes import reason_of
from sharpminima.nets.sparse import SparseConv2d
from sharpminima.runtime.rng import generator

Parameters = dict[str, Tensor]
"""Name -> values; of directions with a leading axis of b vectors."""
Loss = Callable[[Parameters], Tensor]
Product = Callable[[Any, Parameters, Parameters], Tensor]
"""Function of a batch (`Kind`), parameters, directions -> the products, [b, elements of the parameters]."""
Linear = Callable[[Parameters], Tensor]
"""Directions -> the products; what does not depend on the directions is computed and held."""

_SAME = 1e-2  # of a product's length: more than rounding at a kink, less than a term that is missing


def vectorised(loss: Loss, parameters: Parameters, directions: Parameters) -> Tensor:
    """Forward over reverse mode, all vectors in one pass."""

    def product(direction: Parameters) -> Parameters:
        return jvp(grad(loss), (parameters,), (direction,))[1]

    return torch.cat([part.flatten(1) for part in vmap(product)(directions).values()], dim=1)


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


def each(directions: Parameters) -> Iterator[list[Tensor]]:
    """One direction after another, by parameter."""
    for i in range(len(next(iter(directions.values())))):
        yield [part[i] for part in directions.values()]


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
class Kind:
    """A matrix of curvature, by what its products are made of and three ways to them."""

    # Of the loss, a net, those of its parameters that stand still, a batch and the scale of its logits: what the ways
    # take, a function of the other parameters.
    function: Callable[[MeanLoss, nn.Module, Parameters, Part, Tensor | float], Any]
    forward: Product  # in forward mode, one vector after another
    vectorised: Product  # all vectors in one pass
    backward: Product  # for nets that have no forward mode
    kept: Callable[[Any, Parameters], Linear] | None = None  # with a graph that is held


def _total(loss: MeanLoss, net: nn.Module, fixed: Parameters, part: Part, scale: Tensor | float) -> Loss:
    return lambda parameters: loss.total(net, fixed | parameters, part, scale)


HESSIAN = Kind(_total, forward_over_reverse, vectorised, double_backward, kept_graph)


@dataclass(frozen=True)
class Differentiated:
    """A net, and which of its parameters the derivatives are with respect to."""

    net: nn.Module
    parameters: Parameters
    fixed: Parameters  # the others
    places: Tensor  # int64; of each element of the parameters among the model's P

    @classmethod
    def of(cls, reduced: Reduced, wanted: Tensor | None) -> "Differentiated":
        """Those with an element that is wanted, bool [P]; None: all."""
        values = values_of(reduced.net)
        places = reduced.places if wanted is None else reduced.places.to(wanted.device)
        parts = dict(zip(values, places.split([value.numel() for value in values.values()]), strict=True))
        chosen = [name for name, part in parts.items() if wanted is None or bool(wanted[part].any())]
        return cls(
            reduced.net,
            {name: values[name] for name in chosen},
            {name: value for name, value in values.items() if name not in chosen},
            torch.cat([parts[name] for name in chosen]),
        )


@dataclass(frozen=True)
class Way:
    """How a net's products are computed."""

    single: Product  # of one vector
    several: Product  # of more
    plain: bool  # with `differentiable_kernels`
    kept: bool  # may graphs of batches be kept? where that was asked for


def find_way(
    model: nn.Module,
    masks: Mapping[str, Tensor] | None,
    survivors: Tensor,
    loss: MeanLoss,
    dtype: torch.dtype | None,
    kind: Kind = HESSIAN,
    wanted: Tensor | None = None,
    keep: bool = False,
) -> tuple[Reduced, Way]:
    """The net, and the fastest way through it, that agree with double backward through the whole net.

    They are tried on few samples and two vectors. So a net without a rule for forward mode, a layout that it does not
    take, hooks, parts without gradient and other code that a smaller net does not see cost time, and not the result.

    Args:
        survivors: bool [P].
        dtype: what is computed in; None: the model's own.
        wanted: bool [P]; the parameters to differentiate by, as of `Differentiated`.
        keep: are graphs to be kept where they can (`Kind.kept`)?

    Raises:
        AnalysisError: the loss depends on no parameter, the net computes in less than float32, or has no second
            derivatives.
    """
    whole = whole_of(model, dtype)
    chosen: slice | Tensor = slice(None) if survivors.all() else survivors
    draws = generator(0, "trial of a product")
    # In the net's own dtype, one by one: in float64 they would be the most that a large net ever takes.
    vectors = torch.zeros(2, len(survivors), dtype=next(whole.net.parameters()).dtype, device=survivors.device)
    for vector in vectors:
        vector[chosen] = torch.randn(int(survivors.sum()), generator=draws, dtype=torch.float64).to(vectors)
    scale = torch.ones(())

    def tried(reduced: Reduced, product: Product, count: int) -> Tensor:
        part = Differentiated.of(reduced, wanted)
        # Logits of the size of 1: a net that is certain of its classes has no curvature to compare.
        function = kind.function(loss, part.net, part.fixed, loss.prepared(loss.few, dtype, reduced.layout), scale)
        places = part.places.to(vectors.device)
        directions = split(vectors[:count, places], part.parameters)
        images = vectors.new_zeros(count, len(survivors))
        images[:, places] = product(function, part.parameters, directions).to(images.dtype)
        return images[:, chosen]

    outputs = floating_of(loss.checked_outputs(whole.net, loss.prepared(loss.few, dtype, whole.layout)))
    coarse = [output.dtype for output in outputs if torch.finfo(output.dtype).bits < 32]
    if coarse:
        raise AnalysisError(f"the model computes in {coarse[0]}, too coarse for curvature; let it take float32")
    if not any(output.requires_grad for output in outputs):
        raise AnalysisError("the loss depends on no parameter of the model, so there is no Hessian")
    scale = torch.stack([output.detach().abs().max() for output in outputs if output.numel()]).max().clamp(min=1)
    plain, expected = _reference(lambda: tried(whole, kind.backward, 2))
    with differentiable_kernels(plain):

        def agrees(reduced: Reduced, product: Product, count: int) -> bool:
            try:
                images = tried(reduced, product, count)
            except torch.OutOfMemoryError:
                raise
            except Exception:  # whatever torch or the model's own code make of a mode, a layout, a transform
                return False
            error, length = (images - expected[:count]).norm(), expected[:count].norm()
            return not length.isfinite() or bool(error <= _SAME * length)

        def in_one_pass(reduced: Reduced) -> bool:
            with warnings.catch_warnings():
                # What has no rule for several vectors takes one after another, slower than we do.
                warnings.filterwarnings("error", message=r".*batching rule")
                return agrees(reduced, kind.vectorised, 2)

        def once(function: Any, parameters: Parameters, directions: Parameters) -> Tensor:
            assert kind.kept is not None
            return kind.kept(function, parameters)(directions)

        for product in (kind.forward, kind.backward):
            for reduced in reductions(model, masks, dtype):
                if agrees(reduced, product, 1):
                    sparse = any(isinstance(module, SparseConv2d) for module in reduced.net.modules())  # know no vmap
                    together = product is kind.forward and not sparse and in_one_pass(reduced)
                    kept = keep and agrees(reduced, once, 1)
                    return reduced, Way(product, kind.vectorised if together else product, plain, kept)
    return whole, Way(kind.backward, kind.backward, plain, False)


def _reference(compute: Callable[[], Tensor]) -> tuple[bool, Tensor]:
    """What double backward gives, and whether it took plain kernels."""
    for plain in (False, True):
        try:
            with differentiable_kernels(plain), warnings.catch_warnings():
                # The reentrant kind of `torch.utils.checkpoint`, whose first layers would have no gradient.
                warnings.filterwarnings("error", message=r"None of the inputs have requires_grad")
                return plain, compute()
        except (torch.OutOfMemoryError, SharpminimaError):
            raise
        except Exception as error:  # whatever torch or the model's own code raise
            problem = error
    raise AnalysisError(
        f"the model has no second derivatives ({reason_of(problem)}); replace the layer, or the loss, that has none"
    ) from problem


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

"""Which ways to a product of a matrix of curvature a net allows, and which net to go through."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sharpminima.analysis._loss import MeanLoss
from sharpminima.analysis._reduced import Reduced, reductions, whole_of
from sharpminima.analysis._structure import floating_of
from sharpminima.analysis.hessian._folding import Folding, folding_of
from sharpminima.analysis.hessian._products import (
    HESSIAN,
    Kind,
    Parameters,
    Product,
    differentiable_kernels,
    split,
    values_of,
)
from sharpminima.base.errors import AnalysisError, SharpminimaError
from sharpminima.nets.modes import reason_of
from sharpminima.nets.sparse import SparseConv2d
from sharpminima.runtime.rng import generator

_SAME = 1e-2  # of a product's length: more than rounding at a kink, less than a term that is missing


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
    folding: Folding | None = None  # through whose net they go


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
            derivatives, or such as are not symmetric.
    """
    whole = whole_of(model, dtype)
    chosen: slice | Tensor = slice(None) if survivors.all() else survivors
    draws = generator(0, "trial of a product")
    # In the net's own dtype, one by one: in float64 they would be the most that a large net ever takes.
    vectors = torch.zeros(2, len(survivors), dtype=next(whole.net.parameters()).dtype, device=survivors.device)
    for vector in vectors:
        vector[chosen] = torch.randn(int(survivors.sum()), generator=draws, dtype=torch.float64).to(vectors)
    scale = torch.ones(())

    def tried(reduced: Reduced, product: Product, count: int, folding: Folding | None = None) -> Tensor:
        part = Differentiated.of(reduced, wanted)
        net = part.net if folding is None else folding.net
        # Logits of the size of 1: a net that is certain of its classes has no curvature to compare.
        function = kind.function(loss, net, part.fixed, loss.prepared(loss.few, dtype, reduced.layout), scale)
        places = part.places.to(vectors.device)
        directions = split(vectors[:count, places], part.parameters)
        images = vectors.new_zeros(count, len(survivors))
        if folding is None:
            products = product(function, part.parameters, directions)
        else:
            inner = product(function, folding.parameters, folding.pushed(directions))
            gradient = None if kind.gradient is None else kind.gradient(function, folding.parameters).double()
            products = folding.pulled(directions, inner.double(), gradient)
        images[:, places] = products.to(images.dtype)
        return images[:, chosen]

    outputs = floating_of(loss.checked_outputs(whole.net, loss.prepared(loss.few, dtype, whole.layout)))
    coarse = [output.dtype for output in outputs if torch.finfo(output.dtype).bits < 32]
    if coarse:
        raise AnalysisError(f"the model computes in {coarse[0]}, too coarse for curvature; let it take float32")
    if not any(output.requires_grad for output in outputs):
        raise AnalysisError("the loss depends on no parameter of the model, so there is no Hessian")
    scale = torch.stack([output.detach().abs().max() for output in outputs if output.numel()]).max().clamp(min=1)
    plain, expected = _reference(lambda: tried(whole, kind.backward, 2))
    _check_symmetry(*(vector[chosen] for vector in vectors), *expected)
    with differentiable_kernels(plain):

        def agrees(reduced: Reduced, product: Product, count: int, folding: Folding | None = None) -> bool:
            try:
                images = tried(reduced, product, count, folding)
            except torch.OutOfMemoryError:
                raise
            except Exception:  # whatever torch or the model's own code make of a mode, a layout, a transform
                return False
            error, length = (images - expected[:count]).norm(), expected[:count].norm()
            return not length.isfinite() or bool(error <= _SAME * length)

        def in_one_pass(reduced: Reduced, folding: Folding | None) -> bool:
            with warnings.catch_warnings():
                # What has no rule for several vectors takes one after another, slower than we do.
                warnings.filterwarnings("error", message=r".*batching rule")
                return agrees(reduced, kind.vectorised, 2, folding)

        def once(function: Any, parameters: Parameters, directions: Parameters) -> Tensor:
            assert kind.kept is not None
            return kind.kept(function, parameters)(directions)

        for product in (kind.forward, kind.backward):
            for reduced in reductions(model, masks, dtype):
                if agrees(reduced, product, 1):
                    # Of some parameters alone, what is folded would be in part a constant.
                    foldable = reduced.graph if wanted is None else None
                    folding = None if foldable is None else folding_of(foldable, reduced.layout)
                    if folding is not None and not agrees(reduced, product, 1, folding):
                        folding = None
                    sparse = any(isinstance(module, SparseConv2d) for module in reduced.net.modules())  # know no vmap
                    together = product is kind.forward and not sparse and in_one_pass(reduced, folding)
                    kept = keep and agrees(reduced, once, 1, folding)
                    return reduced, Way(product, kind.vectorised if together else product, plain, kept, folding)
    return whole, Way(kind.backward, kind.backward, plain, False)


def _check_symmetry(u: Tensor, v: Tensor, image_of_u: Tensor, image_of_v: Tensor) -> None:
    """Check that u.Hv = v.Hu for random vectors, which holds for the derivatives of a gradient.

    Raises:
        AnalysisError: it does not.
    """
    difference, length = (u @ image_of_v - v @ image_of_u).abs(), torch.maximum(image_of_u.norm(), image_of_v.norm())
    if difference > _SAME * length:  # not so of what is not finite, which tells nothing
        raise AnalysisError(
            "the second derivatives are not symmetric, so they are those of no function: the backward pass of a layer, "
            "or of the loss, leaves one out (an autograd.Function, a fused kernel); write it in torch's operations"
        )


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

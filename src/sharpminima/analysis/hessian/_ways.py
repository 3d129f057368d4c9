"""Which ways to a product of a matrix of curvature a net allows, and which net to go through."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sharpminima.analysis._loss import MeanLoss, Part, named_failure
from sharpminima.analysis._reduced import Reduced, reductions, whole_of
from sharpminima.analysis._structure import floating_of, mapped
from sharpminima.analysis.hessian._folding import Folding, folding_of
from sharpminima.analysis.hessian._products import (
    HESSIAN,
    Kind,
    Losses,
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


class _Quadratic:
    """Random quadratics of a net's outputs in place of their loss: they see the net where its loss is flat."""

    def __init__(self, loss: MeanLoss, outputs: Sequence[Tensor]) -> None:
        draws = generator(0, "trial of a net")
        self._loss = loss
        self._terms = [(_normal_like(output, draws), _normal_like(output, draws)) for output in outputs]

    def outputs(self, net: nn.Module, parameters: Mapping[str, Tensor], part: Part) -> Any:
        return self._loss.outputs(net, parameters, part)

    def of_outputs(self, outputs: Any, part: Part, scale: Tensor | float = 1.0) -> Tensor:
        values = [output / scale for output in floating_of(outputs)]
        return torch.stack(
            [((slope + bend * value) * value).sum() for value, (slope, bend) in zip(values, self._terms, strict=True)]
        ).sum()

    def total(
        self, net: nn.Module, parameters: Mapping[str, Tensor], part: Part, scale: Tensor | float = 1.0
    ) -> Tensor:
        return self.of_outputs(self.outputs(net, parameters, part), part, scale)


def _normal_like(tensor: Tensor, draws: torch.Generator) -> Tensor:
    return torch.randn(tensor.shape, generator=draws, dtype=torch.float64).to(tensor)


def _noisy(part: Part) -> Part:
    """A batch whose floating point inputs are moved by as much as they vary, so that none of them is all zeros."""
    draws = generator(0, "noise on samples")

    def moved(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        there = tensor.nan_to_num(0.0, 0.0, 0.0)
        spread = there.double().std(correction=0).to(there)
        return there + _normal_like(there, draws) * torch.where(spread > 0, spread, 1.0)

    args, kwargs = mapped((part.args, part.kwargs), moved)
    return Part(args, kwargs, part.targets, part.count)


@dataclass(frozen=True)
class _Trial:
    """What a way through a net is tried with."""

    loss: Losses
    part: Part
    scale: Tensor  # Logits of the size of 1: a net that is certain of its classes has no curvature to compare.

    @classmethod
    def of(cls, loss: Losses, part: Part, outputs: Sequence[Tensor]) -> "_Trial":
        largest = torch.stack([output.detach().abs().max() for output in outputs if output.numel()]).max()
        return cls(loss, part, largest.clamp(min=1))


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

    They are tried on few samples and two vectors, and once more with noise on the samples and a random quadratic of
    the outputs in place of the loss: samples that are zero, or whose loss is flat, show nothing. So a net without a
    rule for forward mode, a layout that it does not take, hooks, parts without gradient and other code that a smaller
    net does not see cost time, and not the result. Where no trial shows anything, or of a loss of one's own that with
    the samples does not, it is double backward through the whole net.

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

    def tried(trial: _Trial, reduced: Reduced, product: Product, count: int, folding: Folding | None = None) -> Tensor:
        part = Differentiated.of(reduced, wanted)
        net = part.net if folding is None else folding.net
        prepared = loss.prepared(trial.part, dtype, reduced.layout)
        function = kind.function(trial.loss, net, part.fixed, prepared, trial.scale)
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

    few = loss.prepared(loss.few, dtype, whole.layout)
    given = loss.checked_outputs(whole.net, few)
    outputs = floating_of(given)
    coarse = [output.dtype for output in outputs if torch.finfo(output.dtype).bits < 32]
    if coarse:
        raise AnalysisError(f"the model computes in {coarse[0]}, too coarse for curvature; let it take float32")
    with named_failure(few):
        differentiable = any(output.requires_grad for output in outputs) and loss.of_outputs(given, few).requires_grad
    if not differentiable:
        raise AnalysisError(
            "the loss depends on no parameter of the model, so there is no Hessian; what computes it must not leave "
            "autograd (detach, item, numpy, torch.no_grad)"
        )
    own = _Trial.of(loss, loss.few, outputs)
    plain, expected = _reference(lambda: tried(own, whole, kind.backward, 2))
    trials = [(own, expected)] if _tells(expected) else []
    with differentiable_kernels(plain):
        try:
            noisy = _noisy(loss.few)
            outputs = floating_of(loss.checked_outputs(whole.net, loss.prepared(noisy, dtype, whole.layout)))
            quadratic = _Trial.of(_Quadratic(loss, outputs), noisy, outputs)
            expected = tried(quadratic, whole, kind.backward, 2)
            trials += [(quadratic, expected)] if _tells(expected) else []
        except torch.OutOfMemoryError:
            raise
        except Exception:  # whatever the model's own code makes of such inputs
            pass
        for _, expected in trials:
            _check_symmetry(*(vector[chosen] for vector in vectors), *expected)
        if not trials or (trials[0][0] is not own and not loss.usual):
            return whole, Way(kind.backward, kind.backward, plain, False)

        def agrees(reduced: Reduced, product: Product, count: int, folding: Folding | None = None) -> bool:
            try:
                for trial, expected in trials:
                    images = tried(trial, reduced, product, count, folding)
                    if not (images - expected[:count]).norm() <= _SAME * expected[:count].norm():
                        return False
            except torch.OutOfMemoryError:
                raise
            except Exception:  # whatever torch or the model's own code make of a mode, a layout, a transform
                return False
            return True

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
    if difference > _SAME * length:
        raise AnalysisError(
            "the second derivatives are not symmetric, so they are those of no function: the backward pass of a layer, "
            "or of the loss, leaves one out (an autograd.Function, a fused kernel); write it in torch's operations"
        )


def _tells(expected: Tensor) -> bool:
    """Whether each of some products is one that others can be compared with."""
    lengths = expected.norm(dim=1)
    return bool((lengths.isfinite() & (lengths > 0)).all())


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

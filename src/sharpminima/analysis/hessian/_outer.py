"""Products of the Gauss-Newton and the empirical Fisher matrix: the Jacobian, a matrix of outputs, the Jacobian again.

With outputs z and their Jacobian J, the sum over a batch is J.T B J. Of Gauss-Newton, B is the Hessian of the summed
loss with respect to z; of the empirical Fisher, the outer product of a sample's own gradient, block by block.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import grad, jvp, vjp, vmap

from sharpminima.analysis._loss import MeanLoss, Part
from sharpminima.analysis._structure import floating_of, with_floating
from sharpminima.analysis.hessian._products import Kind, Losses, Parameters, each, flat_of, rows_of
from sharpminima.base.errors import AnalysisError
from sharpminima.nets.modes import eval_mode, measuring

Outputs = tuple[Tensor, ...]
"""The floating point tensors that a net gives for a batch."""
Middle = Callable[[Callable[[Outputs], Tensor], Outputs, Outputs], Outputs]
"""Summed loss of outputs, outputs, their change -> B times the change."""


@dataclass(frozen=True)
class Sandwich:
    """A batch's outputs and loss as functions, and B."""

    outputs: Callable[[Parameters], Outputs]
    total: Callable[[Outputs], Tensor]  # of outputs of the last call of ``outputs``
    middle: Middle  # by the transforms of torch.func
    eager: Middle  # by autograd, for losses that have no transforms


def vectorised(function: Sandwich, parameters: Parameters, directions: Parameters) -> Tensor:
    """All vectors in one pass: forward mode, B, and reverse mode."""
    outputs, pulled = vjp(function.outputs, parameters)[:2]

    def product(direction: Parameters) -> Parameters:
        change = jvp(function.outputs, (parameters,), (direction,))[1]
        return pulled(function.middle(function.total, outputs, change))[0]

    return rows_of(vmap(product)(directions))


def forward(function: Sandwich, parameters: Parameters, directions: Parameters) -> Tensor:
    """One vector after another, in forward mode."""

    def change(leaves: Parameters, direction: list[Tensor]) -> Outputs:
        with torch.no_grad(), forward_ad.dual_level():
            moved = zip(leaves.items(), direction, strict=True)
            duals = function.outputs({name: forward_ad.make_dual(leaf.detach(), part) for (name, leaf), part in moved})
            tangents = [forward_ad.unpack_dual(output).tangent for output in duals]
        return tuple(
            torch.zeros_like(output) if tangent is None else tangent.clone()
            for output, tangent in zip(duals, tangents, strict=True)
        )

    return _eager(function, parameters, directions, change)


def backward(function: Sandwich, parameters: Parameters, directions: Parameters) -> Tensor:
    """One vector after another, forward mode as the derivative of reverse mode."""

    def change(leaves: Parameters, direction: list[Tensor]) -> Outputs:
        outputs = function.outputs(leaves)
        pushes = [torch.zeros_like(output, requires_grad=True) for output in outputs]
        used = [i for i, output in enumerate(outputs) if output.requires_grad]
        gradients = torch.autograd.grad(
            [outputs[i] for i in used],
            list(leaves.values()),
            [pushes[i] for i in used],
            create_graph=True,
            allow_unused=True,
        )
        terms = [
            (gradient * part).sum()
            for gradient, part in zip(gradients, direction, strict=True)
            if gradient is not None and gradient.requires_grad
        ]
        if not terms:
            return tuple(torch.zeros_like(output) for output in outputs)
        return torch.autograd.grad(torch.stack(terms).sum(), pushes, allow_unused=True, materialize_grads=True)

    return _eager(function, parameters, directions, change)


def _eager(
    function: Sandwich,
    parameters: Parameters,
    directions: Parameters,
    change: Callable[[Parameters, list[Tensor]], Outputs],
) -> Tensor:
    leaves = {name: parameter.detach().requires_grad_() for name, parameter in parameters.items()}
    outputs = function.outputs(leaves)
    values = tuple(output.detach() for output in outputs)
    used = [i for i, output in enumerate(outputs) if output.requires_grad]
    rows = []
    for direction in each(directions):
        weighted = function.eager(function.total, values, change(leaves, direction))
        gradients = torch.autograd.grad(
            [outputs[i] for i in used],
            list(leaves.values()),
            [weighted[i].detach() for i in used],
            retain_graph=True,
            allow_unused=True,
        )
        rows.append(flat_of(gradients, list(leaves.values())))
    return torch.stack(rows)


def _loss_curvature(total: Callable[[Outputs], Tensor], outputs: Outputs, change: Outputs) -> Outputs:
    return jvp(grad(total), (outputs,), (change,))[1]


def curvature_of(total: Callable[[Outputs], Tensor], outputs: Outputs, change: Outputs) -> Outputs:
    """The Hessian of the summed loss with respect to outputs, times their change."""
    leaves = tuple(output.detach().requires_grad_() for output in outputs)
    gradients = torch.autograd.grad(total(leaves), leaves, create_graph=True, allow_unused=True, materialize_grads=True)
    terms = [(gradient * part).sum() for gradient, part in zip(gradients, change, strict=True)]
    along = torch.stack(terms).sum()
    if not along.requires_grad:  # a loss without curvature
        return tuple(torch.zeros_like(output) for output in outputs)
    return torch.autograd.grad(along, leaves, allow_unused=True, materialize_grads=True)


def _own_gradients(gradients: Outputs, change: Outputs) -> Outputs:
    """Each sample's gradient times its product with the change."""
    along = sum(
        ((gradient * part).flatten(1).sum(dim=1) for gradient, part in zip(gradients, change, strict=True)),
        torch.zeros((), dtype=change[0].dtype, device=change[0].device),
    )
    return tuple(gradient * along.view(-1, *[1] * (gradient.dim() - 1)) for gradient in gradients)


def _sample_gradients(total: Callable[[Outputs], Tensor], outputs: Outputs, change: Outputs) -> Outputs:
    return _own_gradients(grad(total)(outputs), change)


def _sample_gradients_eager(total: Callable[[Outputs], Tensor], outputs: Outputs, change: Outputs) -> Outputs:
    return _own_gradients(gradients_of(total, outputs), change)


def gradients_of(total: Callable[[Outputs], Tensor], outputs: Outputs) -> Outputs:
    """The gradient of the summed loss with respect to outputs: of each sample's row, that sample's own."""
    leaves = tuple(output.detach().requires_grad_() for output in outputs)
    return torch.autograd.grad(total(leaves), leaves, allow_unused=True, materialize_grads=True)


def _sandwich(
    middle: Middle, eager: Middle
) -> Callable[[Losses, nn.Module, Parameters, Part, Tensor | float], Sandwich]:
    def function(loss: Losses, net: nn.Module, fixed: Parameters, part: Part, scale: Tensor | float) -> Sandwich:
        structure: list[Any] = [None]  # what the net gave last, whose floating point tensors are the outputs

        def outputs(parameters: Parameters) -> Outputs:
            structure[0] = loss.outputs(net, fixed | parameters, part)
            return floating_of(structure[0])

        def total(values: Outputs) -> Tensor:
            return loss.of_outputs(with_floating(structure[0], values), part, scale)

        return Sandwich(outputs, total, middle, eager)

    return function


GAUSS_NEWTON = Kind(_sandwich(_loss_curvature, curvature_of), forward, vectorised, backward)
FISHER = Kind(_sandwich(_sample_gradients, _sample_gradients_eager), forward, vectorised, backward)


def check_apart(loss: MeanLoss, matrix: str) -> None:
    """Check that outputs and loss are known apart.

    Raises:
        AnalysisError: they are not.
    """
    if not loss.has_outputs:
        raise AnalysisError(
            f"the {matrix} matrix is made of the outputs and of their loss apart, which a loss_fn hides; give a "
            "criterion, criterion(outputs, targets)"
        )


def check_samples(loss: MeanLoss, model: nn.Module, what: str, cure: str = "") -> None:
    """Check that the outputs have a row for each sample, and that the loss is the mean of theirs.

    Args:
        what: the matrix, or what of it, that is made of single samples.
        cure: another way, where there is one.

    Raises:
        AnalysisError: they have not, or it is not.
    """
    loss.check_mean(model)
    with measuring(gradients=False), eval_mode(model):
        outputs = floating_of(loss.checked_outputs(model, loss.few))
    if not all(output.dim() and len(output) == loss.few.count for output in outputs):
        shapes = ", ".join(str(list(output.shape)) for output in outputs)
        raise AnalysisError(
            f"outputs have shapes {shapes} for {loss.few.count} samples; {what} is made of single samples: give "
            f"outputs with a row for each{cure}"
        )

"""Exact diagonals of the Gauss-Newton and the empirical Fisher matrix, from the Jacobian of one sample after another.

The matrix of a sample's outputs is U diag(s) U.T, and the diagonal the sum over columns u of s (J.T u) squared, entry
by entry. The Fisher matrix has one column, the gradient.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.func import vjp, vmap

from sharpminima.analysis._loss import MeanLoss, Part
from sharpminima.analysis._structure import floating_of, mapped, tensors_of, with_floating
from sharpminima.analysis.hessian._outer import Outputs, curvature_of, gradients_of
from sharpminima.analysis.hessian._products import Parameters, flat_of
from sharpminima.base.errors import AnalysisError

MOST_OUTPUTS = 4096
"""Outputs of a sample up to which its matrix of outputs is made."""

_ELEMENTS = 1 << 24  # of squared derivatives at once
Columns = tuple[Tensor, Tensor]
"""U of each sample, [n, columns, outputs], scaled by the root of |s|; the signs of s, [n, columns]."""
Squares = Callable[[MeanLoss, nn.Module, Parameters, Parameters, Part, Columns], Tensor]


def of_loss(total: Callable[[Outputs], Tensor], outputs: Outputs) -> Columns:
    """Columns of the Hessian of the summed loss with respect to the outputs, of each sample."""
    count, sizes = len(outputs[0]), [math.prod(output.shape[1:]) for output in outputs]
    whole = outputs[0].new_zeros(count, sum(sizes), sum(sizes), dtype=torch.float64)
    for entry in range(sum(sizes)):
        unit = torch.zeros(count, sum(sizes), dtype=outputs[0].dtype, device=outputs[0].device)
        unit[:, entry] = 1
        change = [part.reshape(output.shape) for part, output in zip(unit.split(sizes, 1), outputs, strict=True)]
        whole[:, :, entry] = _flat_rows(curvature_of(total, outputs, tuple(change)))
    values, vectors = torch.linalg.eigh((whole + whole.mT) / 2)
    kept = (values.abs() > 1e-15 * values.abs().max()).any(dim=0)
    values, vectors = values[:, kept], vectors[:, :, kept]
    return (vectors * values.abs().sqrt()[:, None, :]).mT.to(outputs[0].dtype), values.sign().to(outputs[0].dtype)


def of_gradient(total: Callable[[Outputs], Tensor], outputs: Outputs) -> Columns:
    """The gradient of each sample's loss with respect to its outputs."""
    rows = _flat_rows(gradients_of(total, outputs))
    return rows[:, None, :], torch.ones_like(rows[:, :1])


def _flat_rows(outputs: Outputs) -> Tensor:
    return torch.cat([output.flatten(1) for output in outputs], dim=1)


def columns_of(
    loss: MeanLoss,
    net: nn.Module,
    values: Parameters,
    part: Part,
    make: Callable[[Callable[[Outputs], Tensor], Outputs], Columns],
) -> Columns:
    """The columns of a batch at the net's own outputs.

    Raises:
        AnalysisError: a sample has too many outputs.
    """
    with torch.no_grad():
        structure = loss.outputs(net, values, part)
    outputs = floating_of(structure)
    size = sum(math.prod(output.shape[1:]) for output in outputs)
    if make is of_loss and size > MOST_OUTPUTS:
        raise AnalysisError(
            f"a sample has {size} outputs, above {MOST_OUTPUTS}: an exact diagonal takes a backward pass for each, and "
            f"their matrix, of {8 * size**2 / 1e9:.3g} GB, split into eigenvectors; give method='hutchinson'"
        )
    return make(lambda given: loss.of_outputs(with_floating(structure, given), part), outputs)


def one_by_one(
    loss: MeanLoss, net: nn.Module, fixed: Parameters, parameters: Parameters, part: Part, columns: Columns
) -> Tensor:
    """The sum over samples and columns, one after another: float64 [elements of the parameters]."""
    leaves = {name: parameter.detach().requires_grad_() for name, parameter in parameters.items()}
    every = list(leaves.values())
    total = torch.zeros(sum(leaf.numel() for leaf in every), dtype=torch.float64, device=every[0].device)
    for number in range(part.count):
        rows = floating_of(loss.outputs(net, fixed | leaves, _rows(part, slice(number, number + 1))))
        outputs = torch.cat([output.flatten() for output in rows])
        for column, sign in zip(columns[0][number], columns[1][number], strict=True):
            gradients = torch.autograd.grad(outputs, every, column, retain_graph=True, allow_unused=True)
            total += sign * flat_of(gradients, every).double().square()
    return total


def together(
    loss: MeanLoss, net: nn.Module, fixed: Parameters, parameters: Parameters, part: Part, columns: Columns
) -> Tensor:
    """The same with several samples and columns in one pass."""

    def squares(rows: tuple[Tensor, ...], columns: Tensor, signs: Tensor) -> Parameters:
        def outputs(parameters: Parameters) -> Tensor:
            given = iter(rows)
            args, kwargs = mapped((part.args, part.kwargs), lambda _: next(given)[None])
            results = loss.outputs(net, fixed | parameters, Part(args, kwargs, None, 1))
            return torch.cat([output.flatten() for output in floating_of(results)])

        pulled = vjp(outputs, parameters)[1]
        by_column = vmap(lambda column: pulled(column)[0])(columns)
        return {name: torch.einsum("k,k...->...", signs, each.square()) for name, each in by_column.items()}

    size = sum(parameter.numel() for parameter in parameters.values())
    room = max(1, _ELEMENTS // size)
    step = min(columns[0].shape[1], room)
    samples = max(1, room // max(1, step))
    total = torch.zeros(size, dtype=torch.float64, device=columns[0].device)
    every = tuple(tensors_of((part.args, part.kwargs)))
    for first in range(0, part.count, samples):
        rows = tuple(tensor[first : first + samples] for tensor in every)
        for start in range(0, columns[0].shape[1], step):
            chosen = (slice(first, first + samples), slice(start, start + step))
            squared = vmap(squares)(rows, columns[0][chosen], columns[1][chosen])
            total += torch.cat([squared[name].double().sum(dim=0).flatten() for name in parameters])
    return total


def pieces_of(part: Part, count: int) -> Iterator[Part]:
    """A batch in pieces of so many samples at most."""
    for first in range(0, part.count, count):
        yield _rows(part, slice(first, first + count))


def _rows(part: Part, chosen: slice) -> Part:
    """Some samples of a batch."""
    args, kwargs, targets = mapped((part.args, part.kwargs, part.targets), lambda tensor: tensor[chosen])
    return Part(args, kwargs, targets, len(range(part.count)[chosen]))


def squares_of(
    loss: MeanLoss,
    net: nn.Module,
    fixed: Parameters,
    parameters: Parameters,
    part: Part,
    make: Callable[[Callable[[Outputs], Tensor], Outputs], Columns],
) -> tuple[Squares, int]:
    """The way to go: all in one pass, if a trial on few samples gives what one after another does.

    Also how many samples' matrices of outputs may be held at once.

    Raises:
        AnalysisError: rows of a batch are not samples.
    """
    rows = tensors_of((part.args, part.kwargs, part.targets))
    if not all(tensor.dim() and len(tensor) == part.count for tensor in rows):
        raise AnalysisError(
            "an exact diagonal is made sample by sample, but not every tensor of a batch has a row for each; give "
            "method='hutchinson'"
        )
    columns = columns_of(loss, net, fixed | parameters, part, make)
    count = max(1, _ELEMENTS // columns[0].shape[2] ** 2)
    expected = one_by_one(loss, net, fixed, parameters, part, columns)
    try:
        squares = together(loss, net, fixed, parameters, part, columns)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever torch or the model's own code make of a transform
        return one_by_one, count
    return (together if (squares - expected).norm() <= 1e-3 * expected.norm() else one_by_one), count

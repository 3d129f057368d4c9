"""What layers take, as rows that their weights multiply, and sums over those: for least squares layer by layer."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpminima.base.errors import ConfigError
from sharpminima.nets.modes import eval_mode

_AT_ONCE = 50  # images whose rows are held
_RIDGE = 1e-4  # of the mean second moment


def padded(layer: nn.Conv2d, inputs: Tensor) -> tuple[Tensor, Any]:
    """What a convolution takes [N, ...] as it pads it, and the zeros that are left to pad with: a layer's ``padding``.

    >>> layer = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")
    >>> padded(layer, torch.tensor([[[[1.0, 2.0]]]]))
    (tensor([[[[2., 1., 2., 1.],
              [2., 1., 2., 1.],
              [2., 1., 2., 1.]]]]), 0)
    """
    if layer.padding_mode == "zeros":
        return inputs, layer.padding
    return F.pad(inputs, layer._reversed_padding_repeated_twice, layer.padding_mode), 0


def rows_of(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Inputs [N, ...] as [N, positions, weights a unit] in float64: what a unit's weights multiply at each position.

    Raises:
        ConfigError: the layer is no Linear of one vector an image and no Conv2d of one group.

    >>> rows_of(nn.Conv2d(1, 1, 2), torch.arange(6.0).view(1, 1, 2, 3))
    tensor([[[0., 1., 3., 4.],
             [1., 2., 4., 5.]]], dtype=torch.float64)
    """
    if isinstance(layer, nn.Linear) and inputs.ndim == 2:
        return inputs[:, None].double()
    if isinstance(layer, nn.Conv2d) and layer.groups == 1 and not isinstance(layer.padding, str):
        inputs, zeros = padded(layer, inputs)
        patches = F.unfold(inputs, layer.kernel_size, layer.dilation, zeros, layer.stride)
        return patches.transpose(1, 2).double()
    raise ConfigError(
        f"{type(layer).__name__} is no linear layer of one vector an image and no convolution of one group with a "
        "padding in numbers: take a method that needs no least squares of layers (obd has the diagonal of any)"
    )


@contextmanager
def watched(model: nn.Module, layers: Iterable[str]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """What layers take and give in the passes within, the last by name, in the order in which they run.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    >>> with watched(net, ["1", "0"]) as seen:
    ...     outputs = net(torch.ones(5, 2))
    >>> [(name, tuple(taken.shape), tuple(given.shape)) for name, (taken, given) in seen.items()]
    [('0', (5, 2), (5, 3)), ('1', (5, 3), (5, 1))]
    """
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def noted(name: str, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen[name] = inputs[0], output
        return output.clone()  # what the net does to it in place leaves ours alone

    with ExitStack() as stack:
        for name in layers:
            hook = model.get_submodule(name).register_forward_hook(
                lambda _, inputs, output, name=name: noted(name, inputs, output)
            )
            stack.callback(hook.remove)
        yield seen


def running_order(model: nn.Module, layers: Iterable[str], images: Tensor) -> list[str]:
    """Those of the layers that run, in the order in which they do so first: a net may have its last layer as the first.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    >>> running_order(net, ["1", "0"], torch.ones(5, 2))
    ['0', '1']
    """
    with torch.no_grad(), eval_mode(model), watched(model, layers) as seen:
        model(images)
    return list(seen)


@torch.no_grad()
def rows_at(model: nn.Module, layers: Iterable[str], images: Tensor) -> dict[str, Tensor]:
    """`rows_of` of each of the layers [N * positions, weights a unit], with the net in eval mode."""
    with eval_mode(model), watched(model, layers) as seen:
        model(images)
    return {name: rows_of(model.get_submodule(name), taken).flatten(0, 1) for name, (taken, _) in seen.items()}


def columns_of(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Which columns of `rows_of` its inputs [units, ...] are: [units, columns] (int64).

    >>> columns_of(nn.Conv2d(3, 1, 2), torch.tensor([[0], [2]]))
    tensor([[ 0,  1,  2,  3],
            [ 8,  9, 10, 11]])
    """
    size = layer.kernel_size[0] * layer.kernel_size[1] if isinstance(layer, nn.Conv2d) else 1
    return (inputs.flatten(1)[..., None] * size + torch.arange(size, device=inputs.device)).flatten(1)


def second_moments(model: nn.Module, layers: Iterable[str], images: Tensor) -> dict[str, Tensor]:
    """Sums over images and positions of products of two columns of `rows_of`, by layer [weights a unit] * 2.

    Memory: the rows of some images at a time.
    """
    moments: dict[str, Tensor] = {}
    for part in images.split(_AT_ONCE):
        for name, rows in rows_at(model, layers, part).items():
            moments[name] = moments[name] + rows.T @ rows if name in moments else rows.T @ rows
    return moments


def without_columns(weight: Tensor, moments: Tensor, keep: Tensor) -> Tensor:
    """The weights of a layer that, with some of its inputs alone, has nearly the sums that it had with all.

    By least squares over the rows behind the moments, with a slight pull to the weights as they are; those of the
    inputs that are gone are 0.

    Args:
        weight: [outputs, weights a unit], float64.
        moments: `second_moments` of the layer.
        keep: bool [weights a unit].

    >>> doubled = torch.tensor([[1.0, 1.0], [1.0, 1.0]]).double()  # both inputs are always the same
    >>> without_columns(torch.tensor([[1.0, 1.0]]).double(), doubled, torch.tensor([True, False])).round(decimals=2)
    tensor([[2., 0.]], dtype=torch.float64)
    """
    change = ridge_solution(moments[keep][:, keep], moments[keep][:, ~keep] @ weight[:, ~keep].T)
    reduced = torch.zeros_like(weight)
    reduced[:, keep] = weight[:, keep] + change.T
    return reduced


def ridge_solution(moments: Tensor, wanted: Tensor) -> Tensor:
    """x of moments x = wanted, with a little added to the diagonal, since inputs may be collinear, or 0 everywhere.

    >>> ridge_solution(torch.zeros(2, 2), torch.zeros(2, 1))  # of dead units: nothing to solve
    tensor([[0.],
            [0.]])
    """
    moments = moments.clone()
    least = torch.finfo(moments.dtype).tiny
    moments.diagonal().add_((_RIDGE * moments.diagonal().mean()).clamp_min(least))
    return torch.linalg.solve(moments, wanted)


def contributions(rows: Tensor, weight: Tensor, columns: Tensor) -> Tensor:
    """Inner products of what units give to the sums of a layer, over all rows and outputs: [units, units].

    Unit i gives rows[:, columns[i]] @ weight[:, columns[i]].T; a product of two is a sum over a block of the rows'
    second moments times those of the weights, so that nothing of the size of rows times outputs is made.

    Args:
        rows: [S, weights a unit].
        weight: of the layer [outputs, weights a unit].
        columns: of each unit [units, columns].
    """
    products = (rows.T @ rows) * (weight.T @ weight)
    units, size = columns.shape
    return products[columns.flatten()][:, columns.flatten()].view(units, size, units, size).sum((1, 3))

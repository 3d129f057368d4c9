"""What every pruned net is measured by: parameters, live paths, multiply-adds; for one model, without data.

A unit, one output of a layer, is *live* when it lies on a path of non-zero weights from the input to the
output. A weight is *effective* when it is non-zero, its input unit is reached from the input and its output
unit reaches the output; a bias, or a shift of BatchNorm, when it is non-zero and its unit is live: what
biases alone feed is a constant. One forward and one backward pass of path counts decides all of them at once,
through any residual connection: weights 0 or 1, an input of ones, and every count cut to 0 or 1 after each
layer, so that no depth overflows. (Path counts: as in SynFlow, Tanaka et al., NeurIPS 2020.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpminima.base.errors import AnalysisError
from sharpminima.nets.masks import checked_masks, prunable_parameters
from sharpminima.nets.modes import copied, measuring, reason_of

_LAYERS = (
    nn.Linear,
    nn.Conv2d,
    nn.BatchNorm2d,
    nn.ReLU,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.Identity,
    nn.Dropout,
)


@dataclass(frozen=True)
class Counts:
    """Counts for one net and one image. FLOPs are two for each multiply-add of Linear and Conv2d layers."""

    parameters: int  # all parameters
    prunable: int  # weights and biases of Linear and Conv2d
    nonzero: int  # of all parameters
    nonzero_prunable: int  # of the prunable ones
    effective: int  # of all parameters: on a live path
    compression: float | None  # parameters / nonzero; None where nothing is left
    flops_dense: int  # taps that fall on padding are not counted, nor are biases, BatchNorm, activations
    flops_nonzero: int  # the same, of non-zero weights
    flops_effective: int  # the same, of effective weights
    density_per_layer: dict[str, float]  # prunable parameter -> non-zero share, in [0, 1]


@measuring(gradients=True)
def count_net(model: nn.Module, input_shape: Sequence[int], masks: Mapping[str, Tensor] | None = None) -> Counts:
    """Count what ``model`` holds and what of it can act.

    Args:
        model: built of the layers of ``torch.nn`` that the package's nets use, with ReLU and max pooling as
            modules; it is not changed.
        input_shape: (channels, height, width) of one image.
        masks: parameter name -> tensor of 0 and 1; a parameter under 0 counts as zero, whatever its value.

    A parameter that several layers share counts once, and its multiply-adds in each of them.

    Raises:
        AnalysisError: the model has a layer for which path counts are not defined here, or cannot take images of that
            shape; a mask does not fit.

    >>> count_net(nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1)), (3,)).parameters
    11
    """
    if any(parameter.is_meta for parameter in model.parameters()):
        raise AnalysisError("the model is on the meta device, where weights have no values; load it onto another")
    alive = {name: (p.detach() != 0).cpu() for name, p in model.named_parameters()}
    for name, mask in checked_masks(masks or {}, dict(model.named_parameters())).items():
        alive[name] &= mask.cpu()
    effective, positions = _live_paths(model, input_shape, alive)
    prunable = prunable_parameters(model)
    parameters = sum(a.numel() for a in alive.values())
    nonzero = sum(int(a.sum()) for a in alive.values())
    return Counts(
        parameters=parameters,
        prunable=sum(alive[name].numel() for name in prunable),
        nonzero=nonzero,
        nonzero_prunable=sum(int(alive[name].sum()) for name in prunable),
        effective=sum(int(e.sum()) for e in effective.values()),
        compression=parameters / nonzero if nonzero else None,
        flops_dense=_flops({name: torch.ones_like(a) for name, a in alive.items()}, positions),
        flops_nonzero=_flops(alive, positions),
        flops_effective=_flops(effective, positions),
        density_per_layer={name: float(alive[name].double().mean()) for name in prunable},
    )


def _flops(selected: dict[str, Tensor], positions: dict[str, Tensor]) -> int:
    return sum(2 * int((selected[name] * uses).sum()) for name, uses in positions.items())


class _Cut(torch.autograd.Function):
    """Path counts to 0 or 1: forward, is the unit reached; backward, is it reached and reaches the output."""

    @staticmethod
    def forward(ctx: Any, counts: Tensor) -> Tensor:
        reached = counts > 0
        ctx.save_for_backward(reached)
        return reached.to(counts.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (reached,) = ctx.saved_tensors
        return ((gradient > 0) & reached).to(gradient.dtype)


def _live_paths(
    model: nn.Module, input_shape: Sequence[int], alive: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Effective parameters (bool, of their shape), and how often one image uses each weight (broadcasts)."""
    # float64 on the CPU: sums of small non-negative integers, so that zero means no path.
    net = copied(model).cpu().double().eval()
    positions: dict[str, Tensor] = {}
    names = {id(parameter): name for name, parameter in net.named_parameters()}  # of what layers share: the first
    for name, module in net.named_modules():
        _check(name, module)
        if isinstance(module, nn.MaxPool2d):
            module.forward = partial(_average_pool, module)  # type: ignore[method-assign] # of this copy
        elif isinstance(module, nn.BatchNorm2d):
            module.forward = partial(_scale, module)  # type: ignore[method-assign]
        elif isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(partial(_count_positions, positions, names[id(module.weight)]))
        if isinstance(module, _LAYERS):
            module.register_forward_hook(lambda _module, _inputs, output: _Cut.apply(output))
    parameters = dict(net.named_parameters())
    for name, parameter in parameters.items():
        parameter.requires_grad_(True)
        is_shift = name.rpartition(".")[2] == "bias"  # its gradient says whether its unit is live
        parameter.data = torch.zeros_like(parameter) if is_shift else alive[name].double()
    try:
        reached = net(torch.ones(1, *input_shape, dtype=torch.float64)).sum()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever the model's own code raises
        raise AnalysisError(f"the model cannot take images of {list(input_shape)} ({reason_of(error)})") from error
    if not reached.requires_grad:
        raise AnalysisError("the model's output depends on none of its parameters; there is nothing to count")
    gradients = torch.autograd.grad(reached, list(parameters.values()), allow_unused=True)
    effective = {
        name: torch.zeros_like(alive[name]) if gradient is None else alive[name] & (gradient > 0)
        for name, gradient in zip(parameters, gradients, strict=True)
    }
    return effective, positions


def _check(name: str, module: nn.Module) -> None:
    """Refuse what the pass would count wrongly rather than not at all."""
    others = sorted(set(dict(module.named_parameters(recurse=False))) - {"weight", "bias"})
    if isinstance(module, nn.Linear | nn.Conv2d) and (others or "weight" not in module._parameters):
        raise AnalysisError(
            f"layer {name!r} computes its weight from {', '.join(others) or 'others'}; make it a plain parameter first "
            "(torch.nn.utils.prune.remove, torch.nn.utils.parametrize.remove_parametrizations, remove_weight_norm)"
        )
    own = next(module.parameters(recurse=False), None) is not None
    is_container = not own and next(module.children(), None) is not None
    padded_otherwise = isinstance(module, nn.Conv2d) and module.padding_mode != "zeros"
    dilated = isinstance(module, nn.MaxPool2d) and module.dilation not in (1, (1, 1))
    if (isinstance(module, _LAYERS) and not padded_otherwise and not dilated) or is_container:
        return
    known = ", ".join(layer.__name__ for layer in _LAYERS)
    raise AnalysisError(
        f"layer {name!r} ({module}): its live paths are not known; build the net of {known} "
        "(zero padding, undilated pooling), or teach sharpminima.nets.counts the layer"
    )


def _average_pool(pool: nn.MaxPool2d, features: Tensor) -> Tensor:
    """All inputs of a window can act, not only the first of several equal ones, as the maximum has it."""
    return F.avg_pool2d(features, pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode)


def _scale(norm: nn.BatchNorm2d, features: Tensor) -> Tensor:
    """The identity, cut where gamma is zero."""
    if not norm.affine:
        return features
    return features * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)


def _count_positions(
    positions: dict[str, Tensor],
    name: str,
    layer: nn.Linear | nn.Conv2d,
    inputs: tuple[Tensor],
    output: Tensor,
) -> None:
    """Add the multiply-adds of each weight for one image: int64 [] (Linear) or [kernel rows, columns]."""
    if isinstance(layer, nn.Linear):
        uses = torch.tensor(output.numel() // layer.out_features)
    else:
        # The gradient of a tap is the number of places where it meets a pixel and not the padding.
        taps = torch.ones(1, 1, *layer.kernel_size, dtype=torch.float64, requires_grad=True)
        pixels = torch.ones(1, 1, *inputs[0].shape[2:], dtype=torch.float64)
        met = F.conv2d(pixels, taps, stride=layer.stride, padding=layer.padding, dilation=layer.dilation)
        (gradient,) = torch.autograd.grad(met.sum(), taps)
        uses = gradient[0, 0].round().long()
    positions[name] = positions.get(name, 0) + uses

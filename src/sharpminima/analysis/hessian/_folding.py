"""BatchNorm in eval mode as part of the convolution before it: fewer passes over memory, and half of a kept graph.

A convolution with kernel W and bias b, and behind it a BatchNorm with scale g, shift c, mean m and variance v, are one
convolution with kernel s W and bias s (b - m) + c, s = g / sqrt(v + eps). A matrix of curvature M over the parameters
of that one gives J.T M J over the others, with the derivatives J of the former by the latter; of a Hessian, which
counts what the net itself bends, comes the derivative of J.T along a vector, times the gradient.
"""

import copy
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, fx, nn
from torch.func import jvp, vjp, vmap
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sharpminima.analysis.hessian._products import Parameters, rows_of, split, values_of
from sharpminima.nets.compaction.graph import kind_of

_KINDS = {nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d}
_WEIGHT, _BIAS, _SCALE, _SHIFT = "weight", "bias", "scale", "shift"


@dataclass(frozen=True)
class _Pair:
    """A convolution and the BatchNorm behind it."""

    convolution: str
    parameters: dict[str, str]  # `_WEIGHT` ... -> the name in the net; some have no bias, scale or shift
    mean: Tensor
    deviation: Tensor

    def folded(self, values: Parameters) -> tuple[Tensor, Tensor]:
        """Kernel and bias of the one convolution."""
        scale = 1 / self.deviation
        if _SCALE in values:
            scale = values[_SCALE] * scale
        bias = scale * (values[_BIAS] - self.mean if _BIAS in values else -self.mean)
        if _SHIFT in values:
            bias = bias + values[_SHIFT]
        weight = values[_WEIGHT]
        return weight * scale.view(-1, *[1] * (weight.dim() - 1)), bias

    def of(self, parameters: Parameters) -> Parameters:
        return {kind: parameters[name] for kind, name in self.parameters.items()}

    @property
    def names(self) -> tuple[str, str]:
        """Of the kernel and bias of the one convolution, in its net."""
        return f"{self.convolution}.weight", f"{self.convolution}.bias"


class Folding:
    """A net without the BatchNorms that stand right behind a convolution, and its derivatives as the other net's.

    Args:
        net: whose BatchNorms are left out.
        parameters: of the other net.
    """

    def __init__(self, net: nn.Module, parameters: Parameters, pairs: list[_Pair]) -> None:
        self.net = net
        self.parameters = values_of(net)
        self._outer = parameters
        self._pairs = pairs

    def pushed(self, directions: Parameters) -> Parameters:
        """Directions in the other net's parameters as directions in this one's; each with a leading axis of vectors."""
        inner = {name: part for name, part in directions.items() if name in self.parameters}
        for pair in self._pairs:
            moved = vmap(partial(_moved, pair, pair.of(self._outer)))(pair.of(directions))
            inner |= zip(pair.names, moved, strict=True)
        return {name: inner[name] for name in self.parameters}

    def pulled(self, directions: Parameters, products: Tensor, gradient: Tensor | None) -> Tensor:
        """Products with `pushed` directions as the other net's with the directions: float64 [b, its parameters].

        Args:
            products: float64 [b, this net's parameters].
            gradient: [this net's parameters]; None: what the nets themselves bend does not count.
        """
        images = split(products, self.parameters)
        slopes = split(torch.zeros_like(products[:1]) if gradient is None else gradient[None], self.parameters)
        outer = {name: part for name, part in images.items() if name in self._outer}
        for pair in self._pairs:
            weight, bias = pair.names
            slope = (slopes[weight][0], slopes[bias][0])
            turned = partial(_turned, pair, pair.of(self._outer), slope)
            found = vmap(turned)(pair.of(directions), (images[weight], images[bias]))
            outer |= {pair.parameters[kind]: part for kind, part in found.items()}
        return rows_of({name: outer[name].double() for name in self._outer})


def _moved(pair: _Pair, values: Parameters, direction: Parameters) -> tuple[Tensor, Tensor]:
    changes: tuple[Tensor, Tensor] = jvp(pair.folded, (values,), (direction,))[1]
    return changes


def _turned(
    pair: _Pair,
    values: Parameters,
    slope: tuple[Tensor, Tensor],
    direction: Parameters,
    image: tuple[Tensor, Tensor],
) -> Parameters:
    """How what the gradient is pulled back to changes, as the values go in a direction and the gradient in another."""

    def back(values: Parameters, slope: tuple[Tensor, Tensor]) -> Parameters:
        pulled: tuple[Parameters] = vjp(pair.folded, values)[1](slope)
        return pulled[0]

    changes: Parameters = jvp(back, (values, slope), (direction, image))[1]
    return changes


def folding_of(net: fx.GraphModule, layout: torch.memory_format) -> Folding | None:
    """Fold what can be folded; None: there is nothing.

    Args:
        net: in eval mode, each layer called once and without hooks; not modified. Its parameters are held, and what is
            folded besides.
        layout: of the kernels.
    """
    graph = fx.GraphModule(net, copy.deepcopy(net.graph))
    pairs = []
    for norm in list(graph.graph.nodes):
        source = norm.args[0] if norm.args and isinstance(norm.args[0], fx.Node) else None
        kind = kind_of(graph, source)
        if source is None or kind not in _KINDS or kind_of(graph, norm) is not _KINDS[kind] or len(source.users) > 1:
            continue
        before, behind = graph.get_submodule(str(source.target)), graph.get_submodule(str(norm.target))
        assert isinstance(before, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        assert isinstance(behind, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
        if behind.running_mean is None or behind.running_var is None:
            continue
        there = {_WEIGHT: before.weight, _BIAS: before.bias, _SCALE: behind.weight, _SHIFT: behind.bias}
        names = {
            _WEIGHT: f"{source.target}.weight",
            _BIAS: f"{source.target}.bias",
            _SCALE: f"{norm.target}.weight",
            _SHIFT: f"{norm.target}.bias",
        }
        named = {kind: name for kind, name in names.items() if there[kind] is not None}
        deviation = (behind.running_var + behind.eps).sqrt()
        pairs.append(_Pair(str(source.target), named, behind.running_mean.clone(), deviation))
        graph.set_submodule(str(source.target), fuse_conv_bn_eval(before, behind))
        norm.replace_all_uses_with(source)
        graph.graph.erase_node(norm)
    if not pairs:
        return None
    graph.delete_all_unused_submodules()
    graph.recompile()
    return Folding(graph.eval().to(memory_format=layout), values_of(net), pairs)  # type: ignore[call-overload]

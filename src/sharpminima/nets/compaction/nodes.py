"""What single nodes of a net's graph do with channels, and where those lie in what they give.

No shapes are known: one net may take images of several. What is certain without them is followed, nothing else is.
"""

import operator
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

_ALIKE = (nn.ReLU, nn.Identity, nn.Dropout)  # element by element
_ON_MAPS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.BatchNorm2d)
CHANNELWISE = (*_ALIKE, *_ON_MAPS)
_ALIKE_FUNCTIONS = (F.relu, torch.relu, F.dropout)
_ALIKE_METHODS = ("relu", "relu_", "contiguous")
_FUNCTIONS_ON_MAPS = (F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d)
_ADDITIONS = (operator.add, operator.iadd, torch.add)
# They mix channels, or give what is not zero for zeros, and leave the number of axes as it is.
_OF_ONE_SHAPE = (
    *(nn.BatchNorm1d, nn.LayerNorm, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.ELU, nn.SELU, nn.LeakyReLU, nn.PReLU),
    *(nn.Softplus, nn.Hardtanh, nn.ReLU6, nn.Hardswish, nn.Mish),
)


class Layout(Enum):
    """Where the units of a layer lie in a tensor behind it."""

    MAPS = "[N, C, H, W]"
    FLAT = "[N, C H W], flattened maps: each channel has so many neighbours as a map has positions"
    ROWS = "[N, C]"
    LAST = "[..., C], any number of axes"  # of a linear layer, which acts on the last one, whatever stands before it
    MIXED = "[N, ...], two axes, and nothing is known of the second"


_TWO_AXES = (Layout.FLAT, Layout.ROWS, Layout.MIXED)


def layouts_of(graph: fx.GraphModule) -> dict[fx.Node, Layout | None]:
    """The layout of what each node gives; None: not known, or not by units."""
    modules = dict(graph.named_modules())
    layouts: dict[fx.Node, Layout | None] = {}
    for node in graph.graph.nodes:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        layouts[node] = _behind(node, module, layouts)
    return layouts


def _behind(node: fx.Node, module: nn.Module | None, layouts: Mapping[fx.Node, Layout | None]) -> Layout | None:
    before = [layouts[each] for each in node.all_input_nodes]
    if isinstance(module, nn.Linear):
        return Layout.ROWS if before[0] in _TWO_AXES else Layout.LAST
    if isinstance(module, nn.Conv2d):
        return Layout.MAPS
    if flattens(node, module):
        kept = {Layout.MAPS: Layout.FLAT, Layout.FLAT: Layout.FLAT, Layout.ROWS: Layout.ROWS}
        return Layout.MIXED if before[0] is None else kept.get(before[0], Layout.MIXED)
    if _makes_two_axes(node) or (isinstance(module, _OF_ONE_SHAPE) and before[0] in _TWO_AXES):
        return Layout.MIXED
    if concatenated(node) is not None:
        return _common(before, (Layout.MAPS, Layout.ROWS))
    if adds(node):
        return _common(before, tuple(Layout))
    if _acts_alike(node, module):
        return before[0]
    if before[:1] == [Layout.MAPS]:
        return _behind_maps(node, module)
    return None


def _behind_maps(node: fx.Node, module: nn.Module | None) -> Layout | None:
    """The layout behind a node that takes maps, if it leaves channels apart."""
    if isinstance(module, _ON_MAPS) or channel_pads(node) is not None or _cuts_out(node):
        return Layout.MAPS
    if node.op == "call_function" and node.target in _FUNCTIONS_ON_MAPS:
        return Layout.MAPS
    if _averages(node):
        keeps = node.args[2] if len(node.args) > 2 else node.kwargs.get("keepdim", False)
        return {True: Layout.MAPS, False: Layout.ROWS}.get(keeps) if isinstance(keeps, bool) else None
    return None


def _common(sides: Sequence[Layout | None], among: Sequence[Layout]) -> Layout | None:
    """The layout of all sides, if they have one of these in common: axes of others would meet wrongly."""
    first = sides[0] if sides else None
    if first in among and all(side is first for side in sides):
        return first
    return Layout.MIXED if sides and all(side in _TWO_AXES for side in sides) else None


def reads(module: nn.Conv2d | nn.Linear, layout: Layout | None, channels: int) -> bool:
    """Whether a layer reads so many channels by channels, each at as many places as the others."""
    inputs = module.weight.shape[1]
    if layout is Layout.FLAT:
        return isinstance(module, nn.Linear) and inputs % channels == 0
    fits = (Layout.ROWS, Layout.LAST) if isinstance(module, nn.Linear) else (Layout.MAPS,)
    return layout in fits and inputs == channels


def flattens(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node is ``flatten(1)``, as a module, a method or a function."""
    if isinstance(module, nn.Flatten):
        return module.start_dim == 1 and module.end_dim == -1
    called = (node.op == "call_method" and node.target == "flatten") or (
        node.op == "call_function" and node.target is torch.flatten
    )
    return called and (node.args[1:], node.kwargs) in (((1,), {}), ((), {"start_dim": 1}))


def _makes_two_axes(node: fx.Node) -> bool:
    """Whether a node is ``view`` or ``reshape`` to two sizes, whatever they are."""
    methods, functions = ("view", "reshape"), (torch.reshape,)
    if node.kwargs or not (
        (node.op == "call_method" and node.target in methods)
        or (node.op == "call_function" and node.target in functions)
    ):
        return False
    sizes = node.args[1] if len(node.args) == 2 and isinstance(node.args[1], tuple | list) else node.args[1:]
    return len(sizes) == 2


def _acts_alike(node: fx.Node, module: nn.Module | None) -> bool:
    return (
        isinstance(module, _ALIKE)
        or (node.op == "call_function" and node.target in _ALIKE_FUNCTIONS)
        or (node.op == "call_method" and node.target in _ALIKE_METHODS)
    )


def _averages(node: fx.Node) -> bool:
    """Whether a node is the mean over the positions of maps."""
    if (node.op, node.target) not in (("call_method", "mean"), ("call_function", torch.mean)):
        return False
    dimensions = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    return dimensions in ((2, 3), [2, 3], (-2, -1), [-2, -1], (-1, -2), [-1, -2])


def _cuts_out(node: fx.Node) -> bool:
    """Whether a node takes rows and columns of maps, all images and channels of them."""
    if node.op != "call_function" or node.target is not operator.getitem:
        return False
    parts, whole = node.args[1], slice(None)
    return (
        isinstance(parts, tuple)
        and len(parts) == 4
        and all(isinstance(part, slice) and (place > 1 or part == whole) for place, part in enumerate(parts))
    )


def adds(node: fx.Node) -> bool:
    """Whether a node is the sum of two tensors, neither scaled."""
    called = (node.op == "call_function" and node.target in _ADDITIONS) or (
        node.op == "call_method" and node.target in ("add", "add_")
    )
    return called and not node.kwargs


def concatenated(node: fx.Node) -> list[fx.Node] | None:
    """What ``torch.cat`` puts side by side by channels; None where a node does anything else."""
    dimension = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    if node.op != "call_function" or node.target is not torch.cat or dimension != 1:
        return None
    sides: Any = node.args[0] if node.args else None
    return list(sides) if isinstance(sides, tuple | list) else None


def channel_pads(node: fx.Node) -> tuple[int, int] | None:
    """How many channels of zeros ``F.pad`` puts before and behind; None where a node does anything else."""
    if node.op != "call_function" or node.target is not F.pad or len(node.args) != 2:
        return None
    pads, constant = node.args[1], node.kwargs.get("mode", "constant") == "constant"
    if not constant or node.kwargs.get("value") or not isinstance(pads, tuple | list) or len(pads) != 6:
        return None
    before, behind = pads[4:]
    return (before, behind) if isinstance(before, int) and isinstance(behind, int) and not any(pads[:4]) else None

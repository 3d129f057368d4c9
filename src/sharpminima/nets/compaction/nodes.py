"""What single nodes of a net's graph do with channels."""

import operator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from sharpminima.nets.compaction.graph import CHANNELWISE, flattens

_CHANNELWISE = (F.relu, torch.relu, F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.dropout)
_ADDITIONS = (operator.add, operator.iadd, torch.add)


def is_channelwise(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a channel of what a node gives is a function of the same of what it takes, and zero where that is."""
    if isinstance(module, CHANNELWISE) or flattens(node, module):
        return True
    if node.op == "call_function" and node.target in _CHANNELWISE:
        return True
    if node.op == "call_method" and node.target in ("relu", "relu_", "contiguous"):
        return True
    if (node.op, node.target) in (("call_method", "mean"), ("call_function", torch.mean)):
        dimensions = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        return dimensions in ((2, 3), [2, 3], (-2, -1), [-2, -1], (-1, -2), [-1, -2])
    if node.op == "call_function" and node.target is operator.getitem:
        parts = node.args[1]
        whole = slice(None)
        return (
            isinstance(parts, tuple)
            and len(parts) == 4
            and all(isinstance(part, slice) and (place > 1 or part == whole) for place, part in enumerate(parts))
        )
    return False


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

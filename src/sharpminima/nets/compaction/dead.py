"""Which units of a net are dead under masks."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sharpminima.nets.compaction.graph import Layer, layers_of, traced

Keep = dict[str, Tensor]


def alive(layers: Iterable[Layer], masks: Keep, unread: bool) -> tuple[Keep, Keep]:
    """Inputs and units to keep, by layer; ``unread`` units too, or not."""
    order = list(layers)
    connected: Keep = {}  # [units, inputs]: is any weight of the pair left?
    zero: Keep = {}  # units that are exactly zero
    for layer in order:
        weight = masks.get(f"{layer.name}.weight")
        shape = layer.module.weight.shape[:2]
        connected[layer.name] = torch.ones(shape, dtype=torch.bool)
        if weight is not None:
            connected[layer.name] = weight.cpu().flatten(2).any(2) if weight.ndim > 2 else weight.cpu()
        fed = connected[layer.name]
        if layer.source is not None:
            fed = fed & ~layer.spread(zero[layer.source.name])
        bias = masks.get(f"{layer.name}.bias") if layer.module.bias is not None else torch.zeros(shape[0]).bool()
        biased = torch.ones(shape[0], dtype=torch.bool) if bias is None or layer.norms else bias.cpu()
        zero[layer.name] = ~(fed.any(1) | biased)
    units: Keep = {}
    for layer in reversed(order):
        needed = torch.ones(len(zero[layer.name]), dtype=torch.bool)
        if layer.consumer is not None:
            read = connected[layer.consumer.name][units[layer.consumer.name]].any(0)
            needed = (read.view(len(needed), -1).any(1) | unread) & ~zero[layer.name]
            needed[0] |= not needed.any()
        units[layer.name] = needed
    inputs: Keep = {}
    for layer in order:
        kept = torch.ones(layer.module.weight.shape[1], dtype=torch.bool)
        if layer.source is not None:
            kept = layer.spread(units[layer.source.name])
        elif layer.selects:
            kept = connected[layer.name][units[layer.name]].any(0)
            kept[0] |= not kept.any()
        inputs[layer.name] = kept
    return inputs, units


def either(sides: Iterable[Keep]) -> Keep:
    """What one of several keeps."""
    merged: Keep = {}
    for side in sides:
        merged = {name: keep | merged.get(name, keep) for name, keep in side.items()}
    return merged


def zero_masks(model: nn.Module) -> Keep:
    """Masks under which `compact` keeps the derivatives with respect to *all* parameters, of any order.

    They remove the weights and biases of units that are exactly zero before their ReLU, no others. A ReLU passes no
    gradient at 0, so nothing depends on those, nor on the weights that read the unit. Units with a gradient all stay,
    also those whose outgoing weights are zero.

    Raises:
        NotCompactable: see there.
    """
    masks: Keep = {}
    for layer in layers_of(traced(model)):
        module = layer.module
        if layer.rectified:
            fed = module.weight.detach().flatten(1).any(1)
            masks[f"{layer.name}.weight"] = fed.view(-1, *[1] * (module.weight.ndim - 1)).expand_as(module.weight)
            if module.bias is not None:
                masks[f"{layer.name}.bias"] = module.bias.detach() != 0
    return masks

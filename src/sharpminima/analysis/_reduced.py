"""The smallest net that has the derivatives which an analysis asks for."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sharpminima.compaction import NotCompactable, compact, zero_masks


def reduced(model: nn.Module, masks: Mapping[str, Tensor] | None) -> tuple[nn.Module, Tensor]:
    """A net in eval mode with the derivatives of ``model``, and where its parameters stand among the model's.

    Without masks all derivatives are meant, with masks those with respect to surviving parameters. What has no place
    in the net has a derivative of zero, of any order. A net that cannot be compacted is copied.

    Returns:
        The net, and for each element of its parameters the place among the model's P (int64); both are flattened in
        the order of ``named_parameters``.
    """
    whole = copy.deepcopy(model).eval()
    parameters = dict(whole.named_parameters())
    starts, total = {}, 0
    for name, parameter in parameters.items():
        starts[name] = total
        total += parameter.numel()
    try:
        # A removed weight that is not zero keeps its units: the net computes with it.
        keep = (
            zero_masks(whole)
            if masks is None
            else {
                name: mask.to(parameters[name].device).bool() | (parameters[name] != 0) for name, mask in masks.items()
            }
        )
        compacted = compact(whole, keep)
    except NotCompactable:
        return whole, torch.arange(total)
    places = []
    for name, _ in compacted.model.named_parameters():
        full_name, inside = compacted.parameters[name]
        places.append(starts[full_name] + inside.flatten())
    return compacted.model.eval(), torch.cat(places)

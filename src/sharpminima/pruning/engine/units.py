"""Structured pruning: filters and hidden units leave whole, with all that belongs to them.

A unit takes along its incoming weights and bias, its BatchNorm's scale and shift, and the weights that read it. What
remains is really smaller: `sharpminima.nets.compaction.compact` leaves the units out, and the checkpoint stores
survivors only.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sharpminima.base.errors import ConfigError
from sharpminima.nets.compaction import Units, removable_units
from sharpminima.nets.masks import Masks, all_masks, count
from sharpminima.pruning.engine.distribution import survivors_at


def units_of(model: nn.Module) -> list[Units]:
    """The units that may be removed.

    Raises:
        ConfigError: there are none.
    """
    groups = removable_units(model)
    if not groups:
        raise ConfigError(
            "the model has no filters or hidden units that can be left out: take another, or a method "
            "that removes single weights"
        )
    return groups


def unit_masks(model: nn.Module, groups: Sequence[Units], keep: Mapping[str, Tensor]) -> Masks:
    """Masks of the net with the units ``keep`` [count] of each group's layer.

    They name every weight that may be removed, and the biases, scales and shifts of units.
    """
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    masks = all_masks(model)
    for group in groups:
        for name in (f"{group.layer}.bias", *(f"{norm}.{kind}" for norm in group.norms for kind in ("weight", "bias"))):
            if name in shapes:
                masks[name] = torch.ones(shapes[name], dtype=torch.bool)
    for group in groups:
        kept = keep[group.layer].cpu()
        masks[f"{group.layer}.weight"][~kept] = False
        masks[f"{group.consumer}.weight"][:, ~kept.repeat_interleave(group.positions)] = False
        for name in (f"{group.layer}.bias", *(f"{norm}.{kind}" for norm in group.norms for kind in ("weight", "bias"))):
            if name in masks:
                masks[name][~kept] = False
    return masks


def keep_best_units(model: nn.Module, scores: Mapping[str, Tensor], level: float, distribution: str) -> Masks:
    """Masks without the units of lowest score: as few of them as bring the survivors down to the level.

    No layer loses its last unit, so that a level may be out of reach.

    Args:
        scores: layer -> score of each unit [count].
        distribution: ``global``, or ``layerwise``: the same share of each layer's units.
    """
    groups = units_of(model)
    ranks = {}
    for group in groups:
        score = scores[group.layer].detach().double().cpu()
        order = score.sort(stable=True).indices
        place = torch.empty(group.count, dtype=torch.float64)
        place[order] = torch.arange(group.count, dtype=torch.float64)
        rank = place / group.count if distribution == "layerwise" else score
        rank[order[-1]] = torch.inf
        ranks[group.layer] = rank
    candidates = torch.cat([ranks[group.layer] for group in groups])
    leaving = candidates.sort(stable=True).indices[: int(candidates.isfinite().sum())]

    def without(number: int) -> Masks:
        kept = torch.ones(len(candidates), dtype=torch.bool)
        kept[leaving[:number]] = False
        parts = kept.split([group.count for group in groups])
        return unit_masks(model, groups, {group.layer: part for group, part in zip(groups, parts, strict=True)})

    _, size = count(without(0))
    asked = survivors_at(level, size)
    low, high = 0, len(leaving)  # survivors fall as units leave: bisect
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if count(without(middle))[0] <= asked else (middle + 1, high)
    return without(low)


def incoming(model: nn.Module, groups: Sequence[Units]) -> dict[str, Tensor]:
    """The incoming weights of each unit, [count, weights], by layer."""
    parameters = dict(model.named_parameters())
    return {group.layer: parameters[f"{group.layer}.weight"].detach().flatten(1) for group in groups}

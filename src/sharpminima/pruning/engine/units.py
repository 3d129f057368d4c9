"""Structured pruning: filters and hidden units leave whole, with all that belongs to them.

A unit takes along its incoming weights and bias, its BatchNorm's scale and shift, and the weights that read it; where
layers meet in a residual addition, their filters are joined, and leave together (`sharpminima.nets.compaction.Units`).
What remains is really smaller: `sharpminima.nets.compaction.compact` leaves the units out, and the checkpoint stores
survivors only.
"""

import bisect
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sharpminima.base.errors import ConfigError
from sharpminima.nets.compaction import Units, removable_units
from sharpminima.nets.masks import Masks, all_masks, count
from sharpminima.nets.modes import eval_mode
from sharpminima.pruning.engine.activations import watched
from sharpminima.pruning.engine.distribution import survivors_at
from sharpminima.pruning.engine.ranking import checked_scores

_ROUNDING = 1e-9  # of a share times a number of units


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
    """Masks of the net with the units ``keep`` [count] of each group.

    They name every weight that may be removed, and the biases, scales and shifts of units.
    """
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    masks = all_masks(model)

    def remove(name: str, places: Tensor) -> None:
        if name in shapes:
            masks.setdefault(name, torch.ones(shapes[name], dtype=torch.bool))[places] = False

    for group in groups:
        leaves = ~keep[group.name].cpu()
        for layer, places in (*group.makers.items(), *group.norms.items()):
            for kind in ("weight", "bias"):
                remove(f"{layer}.{kind}", places[leaves])
        for layer, inputs in group.readers.items():
            masks[f"{layer}.weight"][:, inputs[leaves].flatten()] = False
    return masks


def keep_best_units(
    model: nn.Module, scores: Mapping[str, Tensor], level: float, distribution: str, floor: float
) -> Masks:
    """Masks without the units of lowest score: as few of them as bring the survivors down to the level.

    No group loses its last unit, so that a level may be out of reach.

    Args:
        scores: group -> score of each unit [count].
        level: share of what the masks name that is removed.
        distribution: ``global``, or ``layerwise``: the same share of each group's units.
        floor: with ``global``, share of each group's units that stay whatever their scores: those of different layers
            are not of one scale, and a layer of one or two units spoils a net, however many the others have. Where
            that is more than the level leaves, the largest share that is not. What is left above it is by score.

    Raises:
        MethodError: scores that cannot be ranked, or not one for each unit.
    """
    groups = units_of(model)
    scores = checked_scores(scores, {group.name: torch.Size([group.count]) for group in groups})

    def survivors(kept: Mapping[str, Tensor]) -> tuple[int, int]:
        return count(unit_masks(model, groups, kept))

    asked = survivors_at(
        level, survivors({group.name: torch.ones(group.count, dtype=torch.bool) for group in groups})[1]
    )

    def first(held: Mapping[str, int]) -> dict[str, Tensor]:
        return {group.name: torch.arange(group.count) < held[group.name] for group in groups}

    held = dict.fromkeys(scores, 1)
    if distribution == "global":
        shares = _shares(groups, floor)
        place = bisect.bisect_right(shares, asked, key=lambda share: survivors(first(_held(groups, share)))[0])
        held = _held(groups, shares[place - 1]) if place else held
    ranks = torch.cat([_ranks(scores[group.name], distribution, held[group.name]) for group in groups])
    leaving = ranks.sort(stable=True).indices[: int((ranks < torch.inf).sum())]

    def without(number: int) -> dict[str, Tensor]:
        kept = torch.ones(len(ranks), dtype=torch.bool)
        kept[leaving[:number]] = False
        parts = kept.split([group.count for group in groups])
        return {group.name: part for group, part in zip(groups, parts, strict=True)}

    # Survivors fall as units leave.
    number = bisect.bisect_left(range(len(leaving)), -asked, key=lambda number: -survivors(without(number))[0])
    return unit_masks(model, groups, without(number))


def _shares(groups: Sequence[Units], floor: float) -> list[float]:
    """Those up to the floor by which another number of units is held, ascending."""
    steps = {place / group.count for group in groups for place in range(1, math.ceil(floor * group.count))}
    return sorted(steps | {floor})


def _held(groups: Sequence[Units], share: float) -> dict[str, int]:
    """How many units of each group stay: that share of them, one at least."""
    return {group.name: max(1, math.ceil(share * group.count - _ROUNDING)) for group in groups}


def _ranks(scores: Tensor, distribution: str, held: int) -> Tensor:
    """Rank of a group's units [count], of which the lower leaves first; infinite of those that are held."""
    score = scores.cpu()
    order = score.sort(stable=True).indices
    rank = score.clone()
    if distribution == "layerwise":
        rank[order] = torch.arange(len(score), dtype=score.dtype) / len(score)
    rank[order[-held:]] = torch.inf
    return rank


class UnitCosts:
    """What a net costs by how many units of each group it has, whichever they are.

    Args:
        image: one image [1, C, H, W], which shows at how many places of a map a layer's weights are used.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> costs = UnitCosts(net, units_of(net), torch.zeros(1, 1, 2, 2))
    >>> costs.weights({"1": 3}), costs.weights({"1": 1}), costs.multiplications({"1": 1})  # two biases stay anyway
    (21, 7, 6)
    """

    def __init__(self, model: nn.Module, groups: Sequence[Units], image: Tensor) -> None:
        self._groups = groups
        parameters = {name: parameter.shape for name, parameter in model.named_parameters()}
        self._shapes = {name.removesuffix(".weight"): parameters[name] for name in all_masks(model)}
        self._vectors = {  # of layers and norms whose units leave, as `unit_masks` names them
            f"{layer}.{kind}": parameters[f"{layer}.{kind}"][0]
            for group in groups
            for layer, kinds in (
                *((maker, ("bias",)) for maker in group.makers),
                *((norm, ("weight", "bias")) for norm in group.norms),
            )
            for kind in kinds
            if f"{layer}.{kind}" in parameters
        }
        self.places = _places(model, list(self._shapes), image)

    def _sides(self, kept: Mapping[str, int]) -> dict[str, tuple[int, int]]:
        """Layer -> outputs and inputs that are left."""
        sides = {layer: [shape[0], shape[1]] for layer, shape in self._shapes.items()}
        for group in self._groups:
            gone = group.count - kept[group.name]
            for layer in group.makers:
                sides[layer][0] -= gone
            for layer, inputs in group.readers.items():
                sides[layer][1] -= gone * inputs.shape[1]
        return {layer: (outputs, inputs) for layer, (outputs, inputs) in sides.items()}

    def layers(self, kept: Mapping[str, int]) -> dict[str, int]:
        """Layer -> weights that are left of it where each group has ``kept`` units."""
        return {
            layer: outputs * inputs * self._shapes[layer][2:].numel()
            for layer, (outputs, inputs) in self._sides(kept).items()
        }

    def weights(self, kept: Mapping[str, int]) -> int:
        """Survivors of `unit_masks` with so many units of each group, of weights and what else it names."""
        vectors = dict(self._vectors)
        for group in self._groups:
            for layer in (*group.makers, *group.norms):
                for name in {f"{layer}.weight", f"{layer}.bias"} & vectors.keys():
                    vectors[name] -= group.count - kept[group.name]
        return sum(self.layers(kept).values()) + sum(vectors.values())

    def multiplications(self, kept: Mapping[str, int]) -> int:
        """Multiply-adds of an image; taps on padding are counted."""
        return sum(self.places[layer] * weights for layer, weights in self.layers(kept).items())


def _places(model: nn.Module, layers: Sequence[str], image: Tensor) -> dict[str, int]:
    """Layer -> at how many places of an image its weights are used."""
    with torch.no_grad(), eval_mode(model), watched(model, layers) as seen:
        model(image)
    return {name: given.numel() // len(model.get_parameter(f"{name}.weight")) for name, (_, given) in seen.items()}


def incoming(model: nn.Module, groups: Sequence[Units]) -> dict[str, Tensor]:
    """The incoming weights of each unit, [count, weights], by group: of all layers that make it."""
    return {
        group.name: torch.cat([_weight(model, layer)[places] for layer, places in group.makers.items()], dim=1)
        for group in groups
    }


def _weight(model: nn.Module, layer: str) -> Tensor:
    """The weights of a layer [outputs, weights], without a graph."""
    return model.get_parameter(f"{layer}.weight").detach().flatten(1)

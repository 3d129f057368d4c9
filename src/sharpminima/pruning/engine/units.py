"""Structured pruning: filters and hidden units leave whole, with all that belongs to them.

A unit takes along its incoming weights and bias, its BatchNorm's scale and shift, and the weights that read it; where
layers meet in a residual addition, their filters are joined, and leave together (`sharpminima.nets.compaction.Units`).
What remains is really smaller: `sharpminima.nets.compaction.compact` leaves the units out, and the checkpoint stores
survivors only.
"""

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
        floor: with ``global``, share of each group's units under which none falls before all are there; from there on
            the same share of each leaves. Scores of different layers are not of one scale, and a layer of one or two
            units spoils a net, however many the others have.
    """
    groups = units_of(model)
    ranked = torch.cat([_ranks(scores[group.name], distribution, floor) for group in groups], dim=1)
    leaving = ranked[1].sort(stable=True).indices
    leaving = leaving[ranked[0, leaving].sort(stable=True).indices]
    leaving = leaving[: int(ranked[1].isfinite().sum())]

    def without(number: int) -> Masks:
        kept = torch.ones(ranked.shape[1], dtype=torch.bool)
        kept[leaving[:number]] = False
        parts = kept.split([group.count for group in groups])
        return unit_masks(model, groups, {group.name: part for group, part in zip(groups, parts, strict=True)})

    _, size = count(without(0))
    asked = survivors_at(level, size)
    low, high = 0, len(leaving)  # survivors fall as units leave: bisect
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if count(without(middle))[0] <= asked else (middle + 1, high)
    return without(low)


def _ranks(scores: Tensor, distribution: str, floor: float) -> Tensor:
    """Phase and rank of a group's units [2, count]: who leaves first has the lower phase, then the lower rank."""
    score = scores.detach().double().cpu()
    order = score.sort(stable=True).indices
    place = torch.empty_like(score)
    place[order] = torch.arange(len(score), dtype=score.dtype)
    held = place >= len(score) - math.ceil(floor * len(score))
    if distribution == "layerwise":
        held = torch.zeros_like(held)
    even = place / len(score)
    rank = even if distribution == "layerwise" else torch.where(held, even, score)
    last = order[-1]
    held[last], rank[last] = True, torch.inf
    return torch.stack([held.double(), rank])


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
    return {name: given.numel() // given.shape[1] for name, (_, given) in seen.items()}


def incoming(model: nn.Module, groups: Sequence[Units]) -> dict[str, Tensor]:
    """The incoming weights of each unit, [count, weights], by group: of all layers that make it."""
    return {
        group.name: torch.cat([_weight(model, layer)[places] for layer, places in group.makers.items()], dim=1)
        for group in groups
    }


def _weight(model: nn.Module, layer: str) -> Tensor:
    """The weights of a layer [outputs, weights], without a graph."""
    return model.get_parameter(f"{layer}.weight").detach().flatten(1)

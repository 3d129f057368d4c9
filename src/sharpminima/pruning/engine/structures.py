"""Structures between a weight and a filter: weights of a layer that leave together.

A kernel is what a filter has for one channel, height x width weights. Positions of a channel are the same places of
all its kernels, whichever filter they are of: without them a lowered convolution has so many rows less to multiply. A
weight of a linear layer is a 1x1 kernel, and so a structure of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpminima.nets.masks import Masks
from sharpminima.pruning.engine.distribution import erk_densities, whole_shares
from sharpminima.pruning.engine.ranking import checked_scores


@dataclass(frozen=True, eq=False)
class Structures:
    """The structures of a weight tensor, which share its weights out among themselves."""

    places: Tensor  # int64, of the weight's shape (CPU): the number of the structure that each weight belongs to
    sizes: Tensor  # int64 [structures]: weights of each

    @classmethod
    def at(cls, places: Tensor) -> "Structures":
        """The structures of which ``places`` has the numbers."""
        return cls(places, places.flatten().bincount())

    def mean(self, values: Tensor) -> Tensor:
        """Mean over each structure of ``values`` [shape of the weight]: float64 [structures] (CPU).

        >>> Structures.at(torch.tensor([[0, 0, 1]])).mean(torch.tensor([[1.0, 3.0, 5.0]]))
        tensor([2., 5.], dtype=torch.float64)
        """
        totals = self.places.flatten().bincount(values.detach().cpu().double().flatten(), len(self.sizes))
        return totals / self.sizes


def kernels_of(weight: Tensor) -> Structures:
    """The kernels of a weight [filters, channels, height, width]; of a linear layer [outputs, inputs] single weights.

    >>> kernels_of(torch.zeros(2, 3, 5, 5)).sizes
    tensor([25, 25, 25, 25, 25, 25])
    """
    kernels = weight.shape[:2].numel()
    return Structures.at(torch.arange(kernels).view(*weight.shape[:2], *[1] * (weight.ndim - 2)).expand(weight.shape))


def positions_of(weight: Tensor, stride: int) -> Structures:
    """Positions ``stride`` apart, row by row, in all kernels of a channel; of a linear layer single weights.

    With a stride of the kernel's width these are its columns, with one of its size or more single positions.

    >>> positions_of(torch.zeros(1, 1, 3, 3), 2).places[0, 0]
    tensor([[0, 1, 0],
            [1, 0, 1],
            [0, 1, 0]])
    """
    if weight.ndim == 2:
        return kernels_of(weight)
    filters, channels, height, width = weight.shape
    apart = min(stride, height * width)
    within = (torch.arange(height * width) % apart).view(height, width)
    places = torch.arange(channels)[:, None, None] * apart + within
    return Structures.at(places.expand(filters, channels, height, width))


def keep_best_structures(
    scores: Mapping[str, Tensor], structures: Mapping[str, Structures], survivors: int, distribution: str
) -> Masks:
    """Masks (CPU) that keep the structures of highest score, as many as have no more than ``survivors`` weights.

    No tensor loses its last structure, so that a number may be out of reach. What does not fit into a tensor's share
    goes to those of the smallest structures; what is missing in the end is less than the smallest that could be added.

    Args:
        scores: parameter name -> score of each structure [structures]; -inf: it has left.
        structures: parameter name -> its structures.
        survivors: weights to keep, of all tensors together.
        distribution: of weights over tensors, a name of `sharpminima.catalogue.methods.choices.DISTRIBUTIONS`.

    Raises:
        MethodError: scores that cannot be ranked, or not one for each structure.
    """
    checked = checked_scores(scores, {name: each.sizes.shape for name, each in structures.items()})
    scores = {name: score.cpu() for name, score in checked.items()}
    orders = {name: score.sort(descending=True, stable=True).indices for name, score in scores.items()}
    there = {name: int((score > -torch.inf).sum()) for name, score in scores.items()}
    sizes = {name: structures[name].sizes[order][: there[name]] for name, order in orders.items()}
    if distribution == "global":
        kept = _by_rank(scores, orders, sizes, survivors)
        missing = dict.fromkeys(kept, 0.0)
    else:
        budgets = _budgets(structures, {name: int(size[0]) for name, size in sizes.items()}, survivors, distribution)
        kept = {name: max(1, _fitting(size, budgets[name])) for name, size in sizes.items()}
        shares = _shares({name: structures[name].places.shape for name in scores}, survivors, distribution)
        missing = {name: shares[name] - float(size[: kept[name]].sum()) for name, size in sizes.items()}
    by_need = sorted(kept, key=lambda name: -missing[name])
    below = [name for name in by_need if missing[name] > 0]
    finest = sorted(by_need, key=lambda name: int(structures[name].sizes.min()))
    for names, most in ((below, 1), (finest, max(there.values()))):  # one more of those below their share, then any
        for name in names:
            rest = survivors - sum(int(size[: kept[each]].sum()) for each, size in sizes.items())
            kept[name] += _fitting(sizes[name][kept[name] : kept[name] + most], rest)
    masks = {}
    for name, order in orders.items():
        stays = torch.zeros(len(order), dtype=torch.bool)
        stays[order[: kept[name]]] = True
        masks[name] = stays[structures[name].places]
    return masks


def _fitting(sizes: Tensor, budget: int) -> int:
    """How many of the first have no more than ``budget`` weights together."""
    return int((sizes.cumsum(0) <= budget).sum())


def _by_rank(
    scores: Mapping[str, Tensor], orders: Mapping[str, Tensor], sizes: Mapping[str, Tensor], survivors: int
) -> dict[str, int]:
    """How many of each tensor stay: the best of each, then the best wherever they are."""
    others = [scores[name][orders[name]][1 : len(size)] for name, size in sizes.items()]
    of = torch.cat([torch.full((len(score),), place) for place, score in enumerate(others)])
    order = torch.cat(others).sort(descending=True, stable=True).indices
    rest = survivors - sum(int(size[0]) for size in sizes.values())
    taken = order[: _fitting(torch.cat([size[1:] for size in sizes.values()])[order], rest)]
    counts = of[taken].bincount(minlength=len(sizes)).tolist()
    return {name: 1 + number for name, number in zip(sizes, counts, strict=True)}


def _budgets(
    structures: Mapping[str, Structures], first: Mapping[str, int], survivors: int, distribution: str
) -> dict[str, int]:
    """Weights of each tensor; one whose share is less than its best structure has that, others share the rest."""
    shapes = {name: each.places.shape for name, each in structures.items()}
    fixed: dict[str, int] = {}
    while others := {name: shape for name, shape in shapes.items() if name not in fixed}:
        rest = max(0, survivors - sum(fixed.values()))
        shares = _shares(others, rest, distribution)
        if not (small := {name: first[name] for name in others if shares[name] < first[name]}):
            return {**fixed, **whole_shares(shares, {name: shape.numel() for name, shape in others.items()}, rest)}
        fixed |= small
    return fixed


def _shares(shapes: Mapping[str, torch.Size], survivors: int, distribution: str) -> dict[str, float]:
    """Weights of each tensor, were they not in structures."""
    density = survivors / sum(shape.numel() for shape in shapes.values())
    densities = erk_densities(shapes, density) if distribution == "erk" else dict.fromkeys(shapes, density)
    return {name: densities[name] * shape.numel() for name, shape in shapes.items()}

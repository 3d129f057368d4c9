"""Auxiliary losses: classifiers beside a net, each of what a layer reads, by which units halfway can be judged."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from sharpminima.nets.compaction import Units
from sharpminima.nets.modes import eval_mode
from sharpminima.pruning.engine.activations import running_order, watched
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.engine.reparametrised import Reparametrised
from sharpminima.pruning.engine.total import total
from sharpminima.pruning.engine.unit_factors import pooled
from sharpminima.pruning.engine.units import units_of
from sharpminima.runtime.rng import generator

_LEAST = 0.01  # weight of a loss


@dataclass(frozen=True, eq=False)
class Tap:
    """Where a classifier reads."""

    layer: str  # that reads the units
    inputs: Tensor  # which of its inputs they are [units, positions]
    place: int  # of the layer, among all that read units, in the order of the forward pass
    weight: float  # of the loss


def reading_order(model: nn.Module, groups: Sequence[Units], images: Tensor) -> dict[str, int]:
    """Layer that reads units -> its place among those in the forward pass of ``images``.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> reading_order(net, units_of(net), torch.ones(1, 2))
    {'3': 0, '5': 1}
    """
    readers = dict.fromkeys(reader for group in groups for reader in group.readers)
    return {name: place for place, name in enumerate(running_order(model, readers, images))}


def taps_of(groups: Sequence[Units], order: dict[str, int], number: int) -> list[Tap]:
    """At most ``number`` taps, spread evenly over the layers that are the first to read a group.

    The first layer of all that read units has none. A loss weighs the square of its layer's share of the depth, at
    least .01 (Guo, Tan, Wu, Chen, van den Hengel, Shi, "The shallow end: empowering shallower deep-convolutional
    networks through auxiliary outputs", 2016).
    """
    first: dict[str, Tensor] = {}
    for group in groups:
        reader = min(group.readers, key=lambda name: order[name])
        if order[reader]:
            first.setdefault(reader, group.readers[reader])
    layers = sorted(first, key=lambda name: order[name])
    if len(layers) > number:
        layers = [layers[(each + 1) * len(layers) // (number + 1)] for each in range(number)]
    depth = len(order)
    return [Tap(name, first[name], order[name], max(_LEAST, ((order[name] + 1) / depth) ** 2)) for name in layers]


class Classified(Reparametrised):
    """The net with a linear classifier of the mean over positions of each unit, where layers read them.

    Args:
        number: of classifiers, at most.
    """

    def __init__(self, run: Run, name: str, number: int) -> None:
        super().__init__(run, name)
        self.groups = units_of(self.model)
        images = run.training.images[:1]
        self.order = reading_order(self.model, self.groups, images)
        self.taps = taps_of(self.groups, self.order, number)
        with torch.no_grad(), eval_mode(self.model):
            classes = self.model(images).shape[1]
        draws, like = generator(run.seed, name, "classifiers"), self.base(self.names[0])
        for tap in self.taps:
            bound = len(tap.inputs) ** -0.5
            weight = (2 * torch.rand(classes, len(tap.inputs), generator=draws) - 1) * bound
            self.add(f"{tap.layer}.weight", weight.to(like))
            self.add(f"{tap.layer}.bias", like.new_zeros(classes))

    def weights(self) -> dict[str, Tensor]:
        """None but the net's own."""
        return {}

    def behind(self, group: Units) -> Tap | None:
        """The first tap behind all layers that read the units; None: there is the net's own output alone."""
        last = max(self.order[reader] for reader in group.readers)
        return next((tap for tap in self.taps if tap.place > last), None)

    def logits(self, tap: Tap, taken: Tensor) -> Tensor:
        """The classifier's outputs [N, classes], of what the tap's layer takes [N, inputs, ...]."""
        units = pooled(taken, tap.inputs.to(taken.device))
        return F.linear(units, self.of(f"{tap.layer}.weight"), self.of(f"{tap.layer}.bias"))

    def auxiliary_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Sum of the weighted cross-entropies of all classifiers [], in the net's present mode; its buffers stay."""
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        with watched(self.model, [tap.layer for tap in self.taps]) as seen:
            functional_call(self.model, buffers, (images,))
        return total(tap.weight * F.cross_entropy(self.logits(tap, seen[tap.layer][0]), labels) for tap in self.taps)

"""Nets whose units are multiplied by factors, of each image its own: noise on units, or attention to them.

A unit meets its factor where it is read, at the inputs of all layers that read it: behind its bias, BatchNorm, ReLU and
pooling, and behind the additions that join filters. So a factor of 0 is the unit's removal, in any net.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from sharpminima.nets.compaction import Units, removable_pixels
from sharpminima.nets.masks import Masks
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.engine.reparametrised import Reparametrised
from sharpminima.pruning.engine.units import unit_masks, units_of


def pooled(features: Tensor, inputs: Tensor) -> Tensor:
    """The mean of each unit over its positions [N, units].

    Args:
        features: what a layer reads [N, inputs] or [N, inputs, H, W].
        inputs: which of those the units are [units, positions].

    >>> pooled(torch.tensor([[1.0, 3.0, 5.0, 9.0]]), torch.tensor([[0, 1], [2, 3]]))
    tensor([[2., 7.]])
    """
    return features.flatten(2).mean(2)[:, inputs].mean(2) if features.ndim > 2 else features[:, inputs].mean(2)


def scaled(features: Tensor, inputs: Tensor, factors: Tensor) -> Tensor:
    """``features`` with units times their factors [N, units] or [1, units], the others as they are; as in `pooled`.

    >>> scaled(torch.ones(1, 5), torch.tensor([[0, 1], [2, 3]]), torch.tensor([[2.0, 3.0]]))
    tensor([[2., 2., 3., 3., 1.]])
    """
    each = factors.new_ones(len(factors), features.shape[1])
    each = each.index_copy(1, inputs.flatten().to(each.device), factors.repeat_interleave(inputs.shape[1], 1))
    return features * each.view(*each.shape, *[1] * (features.ndim - 2))


class UnitFactors(Reparametrised, ABC):
    """The net with factors on its units; subclasses compute the `factors`.

    Args:
        groups: of the units; read before any layer has a hook.
    """

    def __init__(self, run: Run, name: str, groups: Sequence[Units]) -> None:
        super().__init__(run, name)
        self.groups = list(groups)
        for group in self.groups:
            for reader, inputs in group.readers.items():
                layer = self.model.get_submodule(reader)
                layer.register_forward_pre_hook(partial(self._scaled, group, reader, inputs))

    def _scaled(
        self, group: Units, reader: str, inputs: Tensor, _layer: nn.Module, taken: tuple[Tensor]
    ) -> tuple[Tensor] | None:
        factors = self.factors(group, reader, taken[0])
        return None if factors is None else (scaled(taken[0], inputs, factors),)

    @abstractmethod
    def factors(self, group: Units, reader: str, features: Tensor) -> Tensor | None:
        """Factors of a group's units [N, units], or [1, units] for all images; None: all are 1.

        Args:
            reader: the layer that reads the units.
            features: what it would read without this group's factors [N, inputs, ...].
        """


class NoisyUnits(UnitFactors, ABC):
    """The net with random factors on its units; in eval mode they are the means, and 0 of units that leave.

    All readers of a unit see the same draw; each image has its own.

    Args:
        pixels: whether pixels that a linear layer reads are units, too.
    """

    def __init__(self, run: Run, name: str, *, pixels: bool) -> None:
        super().__init__(run, name, [*(removable_pixels(run.model) if pixels else []), *units_of(run.model)])
        self._drawn: dict[str, Tensor] = {}  # in this pass

    @abstractmethod
    def drawn(self, group: Units, images: int, draws: torch.Generator) -> Tensor:
        """Factors for so many images [images, units]; ``draws`` is on the CPU."""

    @abstractmethod
    def mean(self, group: Units) -> Tensor:
        """Means of the factors [units]."""

    @abstractmethod
    def margin(self, group: Units) -> Tensor:
        """By how much each unit is on the side of those that stay [units]; what is at 0 or below leaves."""

    @torch.no_grad()
    def keep(self) -> dict[str, Tensor]:
        """Group -> which units stay: bool [units]; where all would leave, the one of largest margin does not."""
        keep = {}
        for group in self.groups:
            margin = self.margin(group)
            stays = margin > 0
            if not stays.any():
                stays[margin.argmax()] = True
            keep[group.name] = stays
        return keep

    def masks(self) -> Masks:
        """Of the net without the units that leave (CPU)."""
        return unit_masks(self.model, self.groups, self.keep())

    def factors(self, group: Units, reader: str, features: Tensor) -> Tensor | None:
        """A draw an image in training mode; in eval mode none, as `weights` has the means."""
        if not self.training:
            return None
        if group.name not in self._drawn:
            self._drawn[group.name] = self.drawn(group, len(features), self._draws).to(features.dtype)
        return self._drawn[group.name]

    def weights(self) -> dict[str, Tensor]:
        """In training mode the net's own; in eval mode those that read units, times the means of what stays."""
        if self.training:
            self._drawn, self._draws = {}, self.noise()
            return {}
        weights: dict[str, Tensor] = {}
        keep = self.keep()
        for group in self.groups:
            means = (self.mean(group) * keep[group.name])[None]
            for reader, inputs in group.readers.items():
                name = f"{reader}.weight"
                weight = weights.get(name, self.base(name))
                weights[name] = scaled(weight, inputs, means.to(weight.dtype))
        return weights

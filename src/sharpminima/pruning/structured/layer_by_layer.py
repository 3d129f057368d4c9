"""Structured pruning layer by layer: units leave a layer so that the next one gets what it got, then the net trains.

The same share of each layer's units leaves.
"""

from abc import abstractmethod
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sharpminima.nets.compaction import Units
from sharpminima.pruning.engine.activations import columns_of, rows_at
from sharpminima.pruning.engine.method import Pruned, Run
from sharpminima.pruning.engine.search import prune_by_search
from sharpminima.pruning.engine.units import keep_best_units
from sharpminima.pruning.structured.in_turns import InTurns, search
from sharpminima.training import FlatModel


class LayerByLayer(InTurns):
    """Leaves as many units of each layer as the level says; methods give `chosen`."""

    def __init__(
        self, run: Run, settings: Any, flat: FlatModel, target: float, name: str, *, begin: float = 0.0
    ) -> None:
        super().__init__(run, settings, flat, target, name, begin=begin)
        even = {group.name: torch.zeros(group.count) for group in self.groups}
        masks = keep_best_units(self.original, even, target, "layerwise", 0.0)
        self._left = {group.name: int(self._there(group, masks).sum()) for group in self.groups}
        self.take_turns(flat)

    @staticmethod
    def _there(group: Units, masks: dict[str, Tensor]) -> Tensor:
        layer, places = next(iter(group.makers.items()))
        return masks[f"{layer}.weight"].flatten(1).any(1)[places]

    def kept(self, model: nn.Module, group: Units) -> Tensor:
        """As many as the level says, as they are `chosen`."""
        left = self._left[group.name]
        return self.chosen(model, group, left) if left < group.count else self.keep[group.name]

    @abstractmethod
    def chosen(self, model: nn.Module, group: Units, left: int) -> Tensor:
        """Which units stay, ``left`` of them: bool [count] (CPU); the weights that read them may be changed, in place.

        Args:
            model: as it is now, without what has left of the layers before.
        """

    def reading(self, model: nn.Module, group: Units) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """Layer that reads the units -> its rows in ``model`` and its weights, in float64, and the units' columns."""
        rows = rows_at(model, group.readers, self.sample.images)
        reading = {}
        for name, inputs in group.readers.items():
            weight = model.get_parameter(f"{name}.weight").detach().double().flatten(1)
            reading[name] = rows[name], weight, columns_of(model.get_submodule(name), inputs.to(weight.device))
        return reading


def prune(run: Run, settings: Any, name: str, policy: type[LayerByLayer]) -> Pruned:
    """Search at each level as ``policy`` chooses, then train with what stays."""
    return prune_by_search(run, settings, name, partial(search, name=name, policy=policy))

"""Structured pruning step by step: units leave while the net trains, by what is measured of them between removals.

The first part of the search (``begin``) trains the whole net. Then a removal comes after every so many steps up to the
end of the search, each of which takes the same share of the weights.
"""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from sharpminima.nets.masks import Masks, all_masks
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.structured.unit_scores import UnitScores
from sharpminima.training import FlatModel


class StepByStep(UnitScores):
    """Measures units between removals; methods give `measure` and `scores`."""

    def __init__(self, run: Run, settings: Any, flat: FlatModel, level: float) -> None:
        super().__init__(run, settings, flat, level)
        self._every = settings.every
        self._removals = max(1, int(self.total_steps * (1 - settings.begin)) // settings.every)
        self.sums = {g.name: flat.values.new_zeros(g.count) for g in self.groups}
        self.seen = 0  # mini-batches in the sums
        self.masks: Masks = all_masks(flat.model)

    @property
    def _to_go(self) -> int:
        """Steps from here to the search's end, which is the last removal."""
        return self.total_steps - self.steps

    def before_step(self, flat: FlatModel, images: Tensor, labels: Tensor) -> None:
        """Measure, from the first removal's mini-batches on."""
        if self._to_go <= self._every * self._removals:
            self.seen += 1
            self.measure(flat, images, labels)

    @abstractmethod
    def measure(self, flat: FlatModel, images: Tensor, labels: Tensor) -> None:
        """Add what this mini-batch says to `sums`; `seen` counts it already."""

    def read_by(self, weights: dict[str, Tensor], gradients: dict[str, Tensor]) -> dict[str, Tensor]:
        """Sum of w g over all weights that read a unit [count], by group: the derivative by a factor on its output."""
        changes = {}
        for group in self.groups:
            change = torch.zeros_like(self.sums[group.name])
            for layer, inputs in group.readers.items():
                product = weights[f"{layer}.weight"] * gradients[f"{layer}.weight"]
                by_input = product.transpose(0, 1).flatten(1).sum(1)
                change += by_input[inputs.to(by_input.device)].sum(1)
            changes[group.name] = change
        return changes

    def after_step(self, flat: FlatModel) -> None:
        """Remove the least important, where a removal is due; the last is the search's own."""
        super().after_step(flat)
        later, rest = divmod(self._to_go, self._every)
        if rest == 0 and 0 < later < self._removals:
            self.masks = self.best(flat, self.level * (1 - later / self._removals))
            flat.set_masks(self.masks)
            self.seen = 0
            for total in self.sums.values():
                total.zero_()

    def under_all(self, scores: dict[str, Tensor]) -> dict[str, Tensor]:
        """The scores, with what has left already under all others."""
        lowest = min(0.0, *(float(score.min()) for score in scores.values())) - 1.0
        lowered = {}
        for group in self.groups:
            layer, places = next(iter(group.makers.items()))
            score = scores[group.name]
            left = self.masks[f"{layer}.weight"].flatten(1).any(1)[places].to(score.device)
            lowered[group.name] = torch.where(left, score, lowest)
        return lowered

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and JSON values; a resume file holds it."""
        return {**super().state(), "sums": self.sums, "seen": self.seen, "masks": self.masks}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, to the same bits."""
        super().restore(state)
        self.seen, self.masks = state["seen"], state["masks"]
        for group, total in self.sums.items():
            total.copy_(state["sums"][group])

"""Channels by first-order Taylor expansion.

Molchanov, Mallya, Tyree, Frosio, Kautz, "Importance estimation for neural network pruning", CVPR 2019: the importance
of a unit is what the loss changes by to first order where the unit is nought, squared, and averaged over mini-batches.
Between two removals importance is averaged anew, and the net trains on.

Where it is measured decides what it says: behind a BatchNorm the loss does not feel the scale of a filter, so that the
sum of g w over its incoming weights is zero but for rounding. Ours is measured where the unit is read: x dL/dx at the
inputs of the layers that read it, summed, is the sum of g w over the weights that multiply it. That is the authors'
gate behind BatchNorm, gamma g_gamma + beta g_beta; without BatchNorm it is the sum of g w over incoming weights and
bias; and of filters that residual additions join it is that of all of them leaving together.

The authors start from a trained net and remove 100 units each 30 mini-batches. Here the first part of the search
(``begin``) trains the net, and each removal takes the same share of the weights.
"""

from typing import Any

import torch
from torch import Tensor

from sharpminima.catalogue.methods.structured import TaylorChannelsSettings
from sharpminima.nets.masks import Masks, all_masks
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.structured.unit_scores import UnitScores
from sharpminima.training import FlatModel


class TaylorScores(UnitScores):
    """Averages importance between removals, which come ``every`` so many steps up to the end of the search."""

    def __init__(self, run: Run, settings: TaylorChannelsSettings, flat: FlatModel, level: float) -> None:
        super().__init__(run, settings, flat, level)
        self._every = settings.every
        self._removals = max(1, int(self.total_steps * (1 - settings.begin)) // settings.every)
        self._sums = {g.name: flat.values.new_zeros(g.count) for g in self.groups}
        self._seen = 0  # mini-batches in the sums
        self.masks: Masks = all_masks(flat.model)

    @property
    def _to_go(self) -> int:
        """Steps from here to the search's end, which is the last removal."""
        return self.total_steps - self.steps

    @torch.no_grad()
    def before_step(self, flat: FlatModel, images: Tensor, labels: Tensor) -> None:
        """Add this mini-batch's importance."""
        if self._to_go > self._every * self._removals:
            return
        self._seen += 1
        for group in self.groups:
            change = torch.zeros_like(self._sums[group.name])
            for layer, inputs in group.readers.items():
                weight, gradient = (flat.view(v, f"{layer}.weight") for v in (flat.values, flat.gradients))
                by_input = (weight * gradient).transpose(0, 1).flatten(1).sum(1)
                change += by_input[inputs.to(by_input.device)].sum(1)
            self._sums[group.name] += change.square()

    def after_step(self, flat: FlatModel) -> None:
        """Remove the least important, where a removal is due; the last is the search's own."""
        super().after_step(flat)
        later, rest = divmod(self._to_go, self._every)
        if rest == 0 and 0 < later < self._removals:
            self.masks = self.best(flat, self.level * (1 - later / self._removals))
            flat.set_masks(self.masks)
            self._forget()

    def _forget(self) -> None:
        self._seen = 0
        for total in self._sums.values():
            total.zero_()

    def scores(self, flat: FlatModel) -> dict[str, Tensor]:
        """Mean over mini-batches of the squared change [count], by group; under all others what has left already."""
        found = {}
        for group in self.groups:
            layer, places = next(iter(group.makers.items()))
            left = self.masks[f"{layer}.weight"].flatten(1).any(1)[places].to(flat.values.device)
            found[group.name] = torch.where(left, self._sums[group.name] / max(1, self._seen), -1.0)
        return found

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and JSON values; a resume file holds it."""
        return {**super().state(), "sums": self._sums, "seen": self._seen, "masks": self.masks}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, to the same bits."""
        super().restore(state)
        self._seen, self.masks = state["seen"], state["masks"]
        for group, total in self._sums.items():
            total.copy_(state["sums"][group])

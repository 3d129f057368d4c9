"""Channels by first-order Taylor expansion.

Molchanov, Mallya, Tyree, Frosio, Kautz, "Importance estimation for neural network pruning", CVPR 2019: the importance
of a group of weights is (sum g w)^2, what the loss changes by to first order without it, squared; a group is the
incoming weights of a unit, and the mean is over the mini-batches of the search's last epoch. The paper removes units
in small steps while it trains on; here they leave at once.
"""

from typing import Any

import torch
from torch import Tensor

from sharpminima.catalogue.methods.structured import TaylorChannelsSettings
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.structured.unit_scores import UnitScores
from sharpminima.training import FlatModel


class TaylorScores(UnitScores):
    """Sums importance over the last epoch."""

    def __init__(self, run: Run, settings: TaylorChannelsSettings, flat: FlatModel, level: float) -> None:
        super().__init__(run, settings, flat, level)
        self._sums = {layer: torch.zeros_like(weight[:, 0]) for layer, weight in self.incoming(flat).items()}

    @torch.no_grad()
    def before_step(self, flat: FlatModel, images: Tensor, labels: Tensor) -> None:
        """Add this mini-batch's importance."""
        if self.steps >= self.total_steps - self.steps_per_epoch:
            for layer, weight in self.incoming(flat).items():
                gradient = flat.view(flat.gradients, f"{layer}.weight").flatten(1)
                self._sums[layer] += (gradient * weight).sum(1).square()

    def scores(self, flat: FlatModel) -> dict[str, Tensor]:
        """Mean over the last epoch's mini-batches of (sum g w)^2 [count], by layer."""
        return {layer: total / self.steps_per_epoch for layer, total in self._sums.items()}

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and JSON values; a resume file holds it."""
        return {**super().state(), "sums": self._sums}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, to the same bits."""
        super().restore(state)
        for layer, total in self._sums.items():
            total.copy_(state["sums"][layer])

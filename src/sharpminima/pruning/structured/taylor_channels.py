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

import torch
from torch import Tensor

from sharpminima.pruning.structured.step_by_step import StepByStep
from sharpminima.training import FlatModel


class TaylorScores(StepByStep):
    """Averages importance between removals."""

    @torch.no_grad()
    def measure(self, flat: FlatModel, images: Tensor, labels: Tensor) -> None:
        """Add this mini-batch's importance."""
        names = [f"{layer}.weight" for group in self.groups for layer in group.readers]
        weights, gradients = ({name: flat.view(v, name) for name in names} for v in (flat.values, flat.gradients))
        for group, change in self.read_by(weights, gradients).items():
            self.sums[group] += change.square()

    def scores(self, flat: FlatModel) -> dict[str, Tensor]:
        """Mean over mini-batches of the squared change [count], by group; under all others what has left already."""
        return self.under_all({group: total / max(1, self.seen) for group, total in self.sums.items()})

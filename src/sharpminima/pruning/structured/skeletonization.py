"""Skeletonization: Mozer, Smolensky, "Skeletonization: a technique for trimming the fat from a network via relevance
assessment", NeurIPS 1988 (1989).

A unit's output is multiplied by alpha = 1, and its relevance is rho = -dE/dalpha, about what the error grows by without
the unit. E is the linear error, sum |t - o| over the outputs o and their targets t, whose derivative does not vanish
where the net is nearly right, as that of the loss does. rho is smoothed over mini-batches, rho <- .8 rho + .2 of the
new one; the least relevant units leave, and the net trains on.

alpha and E are as in the paper. The .8 and .2 are from general knowledge of it. Ours: o is the softmax, of which
E = 2 (1 - o_t) a mean over images; the smoothed rho starts at 0, and is divided by 1 - .8^n after n mini-batches; units
leave in several steps, from all layers together, and not one by one.
"""

import torch
from torch import Tensor

from sharpminima.nets.modes import eval_mode
from sharpminima.pruning.structured.step_by_step import StepByStep
from sharpminima.training import FlatModel

_KEPT = 0.8  # of rho from mini-batch to mini-batch


class Relevance(StepByStep):
    """Smooths the relevance of units between removals."""

    def measure(self, flat: FlatModel, images: Tensor, labels: Tensor) -> None:
        """Measure on this mini-batch, in eval mode: BatchNorm is part of the function."""
        parameters = dict(flat.model.named_parameters())
        names = list(dict.fromkeys(f"{layer}.weight" for group in self.groups for layer in group.readers))
        with eval_mode(flat.model):
            outputs = flat.model(images).softmax(1)
            error = 2 * (1 - outputs.gather(1, labels[:, None])).mean()
            gradients = torch.autograd.grad(error, [parameters[name] for name in names])
        weights = {name: parameters[name].detach() for name in names}
        for group, change in self.read_by(weights, dict(zip(names, gradients, strict=True))).items():
            self.sums[group].mul_(_KEPT).sub_(change, alpha=1 - _KEPT)

    def scores(self, flat: FlatModel) -> dict[str, Tensor]:
        """Smoothed relevance [count], by group; under all others what has left already."""
        whole = max(1 - _KEPT**self.seen, 1 - _KEPT)
        return self.under_all({group: total / whole for group, total in self.sums.items()})

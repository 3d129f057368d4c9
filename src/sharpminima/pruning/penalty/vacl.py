"""VACL, variance-aware cross-layer regularisation: Gao, Liu, Chien, Zhang, Alvarez, "VACL: variance-aware cross-layer
regularization for pruning deep residual networks", ICCV workshops 2019.

The i-th filters of all layers that residual additions join are one group, since they can but leave together. Beside
the loss stands, with n_l the L2 norm of a group's filter in layer l of L,

    lambda sum over groups of (mean_l n_l + gamma var_l n_l),

so that no filter of a group stays large while the others shrink: the gradient of n_l is (1 + 2 gamma (n_l - mean)) / L
times lambda. Where layers are not joined, the variance is 0, and it is the filter-wise group lasso.

Groups, and that a group's mean and variance are penalised, are as in the paper. That they are of the norms of filters,
and added, is ours, and so are lambda and gamma; hidden units of linear layers are groups as well.
"""

from typing import Any

import torch
from torch import Tensor

from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.engine.units import units_of
from sharpminima.pruning.penalty.penalised import Penalised
from sharpminima.training import FlatModel


class CrossLayer(Penalised):
    """Adds the gradient of the means and variances of norms."""

    def __init__(self, run: Run, settings: Any, flat: FlatModel, level: float) -> None:
        super().__init__(run, settings, flat, level)
        self._groups = units_of(flat.model)

    @torch.no_grad()
    def before_step(self, flat: FlatModel, images: Tensor, labels: Tensor) -> None:
        """A filter of norm 0 has no gradient."""
        for group in self._groups:
            makers = {f"{layer}.weight": places.to(flat.values.device) for layer, places in group.makers.items()}
            filters = {name: flat.view(flat.values, name)[places] for name, places in makers.items()}
            norms = torch.stack([weight.flatten(1).norm(dim=1) for weight in filters.values()])
            pull = (1 + 2 * self.settings.variance * (norms - norms.mean(0))) / len(norms)
            scale = torch.where(norms > 0, self.settings.strength * pull / norms, 0.0)
            for (name, weight), factor in zip(filters.items(), scale, strict=True):
                gradient = flat.view(flat.gradients, name)
                gradient.index_add_(0, makers[name], weight * factor.view(-1, *[1] * (weight.ndim - 1)))

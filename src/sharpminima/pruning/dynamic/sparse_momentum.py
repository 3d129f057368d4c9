"""Sparse momentum: Dettmers and Zettlemoyer, "Sparse networks from scratch: faster training without losing
performance", 2019.

After each epoch a share of each layer's connections, .5 at first and falling by a cosine, leaves: the smallest. As
many come back in all, shared out over layers in proportion to the mean |momentum| of what survived there before, at the
free places of largest |momentum|, with weight 0. The momentum is an exponential mean of the dense gradients.

As in the authors' code every layer starts at the same density; of a layer less than 20 % sparse that is due more than
an equal share of what comes back, at most its sparsity leaves; and SGD's momentum, where it has any, is that of the
dense gradients, so that newcomers start with their own. Ours: numbers are rounded down, so that the last weight of a
layer stays, and the cosine ends at 0 (.005 there); they also set the momentum of all free places to the survivors' mean
after each rewiring.

LeNet-300 on MNIST by the published recipe: 1.49 ± 0.10 % error at 5 % left; published: 1.53 at 5, within 0.3 points.
1.99 ± 0.21 % error at 2 % left; published: 1.99 at 2, within 0.3 points. 2.38 ± 0.04 % error at 1 % left; published:
2.36 at 1, within 0.3 points.
"""

from typing import Any

import torch
from torch import Tensor

from sharpminima.catalogue.methods.dynamic import SparseMomentumSettings
from sharpminima.nets.masks import Masks
from sharpminima.pruning.dynamic.rewiring import Dynamic, drop_smallest, grow_best, room, share_out
from sharpminima.pruning.dynamic.rigl import cosine
from sharpminima.pruning.engine.method import Run
from sharpminima.training import FlatModel

_NEARLY_DENSE = 0.2  # sparsity under which a layer that grows drops less


class Redistributing(Dynamic):
    """Layers win and lose connections."""

    def __init__(self, run: Run, settings: SparseMomentumSettings, flat: FlatModel, level: float, name: str) -> None:
        super().__init__(run, settings, flat, level, name)
        self._momentum = torch.zeros_like(flat.values)
        (group,) = self.update_groups
        group.dense = True

    def before_step(self, flat: FlatModel, images: Tensor, labels: Tensor) -> None:
        """Follow the dense gradients."""
        assert flat.unmasked is not None  # of `search`
        self._momentum.lerp_(flat.unmasked, 1 - self.settings.smoothing)

    def rewired(self, flat: FlatModel, masks: Masks) -> Masks:
        """Drop the smallest, grow where the momentum is largest."""
        momentum = {name: part.abs() for name, part in self.parts(flat, self._momentum).items()}
        means = {name: float(momentum[name][mask].mean()) if mask.any() else 0.0 for name, mask in masks.items()}
        share, equal = cosine(self.settings.drop, self.steps, self._last), sum(means.values()) / len(means)
        dropped = {}
        for name, mask in masks.items():
            sparsity = float((~mask).double().mean())
            limit = sparsity if sparsity < _NEARLY_DENSE and means[name] > equal else 1.0
            dropped[name] = int(min(share, limit) * int(mask.sum()))
        kept = drop_smallest(self.parts(flat, flat.values), masks, dropped)
        return grow_best(momentum, kept, kept, share_out(means, room(kept), sum(dropped.values())))

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and JSON values; a resume file holds it."""
        return {**super().state(), "dense_momentum": self._momentum}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, to the same bits."""
        super().restore(state)
        self._momentum.copy_(state["dense_momentum"])

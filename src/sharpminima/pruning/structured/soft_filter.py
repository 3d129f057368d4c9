"""Soft filter pruning: He, Kang, Dong, Fu, Yang, "Soft filter pruning for accelerating deep convolutional neural
networks", IJCAI 2018.

After each epoch the filters (units) with the smallest L2 norm, the same share of each layer, are set to zero; they go
on being trained and may recover. What is smallest after the last epoch leaves. As in the authors' code weights alone
are set to zero: a unit whose bias were, too, would never again have a gradient behind a ReLU. The authors' nets have
convolutions and BatchNorm; hidden units of linear layers are zeroed likewise here, and filters that residual
additions join are zeroed together.
"""

import torch
from torch import Tensor

from sharpminima.nets.evaluation import Evaluation
from sharpminima.pruning.structured.unit_scores import UnitScores
from sharpminima.training import FlatModel


class SoftZeros(UnitScores):
    """Sets the smallest units to zero after each epoch, without a mask, so that they may recover."""

    def scores(self, flat: FlatModel) -> dict[str, Tensor]:
        """L2 norm of each unit's incoming weights [count], by group."""
        return {group: weight.norm(dim=1) for group, weight in self.incoming(flat).items()}

    @torch.no_grad()
    def after_epoch(self, flat: FlatModel, epoch: int, validation: Evaluation) -> None:
        """Set the incoming weights of the smallest to zero."""
        super().after_epoch(flat, epoch, validation)
        masks = self.best(flat, self.level)
        for group in self.groups:
            for layer, places in group.makers.items():
                mask = masks[f"{layer}.weight"].flatten(1).any(1)[places]
                flat.view(flat.values, f"{layer}.weight")[places[~mask]] = 0.0

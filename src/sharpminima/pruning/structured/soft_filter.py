"""Soft filter pruning: He, Kang, Dong, Fu, Yang, "Soft filter pruning for accelerating deep convolutional neural
networks", IJCAI 2018.

After each epoch the filters (units) with the smallest L2 norm, the same share of each layer, are set to zero; they go
on being trained and may recover. What is smallest after the last epoch leaves.
"""

import torch
from torch import Tensor

from sharpminima.nets.evaluation import Evaluation
from sharpminima.pruning.engine.units import keep_best_units
from sharpminima.pruning.structured.unit_scores import UnitScores
from sharpminima.training import FlatModel


class SoftZeros(UnitScores):
    """Sets the smallest units to zero after each epoch, without a mask, so that they may recover."""

    def scores(self, flat: FlatModel) -> dict[str, Tensor]:
        """L2 norm of each unit's incoming weights [count], by layer."""
        return {layer: weight.norm(dim=1) for layer, weight in self.incoming(flat).items()}

    @torch.no_grad()
    def after_epoch(self, flat: FlatModel, epoch: int, validation: Evaluation) -> None:
        """Set the incoming weights and biases of the smallest to zero."""
        super().after_epoch(flat, epoch, validation)
        masks = keep_best_units(flat.model, self.scores(flat), self.level, self.settings.distribution)
        for group in self.groups:
            for name in (f"{group.layer}.weight", f"{group.layer}.bias"):
                if name in masks:
                    kept = masks[f"{group.layer}.weight"].flatten(1).any(1).to(flat.values.device)
                    parameter = flat.view(flat.values, name)
                    parameter.mul_(kept.view(-1, *[1] * (parameter.ndim - 1)))

"""Filters by L1 norm: Li, Kadav, Durdanovic, Samet, Graf, "Pruning filters for efficient ConvNets", ICLR 2017.

Of the trained net, the filters (units) with the smallest sum of absolute incoming weights leave.
"""

from torch import Tensor

from sharpminima.pruning.structured.unit_scores import UnitScores
from sharpminima.training import FlatModel


class Filters(UnitScores):
    """Trains without a penalty; scores by the L1 norm."""

    def scores(self, flat: FlatModel) -> dict[str, Tensor]:
        """Sum of each unit's absolute incoming weights [count], by layer."""
        return {layer: weight.abs().sum(1) for layer, weight in self.incoming(flat).items()}

"""Filters by L1 norm: Li, Kadav, Durdanovic, Samet, Graf, "Pruning filters for efficient ConvNets", ICLR 2017.

Of the trained net, the filters (units) with the smallest sum of absolute incoming weights leave. Where residual
additions join filters of several layers, the sum is over all of them; the authors let the shortcut's filters decide.
"""

from torch import Tensor

from sharpminima.pruning.structured.unit_scores import UnitScores
from sharpminima.training import FlatModel


class Filters(UnitScores):
    """Trains without a penalty; scores by the L1 norm."""

    def scores(self, flat: FlatModel) -> dict[str, Tensor]:
        """Sum of each unit's absolute incoming weights [count], by group."""
        return {group: weight.abs().sum(1) for group, weight in self.incoming(flat).items()}

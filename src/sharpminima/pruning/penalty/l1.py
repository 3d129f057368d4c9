"""L1: lambda sum |w| beside the loss, then the smallest weights leave.

Its gradient is lambda sign(w); Tibshirani, "Regression shrinkage and selection via the lasso", 1996.
"""

from torch import Tensor

from sharpminima.pruning.penalty.penalised import Penalised
from sharpminima.training import FlatModel


class Lasso(Penalised):
    """Adds lambda sign(w)."""

    def before_step(self, flat: FlatModel, images: Tensor, labels: Tensor) -> None:
        """Add lambda sign(w) to the gradients of the weights that may be removed."""
        flat.gradients.addcmul_(flat.values.sign(), self.penalised, value=self.settings.strength)

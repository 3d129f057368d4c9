"""L1: lambda sum |w| beside the loss, then the smallest weights leave.

Its gradient is lambda sign(w); Tibshirani, "Regression shrinkage and selection via the lasso", 1996.

The penalty alone is the source's, for linear regression, where it makes coefficients exactly zero. A step of SGD along
its gradient does not: a weight swings about 0 by the rate times lambda. So the rest is ours: what is smallest over all
layers leaves at the end, in the number asked for; biases have no penalty; the strength; the training that follows.
"""

from torch import Tensor

from sharpminima.pruning.penalty.penalised import Penalised
from sharpminima.training import FlatModel


class Lasso(Penalised):
    """Adds lambda sign(w)."""

    def before_step(self, flat: FlatModel, images: Tensor, labels: Tensor) -> None:
        """Add lambda sign(w) to the gradients of the weights that may be removed."""
        flat.gradients.addcmul_(flat.values.sign(), self.penalised, value=self.settings.strength)

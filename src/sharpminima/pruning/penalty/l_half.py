"""The L1/2 penalty: Chang, Sha, "Prune deep neural networks with the modified L1/2 penalty", IEEE Access 2019.

Beside the loss stands lambda sum |w|^(1/2), which leaves large weights nearly alone and pulls small ones more the
smaller they are; then the smallest leave. The paper's penalty is modified at 0, where the root has no derivative. How,
we could not establish; ours is lambda sum (|w| + epsilon)^(1/2), whose gradient lambda / 2 sign(w) (|w| +
epsilon)^(-1/2) is at most lambda / (2 epsilon^(1/2)). Strength and epsilon are ours, to be tuned.
"""

import torch
from torch import Tensor

from sharpminima.pruning.penalty.penalised import Penalised
from sharpminima.training import FlatModel


class HalfPower(Penalised):
    """Adds the gradient of the smoothed root."""

    @torch.no_grad()
    def before_step(self, flat: FlatModel, images: Tensor, labels: Tensor) -> None:
        """Add lambda / 2 sign(w) (|w| + epsilon)^(-1/2) to the gradients of the weights that may be removed."""
        pull = flat.values.abs().add_(self.settings.epsilon).rsqrt_().mul_(flat.values.sign())
        flat.gradients.addcmul_(pull, self.penalised, value=self.settings.strength / 2)

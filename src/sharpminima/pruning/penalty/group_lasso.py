"""SSL, structured sparsity learning by group lasso.

Wen, Wu, Wang, Chen, Li, "Learning structured sparsity in deep neural networks", NeurIPS 2016: beside the loss stands
lambda times the sum of the L2 norms of groups, here of each unit's incoming weights (filter-wise) and of all weights
that read an input (channel-wise). The gradient of a norm is w / ||w||.

The authors' are the penalty and both kinds of groups; they have a strength for each, groups of shapes and of whole
layers too, and remove what became zero. Ours: one strength, whatever the size of a group; from W0; linear layers as
convolutions; and units leave by the norm of their incoming weights, down to the level, with a share that each layer
keeps (`floor`).
"""

import torch
from torch import Tensor

from sharpminima.pruning.penalty.penalised import Penalised
from sharpminima.training import FlatModel


class GroupLasso(Penalised):
    """Adds the gradient of the norms."""

    @torch.no_grad()
    def before_step(self, flat: FlatModel, images: Tensor, labels: Tensor) -> None:
        """Rows are units, columns are inputs."""
        for name in self.names:
            weight, gradient = flat.view(flat.values, name), flat.view(flat.gradients, name)
            for group in (0, 1):
                others = [axis for axis in range(weight.ndim) if axis != group]
                norms = torch.linalg.vector_norm(weight, dim=others, keepdim=True)
                gradient.add_(torch.where(norms > 0, weight / norms, 0.0), alpha=self.settings.strength)

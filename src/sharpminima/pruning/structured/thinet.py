"""ThiNet: Luo, Wu, Lin, "ThiNet: a filter level pruning method for deep neural network compression", ICCV 2017.

What a unit is worth is seen in the next layer: of its input sums, the part that the unit gives. With T what leaves, it
is chosen greedily, one unit after another, so that the sum over T of those parts is least in the square; then each unit
that stays has its weights in the next layer scaled, by least squares, to give back what is missing.

The choice is as in the authors' code, which takes sums at ten random places of an image, where ours takes all, of all
outputs; so is the scale a unit. Each layer has its share of the search to train on,
one or two epochs in the paper.
"""

import torch
from torch import Tensor, nn

from sharpminima.nets.compaction import Units
from sharpminima.pruning.engine.activations import contributions
from sharpminima.pruning.engine.ranking import refuse_nan
from sharpminima.pruning.engine.total import total
from sharpminima.pruning.structured.layer_by_layer import LayerByLayer


def removed_greedily(products: Tensor, number: int) -> Tensor:
    """``number`` units that give least together, one after another: bool [units], of their inner products.

    >>> a = torch.tensor([[1.0, 0.0], [-1.0, 0.1], [0.9, 0.0]])  # the first two nearly cancel, the last is the least
    >>> removed_greedily(a @ a.T, 2)
    tensor([False,  True,  True])
    """
    removed = torch.zeros(len(products), dtype=torch.bool, device=products.device)
    for _ in range(number):
        growth = products.diagonal() + 2 * products[:, removed].sum(1)
        removed[growth.masked_fill(removed, torch.inf).argmin()] = True
    return removed


class ThiNet(LayerByLayer):
    """Chooses greedily, and scales what stays."""

    @torch.no_grad()
    def chosen(self, model: nn.Module, group: Units, left: int) -> Tensor:
        """What is not removed greedily; the weights that read it are scaled."""
        read = self.reading(model, group)
        products = total(contributions(*parts) for parts in read.values()).cpu()
        refuse_nan(group.name, products)
        keep = ~removed_greedily(products, group.count - left)
        scale = torch.linalg.lstsq(
            products[keep][:, keep], products[keep].sum(1, keepdim=True), driver="gelsd"
        ).solution
        for name, (_, _, columns) in read.items():
            weight = model.get_parameter(f"{name}.weight")
            factors = torch.ones(weight[0].numel(), dtype=torch.float64, device=weight.device)
            factors[columns[keep.to(columns.device)]] = scale.to(factors.device)
            weight.mul_(factors.view(weight[0].shape))
        return keep

"""Channels by lasso: He, Zhang, Sun, "Channel pruning for accelerating very deep neural networks", ICCV 2017.

Y are the sums of a layer in the whole net, less the bias that it has by now, X_i what channel i gives it in the net as
it is pruned so far. Of

    || Y - sum_i beta_i X_i W_i^T ||^2 + lambda ||beta||_1

lambda is bisected until no more than the number of channels asked for have beta_i > 0 or < 0; then the weights of
those are set by least squares, min || Y - sum_i X_i W_i^T ||^2.

As in the paper, whose code solves the lasso with scikit-learn, as ours does. Ours: both are solved from sums over all
rows, the least squares with a slight pull to the weights as they are; where the path of lambda jumps over the number
asked for, the channels that are missing are those with the largest beta at the next lambda; layers that residual
additions join choose by the sum over all that read them; and the net trains on after each layer, which the paper's
does at the end.
"""

import torch
from torch import Tensor, nn

from sharpminima.nets.compaction import Units
from sharpminima.pruning.engine.activations import contributions, ridge_solution, rows_at
from sharpminima.pruning.engine.ranking import refuse_nan
from sharpminima.pruning.engine.total import total
from sharpminima.pruning.structured.layer_by_layer import LayerByLayer

_HALVINGS = 30


def chosen_by_lasso(products: Tensor, target: Tensor, left: int) -> Tensor:
    """The channels of a lasso with ``left`` of them: bool [channels].

    Args:
        products: inner products of what channels give [channels, channels].
        target: of what they give with what is to be rebuilt [channels].

    >>> chosen_by_lasso(torch.diag(torch.tensor([1.0, 4.0, 9.0])).double(), torch.tensor([1.0, 4.0, 0.1]).double(), 2)
    tensor([ True,  True, False])
    """
    if not target.any():  # nothing to rebuild, or nothing to do it with
        return _largest(products.diagonal(), left)

    from sklearn.linear_model import Lasso  # half a second of imports, needed here only

    values, vectors = torch.linalg.eigh(products)
    there = values > values.max() * 1e-12
    roots = values[there].sqrt()
    x = (roots[:, None] * vectors[:, there].T).cpu().numpy()
    y = (vectors[:, there].T @ target / roots).cpu().numpy()

    def solved(strength: float) -> Tensor:
        beta = Lasso(alpha=strength, fit_intercept=False, max_iter=10_000, tol=1e-6).fit(x, y).coef_
        return torch.from_numpy(beta).abs().to(products.device)

    low, high = 0.0, float(target.abs().max()) / len(x)  # at which all beta are 0
    most = solved(high / 2**_HALVINGS)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        beta = solved(middle)
        if int(beta.count_nonzero()) <= left:
            high = middle
            if int(beta.count_nonzero()) == left:
                most = beta
                break
        else:
            low, most = middle, beta
    return _largest(most, left)


def _largest(scores: Tensor, left: int) -> Tensor:
    """The ``left`` largest: bool, of the scores' shape."""
    keep = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    keep[scores.sort(descending=True, stable=True).indices[:left]] = True
    return keep


class LassoChannels(LayerByLayer):
    """Chooses by lasso, and sets the weights that read what stays by least squares."""

    @torch.no_grad()
    def chosen(self, model: nn.Module, group: Units, left: int) -> Tensor:
        """What the lasso leaves; the weights that read it are set anew."""
        read = self.reading(model, group)
        whole = rows_at(self.original, read, self.sample.images)
        missing = {}  # of a layer's sums, what these channels are to give [S, outputs]
        for name, (rows, weight, columns) in read.items():
            others = torch.ones(weight.shape[1], dtype=torch.bool, device=weight.device)
            others[columns] = False
            there = self.original.get_parameter(f"{name}.weight").detach().double().flatten(1)
            missing[name] = whole[name] @ there.T - rows[:, others] @ weight[:, others].T
            if model.get_submodule(name).bias is not None:
                bias, present = (net.get_parameter(f"{name}.bias").detach() for net in (self.original, model))
                missing[name] += bias.double() - present.double()
        products = total(contributions(*parts) for parts in read.values())
        refuse_nan(group.name, products)
        target = total(
            ((rows.T @ missing[name]) * weight.T).sum(1)[columns].sum(1)
            for name, (rows, weight, columns) in read.items()
        )
        keep = chosen_by_lasso(products, target, left)
        for name, (rows, weight, columns) in read.items():
            some = columns[keep].flatten()
            wanted = rows[:, some].T @ (missing[name] - rows[:, some] @ weight[:, some].T)
            weight[:, some] += ridge_solution(rows[:, some].T @ rows[:, some], wanted).T
            parameter = model.get_parameter(f"{name}.weight")
            parameter.copy_(weight.view(parameter.shape))
        return keep.cpu()

"""OBS, the optimal brain surgeon: Hassibi, Stork, "Second order derivatives for network pruning: optimal brain
surgeon", NeurIPS 1993 (1992).

Without a weight w_q the error grows by L_q = w_q^2 / (2 [H^-1]_qq), where the others move by
-w_q / [H^-1]_qq H^-1 e_q, which is the best that they can do: the weight of least L_q leaves, and they move. H is the
curvature of the error as in the paper, the mean outer product of what the outputs feel, with alpha on its diagonal;
the paper builds H^-1 from 1 / alpha I by an update an image, of which ours is the sum, solved at once.

Ours: the error is the cross-entropy, so that H is its Gauss-Newton matrix. It has a block for each unit, with the
incoming weights and the bias, since all of it does not fit nets of today: a weight's neighbours in its unit make up for
it, not those elsewhere. Weights leave in rounds and not one by one, those of a unit together: with S what leaves and K
what stays, w_K <- w_K + [H_KK]^-1 H_KS w_S, which for one weight is the paper's step. Then H is measured anew.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from sharpminima.catalogue.methods.scored import ObsSettings
from sharpminima.data import Split
from sharpminima.nets.masks import Masks, all_masks, count
from sharpminima.pruning.engine.criteria import draw_sample
from sharpminima.pruning.engine.curvature import UnitCurvature, cotangents
from sharpminima.pruning.engine.distribution import keep_best, survivors_at
from sharpminima.pruning.engine.method import Pruned, Run
from sharpminima.pruning.engine.schedule import survivor_counts
from sharpminima.pruning.scored.by_criterion import prune_by
from sharpminima.runtime.rng import generator


def inverse_diagonal(factor: Tensor, alpha: float) -> Tensor:
    """The diagonal [weights] of (J^T J + alpha I)^-1, of J [rows, weights].

    >>> inverse_diagonal(torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]], dtype=torch.float64), 1.0)
    tensor([0.5000, 0.2000], dtype=torch.float64)
    """
    rows, weights = factor.shape
    if weights <= rows:
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(_damped(factor.T @ factor, alpha)))
        return inverse.diagonal()
    lower = torch.linalg.cholesky(_damped(factor @ factor.T, alpha))
    return (1 - torch.linalg.solve_triangular(lower, factor, upper=False).square().sum(0)) / alpha


def made_up(staying: Tensor, leaving: Tensor, weights: Tensor, alpha: float) -> Tensor:
    """By how much those that stay move where others leave: [H_KK]^-1 H_KS w_S [K], H = J^T J + alpha I.

    Args:
        staying, leaving: J of each [rows, K] and [rows, S].
        weights: w_S [S].
    """
    missing = leaving @ weights
    if staying.shape[1] <= staying.shape[0]:
        lower = torch.linalg.cholesky(_damped(staying.T @ staying, alpha))
        return torch.cholesky_solve((staying.T @ missing)[:, None], lower)[:, 0]
    lower = torch.linalg.cholesky(_damped(staying @ staying.T, alpha))
    return staying.T @ torch.cholesky_solve(missing[:, None], lower)[:, 0]


def _damped(matrix: Tensor, alpha: float) -> Tensor:
    return matrix + alpha * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)


class Surgeon:
    """A net in one round: what its weights and biases are, of which some have left, and the curvature of its units.

    Args:
        model: changed in place by `operate`.
        masks: what has not left, of weights and perhaps of biases.
    """

    def __init__(self, model: nn.Module, masks: Masks, sample: Split, alpha: float) -> None:
        self._masks, self._alpha = masks, alpha
        self._parameters = dict(model.named_parameters())
        self._layers = list(dict.fromkeys(name.rpartition(".")[0] for name in masks))
        weights = {name: self._parameters[name].detach() for name in masks}
        inputs, by_class = cotangents(model, weights, sample)
        deltas = list(by_class)
        self._curvature = {
            name: UnitCurvature(model.get_submodule(name), inputs[name], [delta[name] for delta in deltas])
            for name in self._layers
        }

    def _joined(self, layer: str, tensors: Mapping[str, Tensor], otherwise: Tensor | None) -> Tensor:
        """A layer's weights and biases as [units, weights and bias], of ``tensors`` by name; ``otherwise`` a bias."""
        weight = tensors[f"{layer}.weight"].flatten(1)
        if f"{layer}.bias" not in self._parameters:
            return weight
        bias = tensors.get(f"{layer}.bias", otherwise)
        assert bias is not None  # parameters have theirs
        return torch.cat([weight, bias.expand(len(weight))[:, None]], dim=1)

    def _values(self, layer: str) -> Tensor:
        return self._joined(layer, self._parameters, None).detach().double()

    def _there(self, layer: str, masks: Masks) -> Tensor:
        """What has not left; biases without a mask never do."""
        return self._joined(layer, masks, torch.ones(1, dtype=torch.bool)).to(
            self._parameters[f"{layer}.weight"].device
        )

    def _apart(self, layer: str, joined: Tensor) -> dict[str, Tensor]:
        """`_joined` undone, by name."""
        weight = self._parameters[f"{layer}.weight"]
        parts = {f"{layer}.weight": joined[:, : weight[0].numel()].view(weight.shape)}
        return parts if f"{layer}.bias" not in self._parameters else parts | {f"{layer}.bias": joined[:, -1]}

    @torch.no_grad()
    def scores(self) -> dict[str, Tensor]:
        """L_q of what has not left, by name, of its parameter's shape (CPU); under all others what has."""
        scores: dict[str, Tensor] = {}
        for layer in self._layers:
            values, alive = self._values(layer), self._there(layer, self._masks)
            score = torch.full_like(values, -torch.inf)
            for unit, there in enumerate(alive):
                diagonal = inverse_diagonal(self._curvature[layer].factor(unit)[:, there], self._alpha)
                score[unit, there] = values[unit, there].square() / (2 * diagonal)
            scores |= {name: part.cpu() for name, part in self._apart(layer, score).items() if name in self._masks}
        return scores

    @torch.no_grad()
    def operate(self, kept: Masks) -> None:
        """Remove what ``kept`` does not keep, and move what stays in the same units."""
        for layer in self._layers:
            values, alive, stays = self._values(layer), self._there(layer, self._masks), self._there(layer, kept)
            for unit in (alive & ~stays).any(1).nonzero().flatten().tolist():
                staying, leaving = alive[unit] & stays[unit], alive[unit] & ~stays[unit]
                factor = self._curvature[layer].factor(unit)
                values[unit, staying] += made_up(
                    factor[:, staying], factor[:, leaving], values[unit, leaving], self._alpha
                )
                values[unit, leaving] = 0.0
            for name, part in self._apart(layer, values).items():
                self._parameters[name].copy_(part)


def operate(run: Run, settings: ObsSettings, model: nn.Module, level: float) -> Masks:
    """Remove down to the level in rounds, each on images of its own; ``model`` is changed, its masks are returned."""
    masks = all_masks(model, biases=settings.biases)
    _, size = count(masks)
    samples = generator(run.seed, "obs", "sample")
    for survivors in survivor_counts(settings.schedule, size, survivors_at(level, size), settings.rounds):
        sample = draw_sample(run.training, settings.samples_per_class, samples)
        surgeon = Surgeon(model, masks, sample, settings.alpha)
        kept = keep_best(surgeon.scores(), survivors, settings.distribution, masks)
        surgeon.operate(kept)
        masks = kept
    return masks


def prune(run: Run, settings: ObsSettings) -> Pruned:
    """Operate on the trained net, then train with what stays, for each level by itself."""
    return prune_by(run, settings, "obs", partial(operate, run, settings))

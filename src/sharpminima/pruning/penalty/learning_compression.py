"""Learning-compression: Carreira-Perpiñán, Idelbayev, "'Learning-compression' algorithms for neural net pruning", CVPR
2018.

The net w is to equal a sparse net theta of kappa weights: min L(w) with w = theta, ||theta||_0 <= kappa, by the
augmented Lagrangian with multipliers nu and a penalty mu that grows. From a trained net, rounds of two steps:

    L: SGD on L(w) + mu / 2 ||w - theta - nu / mu||^2
    C: theta = the kappa largest of w - nu / mu, the rest 0; then nu <- nu - mu (w - theta)

At the start theta is made of w itself, and nu is 0; after the last round the net is theta. kappa is the number asked
for, over all layers together unless `distribution` says otherwise.

As in the authors' code: mu is 9e-5 times 1.1 a round, 40 rounds of 20 epochs, the first of 40, lr .1 that falls by .98
a round, Nesterov's momentum of .9. Ours: rounds are shared out over the steps of the search, whose epochs are 40 unless
asked, and momentum is kept from round to round, where theirs begins anew.

LeNet-300 on MNIST by the published recipe: 1.42 % error at 5 % left; published: 2.18 at 5, lower. 3.39 % error at 1 %
left; published: 3.20 at 1, within 0.3 points.
"""

from typing import Any

import torch
from torch import Tensor

from sharpminima.catalogue.methods.penalty import LearningCompressionSettings
from sharpminima.nets.evaluation import Evaluation
from sharpminima.pruning.engine.distribution import keep_best, survivors_at
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.penalty.penalised import Penalised
from sharpminima.training import FlatModel


class Coupled(Penalised):
    """Pulls w to theta in each step, and makes theta anew after each round."""

    def __init__(self, run: Run, settings: LearningCompressionSettings, flat: FlatModel, level: float) -> None:
        super().__init__(run, settings, flat, level)
        self._rounds = 0  # done
        self._nu = torch.zeros_like(flat.values)
        self._theta = self._compressed(flat, flat.values.detach().clone())

    @property
    def mu(self) -> float:
        """The penalty of this round."""
        return float(self.settings.mu * self.settings.growth**self._rounds)

    def _compressed(self, flat: FlatModel, values: Tensor) -> Tensor:
        """A vector [P] of the kappa largest of ``values`` [P]; what may not be removed stays whole."""
        scores = {name: flat.view(values, name).abs() for name in self.names}
        survivors = survivors_at(self.level, sum(score.numel() for score in scores.values()))
        masks = keep_best(scores, survivors, self.settings.distribution)
        compressed = values.clone()
        for name, mask in masks.items():
            flat.view(compressed, name).mul_(mask.to(compressed.device))
        return compressed

    @torch.no_grad()
    def before_step(self, flat: FlatModel, images: Tensor, labels: Tensor) -> None:
        """Add mu (w - theta) - nu."""
        pull = (flat.values - self._theta).mul_(self.mu).sub_(self._nu)
        flat.gradients.addcmul_(pull, self.penalised)

    @torch.no_grad()
    def after_step(self, flat: FlatModel) -> None:
        """The C step, where a round ends; the net is theta after the last."""
        super().after_step(flat)
        mu, rounds = self.mu, self.settings.rounds
        ended = max(0, self.steps * (rounds + 1) // self.total_steps - 1)  # the first is twice as long
        if ended == self._rounds:
            return
        self._theta = self._compressed(flat, flat.values - self._nu / mu)
        self._nu.sub_((flat.values - self._theta).mul_(self.penalised), alpha=mu)
        self._rounds = ended
        if ended == rounds:
            flat.values.copy_(torch.where(self.penalised > 0, self._theta, flat.values))

    def after_epoch(self, flat: FlatModel, epoch: int, validation: Evaluation) -> None:
        """The coming epoch's rate is that of its round."""
        super().after_epoch(flat, epoch, validation)
        self.lr *= self.settings.lr_fall**self._rounds

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and JSON values; a resume file holds it."""
        return {**super().state(), "rounds": self._rounds, "theta": self._theta, "nu": self._nu}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, to the same bits."""
        super().restore(state)
        self._rounds = state["rounds"]
        self._theta.copy_(state["theta"])
        self._nu.copy_(state["nu"])

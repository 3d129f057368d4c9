"""L0 by hard concrete gates: Louizos, Welling, Kingma, "Learning sparse neural networks through L0 regularization",
ICLR 2018.

Each weight has a gate z = clip(s (zeta - gamma) + gamma, 0, 1), s = sigmoid((log u - log(1 - u) + log alpha) / beta)
with uniform u; beside the loss stands lambda / N times the sum of P(z != 0) = sigmoid(log alpha - beta log(-gamma /
zeta)), N the number of training images. The net that is tested has the gates clip(sigmoid(log alpha) (zeta - gamma) +
gamma, 0, 1), and what they close is removed. The strength is lambda.
"""

import math

import torch
from torch import Tensor

from sharpminima.catalogue.methods.mask_learning import L0Settings
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.engine.reparametrised import Learning, Reparametrised, learn
from sharpminima.pruning.engine.search import Found
from sharpminima.pruning.engine.total import total

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
_EDGE = 1e-6  # of u: the logarithms stay finite


class HardConcrete(Reparametrised):
    """The net with a hard concrete gate for each weight."""

    def __init__(self, run: Run, settings: L0Settings, strength: float) -> None:
        super().__init__(run, "l0")
        self._strength = strength / len(run.training.labels)
        for name in self.names:
            self.add(name, torch.full_like(self.base(name), math.log((1 - settings.drop) / settings.drop)))

    def gate(self, log_alpha: Tensor, draws: torch.Generator | None) -> Tensor:
        """z, without noise where there are no draws."""
        if draws is None:
            s = log_alpha.sigmoid()
        else:
            u = torch.rand(log_alpha.shape, generator=draws).clamp(_EDGE, 1 - _EDGE).to(log_alpha)
            s = ((u.log() - (1 - u).log() + log_alpha) / BETA).sigmoid()
        return (s * (ZETA - GAMMA) + GAMMA).clamp(0, 1)

    def weights(self) -> dict[str, Tensor]:
        """Gates, drawn in training mode and fixed in eval mode, times weights."""
        draws = self.noise() if self.training else None
        return {name: self.base(name) * self.gate(self.of(name), draws) for name in self.names}

    def penalty(self) -> Tensor:
        """lambda / N times the sum over all weights of the probability that the gate is open, P(z != 0) []."""
        shift = BETA * math.log(-GAMMA / ZETA)
        return self._strength * total((self.of(name) - shift).sigmoid().sum() for name in self.names)


def search(run: Run, strength: float, settings: L0Settings, resume: ResumeFile | None) -> Found:
    """Train weights and gates from W0."""
    net = HardConcrete(run, settings, strength)
    history = learn(run, net, settings, "l0", resume, Learning, rate=settings.rate)
    return Found(net.folded(), net.masks(), history)

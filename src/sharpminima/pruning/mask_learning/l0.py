"""L0 by hard concrete gates: Louizos, Welling, Kingma, "Learning sparse neural networks through L0 regularization",
ICLR 2018.

Each weight, or each unit, has a gate z = clip(s (zeta - gamma) + gamma, 0, 1), s = sigmoid((log u - log(1 - u) + log
alpha) / beta) with uniform u; beside the loss stands lambda / N times the sum over weights of P(z != 0) = sigmoid(log
alpha - beta log(-gamma / zeta)), N the number of training images. The net that is tested has the gates clip(sigmoid(log
alpha) (zeta - gamma) + gamma, 0, 1), and what they close is removed. The strength is lambda.

As in the authors' code gates move by Adam, log alpha starts with a spread of .01 and stays within log 1/100 and log
100, and the gates of the first layer are more open at first than the others. A unit there is an input of a linear layer
or a filter of a convolution. Ours: one draw of the gates a step (an option of theirs draws for each image), one lambda
for all layers, no mean over steps of the weights that are tested, and a gate a weight unless asked.

LeNet-300 on MNIST by the published recipe: 1.88 % error at 34.4 % left; published: 1.40 at 26, not reached.
"""

import math

import torch
from torch import Tensor

from sharpminima.catalogue.methods.mask_learning import L0Settings
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.engine.reparametrised import Learning, Reparametrised, by_adam, first_layer, learn
from sharpminima.pruning.engine.search import SearchResult
from sharpminima.pruning.engine.total import total
from sharpminima.runtime.rng import generator

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
LIMIT = math.log(100)  # of |log alpha|: gates stay where their gradients live
_SPREAD = 0.01  # of log alpha at the start
_EDGE = 1e-6  # of u: the logarithms stay finite


def gates_of(weight: Tensor, kind: str) -> Tensor:
    """One entry a gate, in a shape that broadcasts to the weights [out, in] or [out, in, height, width].

    >>> tuple(gates_of(torch.ones(3, 5), "unit").shape), tuple(gates_of(torch.ones(4, 2, 5, 5), "unit").shape)
    ((1, 5), (4, 1, 1, 1))
    """
    if kind == "weight":
        return torch.zeros_like(weight)
    return torch.zeros_like(weight[:1]) if weight.ndim == 2 else torch.zeros_like(weight[:, :1, :1, :1])


class HardConcrete(Reparametrised):
    """The net with a hard concrete gate for each weight or unit."""

    def __init__(self, run: Run, settings: L0Settings, strength: float) -> None:
        super().__init__(run, "l0")
        self._strength = strength / len(run.training.labels)
        draws = generator(run.seed, "l0", "gates")
        first = first_layer(run)
        for name in self.names:
            drop = settings.drop_input if name == f"{first}.weight" else settings.drop
            gates = gates_of(self.base(name), settings.gates)
            start = math.log((1 - drop) / drop) + _SPREAD * torch.randn(gates.shape, generator=draws)
            self.add(name, start.to(gates))

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
        weights = {name: self.base(name).numel() / self.of(name).numel() for name in self.names}  # a gate
        return self._strength * total(weights[n] * (self.of(n) - shift).sigmoid().sum() for n in self.names)


def search(run: Run, strength: float, settings: L0Settings, resume: ResumeFile | None) -> SearchResult:
    """Train weights and gates from W0."""
    net = HardConcrete(run, settings, strength)
    added = by_adam(settings, settings.gate_lr)
    history = learn(run, net, settings, "l0", resume, Learning, added=added, bounds=(-LIMIT, LIMIT))
    return SearchResult(net.folded(), net.masks(), history)

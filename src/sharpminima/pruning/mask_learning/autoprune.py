"""AutoPrune: Xiao, Wang, Rajasekaran, "AutoPrune: automatic network pruning by regularizing auxiliary parameters",
NeurIPS 2019.

Each weight w has an auxiliary parameter m, and acts as t = w h(m), h(m) = 1 where m > 0, else 0. The derivative of h is
that of a surrogate s, softplus or the leaky ReLU, and the size of w is left out of the gradient of m, so that it does
not depend on what m is to judge:

    dL/dm = dL/dt sign(w) s'(m) + mu s'(m),

the last term from a penalty mu sum h(m) beside the loss. The strength is mu.

The form is from general knowledge of the paper, not from its text. Ours: m starts at `start` and moves by SGD at a
multiple (`rate`) of the learning rate, on the mini-batch that the weights see too (the paper has two sets of images,
one for each); a weight that does not act has no gradient.
"""

from typing import Any

import torch
from torch import Tensor

from sharpminima.catalogue.methods.mask_learning import AutopruneSettings
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.engine.reparametrised import Learning, Reparametrised, by_sgd, learn
from sharpminima.pruning.engine.search import SearchResult
from sharpminima.pruning.engine.total import total

_LEAK = 0.01  # slope of the leaky ReLU below 0


class Gated(torch.autograd.Function):
    """w where m > 0, with the derivative of a surrogate for m."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, auxiliary: Tensor, surrogate: str) -> Tensor:
        """w h(m); ``surrogate``: ``softplus`` or ``leaky_relu``."""
        ctx.save_for_backward(weight, auxiliary)
        ctx.surrogate = surrogate
        return weight * (auxiliary > 0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        """The gradients of w and of m."""
        weight, auxiliary = ctx.saved_tensors
        open_ = auxiliary > 0
        slope = auxiliary.sigmoid() if ctx.surrogate == "softplus" else torch.where(open_, 1.0, _LEAK)
        return gradient * open_, gradient * weight.sign() * slope, None


class Indicated(Reparametrised):
    """The net with an auxiliary parameter for each weight."""

    def __init__(self, run: Run, settings: AutopruneSettings, strength: float) -> None:
        super().__init__(run, "autoprune")
        self._strength, self._surrogate = strength, settings.surrogate
        for name in self.names:
            self.add(name, torch.full_like(self.base(name), settings.start))

    def weights(self) -> dict[str, Tensor]:
        """Weights whose m is above 0."""
        return {name: Gated.apply(self.base(name), self.of(name), self._surrogate) for name in self.names}

    def penalty(self) -> Tensor:
        """mu times the number of weights that act []; its gradient is mu s'(m)."""
        ones = {name: torch.ones_like(self.of(name)) for name in self.names}
        return self._strength * total(Gated.apply(ones[n], self.of(n), self._surrogate).sum() for n in self.names)


def search(run: Run, strength: float, settings: AutopruneSettings, resume: ResumeFile | None) -> SearchResult:
    """Train weights and what says whether they act from W0."""
    net = Indicated(run, settings, strength)
    added = by_sgd(settings, settings.rate)
    history = learn(run, net, settings, "autoprune", resume, Learning, added=added)
    return SearchResult(net.folded(), net.masks(), history)

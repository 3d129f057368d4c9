"""Continuous sparsification: Savarese, Silva, Maire, "Winning the lottery with continuous sparsification",
NeurIPS 2020.

A weight acts as w sigmoid(beta s) / sigmoid(s0); beta grows from 1 to 200 exponentially in a round, so that the gate
hardens, and between rounds s <- min(beta s, s0). Beside the loss stands lambda times the sum of those gates, which
pulls what no image pulls below 0. What has s > 0 at the end stays. The strength is lambda; the authors keep it at 1e-8
and steer the sparsity by s0, a setting here.
"""

import torch
from torch import Tensor

from sharpminima.catalogue.methods.mask_learning import ContinuousSparsificationSettings
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.engine.reparametrised import Learning, Reparametrised, by_sgd, learn
from sharpminima.pruning.engine.search import SearchResult
from sharpminima.pruning.engine.total import total
from sharpminima.training import FlatModel


class Hardening(Reparametrised):
    """The net with a score s for each weight, all s0 at first, and gates sigmoid(beta s) that harden."""

    def __init__(self, run: Run, settings: ContinuousSparsificationSettings, strength: float) -> None:
        super().__init__(run, "continuous_sparsification")
        self._strength, self.settings = strength, settings
        steps = settings.epochs * -(-len(run.training.labels) // settings.batch_size)
        self.per_round = -(-steps // settings.rounds)
        for name in self.names:
            self.add(name, torch.full_like(self.base(name), settings.s0))

    @property
    def beta(self) -> float:
        """The gates' hardness at this step: 1 at the start of a round, the settings' ``beta`` at its end."""
        done = max(0, int(self.step) - 1) % self.per_round
        return self.settings.beta ** (done / max(1, self.per_round - 1))

    def weights(self) -> dict[str, Tensor]:
        """Soft gates times weights; in eval mode hard ones."""
        beta, start = self.beta, torch.tensor(self.settings.s0).sigmoid().item()
        gates = {n: (beta * self.of(n)).sigmoid() if self.training else self.of(n) > 0 for n in self.names}
        return {name: self.base(name) * gate / start for name, gate in gates.items()}

    def penalty(self) -> Tensor:
        """lambda times the sum over all weights of sigmoid(beta s) / sigmoid(s0) []; lambda is the strength."""
        start = torch.tensor(self.settings.s0).sigmoid().item()
        return self._strength / start * total((self.beta * self.of(name)).sigmoid().sum() for name in self.names)


class Rounds(Learning[Hardening]):
    """Softens the gates between rounds."""

    @torch.no_grad()
    def after_step(self, flat: FlatModel) -> None:
        """After the last step of a round that others follow, s <- min(beta s, s0)."""
        super().after_step(flat)
        net = self.net(flat)
        if self.steps % net.per_round == 0 and self.steps < self.total_steps:
            for name in net.names:
                net.of(name).mul_(net.settings.beta).clamp_(max=net.settings.s0)


def search(
    run: Run, strength: float, settings: ContinuousSparsificationSettings, resume: ResumeFile | None
) -> SearchResult:
    """Train weights and scores from W0."""
    net = Hardening(run, settings, strength)
    added = by_sgd(settings, settings.rate)
    history = learn(run, net, settings, "continuous_sparsification", resume, Rounds, added=added)
    return SearchResult(net.folded(), net.masks(), history)

"""Continuous sparsification: Savarese, Silva, Maire, "Winning the lottery with continuous sparsification",
NeurIPS 2020.

A weight acts as w sigmoid(beta s) / sigmoid(s0); beta grows from 1 to 200 exponentially in a round, so that the gate
hardens, and between rounds s <- min(beta s, s0). Beside the loss stands lambda times the sum of sigmoid(beta s). What
has s > 0 at the end stays. The strength is lambda.
"""

from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from sharpminima.pruning.method import Method, Run
from sharpminima.pruning.penalty import Strength
from sharpminima.pruning.reparametrised import Learning, Reparametrised, learn
from sharpminima.pruning.search import SweepSettings, prune_by_sweep
from sharpminima.resume import ResumeFile
from sharpminima.settings import PositiveInt
from sharpminima.training import FlatModel


class ContinuousSparsificationSettings(SweepSettings):
    """beta as in the authors' code, whose lambda is 1e-8; our strengths and rate are to be tuned."""

    strengths: tuple[Strength, ...] = (1e-8, 1e-6, 1e-5)
    rate: Strength = Field(10.0, description="of the scores, times lr")
    s0: float = Field(0.0, description="score at the start")
    beta: Strength = Field(200.0, description="at the end of a round")
    rounds: PositiveInt = Field(1, description="that share the epochs")


class Hardening(Reparametrised):
    """A score a weight."""

    def __init__(self, run: Run, settings: ContinuousSparsificationSettings, strength: float) -> None:
        super().__init__(run, "continuous_sparsification")
        self._strength, self.settings = strength, settings
        steps = settings.epochs * -(-len(run.training.labels) // settings.batch_size)
        self.per_round = -(-steps // settings.rounds)
        for name in self.names:
            self.add(name, torch.full_like(self.base(name), settings.s0))

    @property
    def beta(self) -> float:
        """Now."""
        done = max(0, int(self.step) - 1) % self.per_round
        return self.settings.beta ** (done / max(1, self.per_round - 1))

    def weights(self) -> dict[str, Tensor]:
        """Soft gates times weights; in eval mode hard ones."""
        beta, start = self.beta, torch.tensor(self.settings.s0).sigmoid().item()
        gates = {n: (beta * self.of(n)).sigmoid() if self.training else self.of(n) > 0 for n in self.names}
        return {name: self.base(name) * gate / start for name, gate in gates.items()}

    def penalty(self) -> Tensor:
        """lambda sum sigmoid(beta s)."""
        return self._strength * sum((self.beta * self.of(name)).sigmoid().sum() for name in self.names)


class Rounds(Learning):
    """Softens the gates between rounds."""

    @torch.no_grad()
    def after_step(self, flat: FlatModel) -> None:
        """After the last step of a round that others follow, s <- min(beta s, s0)."""
        super().after_step(flat)
        net = flat.model
        if self.steps % net.per_round == 0 and self.steps < self.total_steps:
            for name in net.names:
                net.of(name).mul_(net.settings.beta).clamp_(max=net.settings.s0)


def search(
    run: Run, strength: float, settings: ContinuousSparsificationSettings, resume: ResumeFile | None
) -> dict[str, Any]:
    """Train weights and scores from W0."""
    net = Hardening(run, settings, strength)
    history = learn(run, net, settings, "continuous_sparsification", resume, Rounds, rate=settings.rate)
    return {"state": net.folded(), "masks": net.masks(), "history": history}


METHOD = Method(
    ContinuousSparsificationSettings,
    partial(prune_by_sweep, name="continuous_sparsification", search=search),
    "Savarese, Silva, Maire (2020)",
    "mask learning",
    "none",
)

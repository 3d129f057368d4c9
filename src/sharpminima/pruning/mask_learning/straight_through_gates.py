"""Gates by straight-through draws: Srinivas, Subramanya, Babu, "Training sparse neural networks", CVPR workshops 2017.

Each weight has a gate g in [0, 1], and acts in a step where a draw of Bernoulli(g) is 1; the gradient passes the draw
as if it were g. Beside the loss stands lambda_1 sum g (1 - g) + lambda_2 sum g: the first makes gates decide, the
second closes them. g is clipped to [0, 1] after each step.

The form is from general knowledge of the paper, not from its text. Ours: the net that is read out has the gates of at
least 1/2; gates start at 1, a dense net; they move by SGD at a multiple (`rate`) of the learning rate; lambda_1 is a
share (`deciding`) of lambda_2, which is the strength: below 1, since at g = 1 the first term pulls up.
"""

import torch
from torch import Tensor

from sharpminima.catalogue.methods.mask_learning import StraightThroughGatesSettings
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.engine.reparametrised import Learning, Reparametrised, by_sgd, learn
from sharpminima.pruning.engine.search import SearchResult
from sharpminima.pruning.engine.straight_through import StraightThrough
from sharpminima.pruning.engine.total import total


class DrawnGates(Reparametrised):
    """The net with a gate for each weight, all 1 at first."""

    def __init__(self, run: Run, settings: StraightThroughGatesSettings, strength: float) -> None:
        super().__init__(run, "straight_through_gates")
        self._close, self._decide = strength, settings.deciding * strength
        for name in self.names:
            self.add(name, torch.ones_like(self.base(name)))

    def weights(self) -> dict[str, Tensor]:
        """Weights where the draw, or in eval mode the gate, says so."""
        draws, acting = self.noise(), {}
        for name in self.names:
            gate = self.of(name)
            if self.training:  # draws are in [0, 1): a gate of 0 acts in none, one of 1 in all
                acts = gate.detach() > torch.rand(gate.shape, generator=draws).to(gate)
            else:
                acts = gate.detach() >= 0.5
            acting[name] = self.base(name) * StraightThrough.apply(gate, acts)
        return acting

    def penalty(self) -> Tensor:
        """lambda_1 sum g (1 - g) + lambda_2 sum g []."""
        gates = [self.of(name) for name in self.names]
        return total((self._decide * g * (1 - g) + self._close * g).sum() for g in gates)


def search(
    run: Run, strength: float, settings: StraightThroughGatesSettings, resume: ResumeFile | None
) -> SearchResult:
    """Train weights and gates from W0."""
    net = DrawnGates(run, settings, strength)
    added = by_sgd(settings, settings.rate)
    history = learn(run, net, settings, "straight_through_gates", resume, Learning, added=added, bounds=(0.0, 1.0))
    return SearchResult(net.folded(), net.masks(), history)

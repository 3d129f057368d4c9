"""Structured Bayesian pruning: Neklyudov, Molchanov, Ashukha, Vetrov, "Structured Bayesian pruning via log-normal
multiplicative noise", NeurIPS 2017.

From a trained net. Each unit is multiplied by noise theta, which is log-normal, truncated: log theta is normal with
mean mu and deviation sigma, within [-20, 0]. The prior is log-uniform in the same bounds. With a = (-20 - mu) / sigma,
b = (0 - mu) / sigma and Z = Phi(b) - Phi(a), beside the loss stands 1/N of the sum over units of

    KL = - log sigma - log Z - (a phi(a) - b phi(b)) / 2 Z + log 20 - log(2 pi e) / 2,

N the number of training images. Units whose signal-to-noise ratio, E theta / sqrt(Var theta), is at the `threshold` of
1 or below leave; what stays has the mean of its noise. The strength multiplies the KL.

As in the authors' code: mu starts at 0 and log sigma at -5, and all moves by Adam at 1e-3. Ours: noise acts where units
are read, behind bias and ReLU, where theirs acts on convolutions before their bias, so that without noise a bias would
be left of a unit; a filter has one with all positions of its map; the first mean of Adam is .9, theirs .95; the noise
is computed in float64, without their clip of its quantiles to 1e-5; mu and log sigma stay within [-10, 5], theirs
within [-20, 5], where float64 does not hold the moments; and the rate falls linearly from the start, theirs in the
second half of 200 epochs.
"""

import torch
from torch import Tensor

from sharpminima.catalogue.methods.mask_learning import StructuredBayesianSettings
from sharpminima.nets.compaction import Units
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.log_normal import TruncatedLogNormal
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.engine.reparametrised import Learning, by_adam, learn
from sharpminima.pruning.engine.search import SearchResult
from sharpminima.pruning.engine.straight_through import masked
from sharpminima.pruning.engine.total import total
from sharpminima.pruning.engine.unit_factors import NoisyUnits

LIMITS = (-10.0, 5.0)
"""Least and largest mu and log sigma."""


class LogNormalUnits(NoisyUnits):
    """The net with mu and log sigma of the noise on each unit."""

    def __init__(self, run: Run, settings: StructuredBayesianSettings, strength: float) -> None:
        super().__init__(run, "structured_bayesian", pixels=settings.pixels)
        self._scale, self._threshold = strength / len(run.training.labels), settings.threshold
        like = self.base(self.names[0])
        for group in self.groups:
            self.add(f"{group.name}.mu", like.new_zeros(group.count))
            self.add(f"{group.name}.log_sigma", like.new_full((group.count,), -5.0))

    def noise_of(self, group: Units) -> TruncatedLogNormal:
        """The distribution of its units' noise."""
        return TruncatedLogNormal(self.of(f"{group.name}.mu"), self.of(f"{group.name}.log_sigma"))

    def drawn(self, group: Units, images: int, draws: torch.Generator) -> Tensor:
        """theta for so many images [images, units]."""
        return self.noise_of(group).drawn(images, draws)

    def mean(self, group: Units) -> Tensor:
        """E theta of each unit."""
        return self.noise_of(group).mean()

    def margin(self, group: Units) -> Tensor:
        """By how much the signal-to-noise ratio is over the threshold."""
        return self.noise_of(group).signal_to_noise() - self._threshold

    def penalty(self) -> Tensor:
        """The strength times KL / N []."""
        return self._scale * total(self.noise_of(group).kl().sum() for group in self.groups)


def search(run: Run, strength: float, settings: StructuredBayesianSettings, resume: ResumeFile | None) -> SearchResult:
    """Train the net, which is trained already, with its noise; units that are mostly noise leave."""
    net = LogNormalUnits(run, settings, strength)
    added = by_adam(settings, settings.noise_lr)
    history = learn(run, net, settings, "structured_bayesian", resume, Learning, added=added, bounds=LIMITS)
    masks = net.masks()
    return SearchResult(masked(net.folded(), masks), masks, history)

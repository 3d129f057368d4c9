"""Supermask: Zhou, Lan, Liu, Yosinski, "Deconstructing lottery tickets: zeros, signs, and the supermask", NeurIPS 2019.

The weights stay at W0. Each has a score s; in a step it acts with probability sigmoid(s), and the gradient passes the
draw as if it were sigmoid(s). Weights are divided by the share that acts in their tensor (the paper's dynamic weight
rescaling; ours takes that share as a constant, theirs has a gradient through it). What acts more often than not, s > 0,
is the mask, as in the authors' code. Their scores start at a logit of 0, and the density is what comes out. Ours is
asked for: scores start at the logit of the density, and where more than that number have s > 0, the highest of all
layers stay. Fewer may: a weight that training never pulled up is no part of the mask, and filling up with such to the
number asked for ruins the net. W0 and biases are the net's own; the authors' best masks are over weights of one
magnitude a layer. No training follows unless a recipe is given.
"""

import math

import torch
from torch import Tensor

from sharpminima.catalogue.methods.mask_learning import SupermaskSettings
from sharpminima.nets.masks import count
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.distribution import keep_best, survivors_at
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.engine.reparametrised import Learning, Reparametrised, by_sgd, learn
from sharpminima.pruning.engine.search import SearchResult
from sharpminima.pruning.engine.straight_through import StraightThrough, masked, with_ties


class Bernoulli(Reparametrised):
    """The net with a score for each frozen weight, which acts with probability sigmoid(score)."""

    def __init__(self, run: Run, settings: SupermaskSettings, level: float) -> None:
        super().__init__(run, "supermask")
        sizes = {name: self.base(name).numel() for name in self.names}
        self._survivors = survivors_at(level, sum(sizes.values()))
        self._distribution = settings.distribution
        density = self._survivors / sum(sizes.values())
        for name in self.names:
            self.add(name, torch.full_like(self.base(name), math.log(density / max(1 - density, 1e-6))))

    def best_masks(self) -> dict[str, Tensor]:
        """Masks (CPU) of the scores above 0, the highest in the number asked for; of equal ones the larger weights'."""
        scores = {name: self.of(name).detach() for name in self.names}
        above = {name: (score > 0).cpu() for name, score in scores.items()}
        if count(above)[0] <= self._survivors:  # whatever share of its layer each would have
            return above
        ranked = with_ties(scores, {name: self.base(name) for name in self.names})
        best = keep_best(ranked, self._survivors, self._distribution)
        return {name: best[name] & mask for name, mask in above.items()}

    def weights(self) -> dict[str, Tensor]:
        """W0 where the draw, or in eval mode the score, says so, rescaled."""
        draws = self.noise()
        masks = None if self.training else self.best_masks()
        acting = {}
        for name in self.names:
            weight, chance = self.base(name), self.of(name).sigmoid()
            if masks is None:
                mask = torch.rand(weight.shape, generator=draws).to(weight) < chance
            else:
                mask = masks[name].to(weight.device)
            share = mask.to(weight.dtype).mean().clamp(min=1 / mask.numel())
            acting[name] = weight / share * StraightThrough.apply(chance, mask)
        return acting


def search(run: Run, level: float, settings: SupermaskSettings, resume: ResumeFile | None) -> SearchResult:
    """Train the scores of frozen W0; the masks are the best of them, at most the number asked for."""
    net = Bernoulli(run, settings, level)
    added = by_sgd(settings, settings.rate)
    history = learn(run, net, settings, "supermask", resume, Learning, added=added, frozen=True)
    masks = net.best_masks()
    return SearchResult(masked(net.folded(), masks), masks, history)

"""Edge-popup: Ramanujan, Wortsman, Kembhavi, Farhadi, Rastegari, "What's hidden in a randomly weighted neural
network?", CVPR 2020.

The weights stay at W0. Each has a score; in every layer the share k with the highest scores acts, and the gradient
of the mask goes straight to the scores, whose rate falls by a cosine. Weights are divided by sqrt(k), which keeps the
variance of activations; k is the share that acts of the tensor itself, which is no other's where layers differ in it
(`distribution`, ours). The result is a part of the untrained net; no training follows unless a recipe is given.

W0 is the net's own, with its biases, which stay too. The authors have no biases, and draw weights as Kaiming normals
or, their best, as signed constants; theirs decay scores and give them momentum (`added_momentum`,
`added_weight_decay`). The best scores act in training too, so that what no image ever pulled is read out as it acted.
"""

import math

import torch
from torch import Tensor

from sharpminima.catalogue.methods.mask_learning import EdgePopupSettings
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.distribution import keep_best, survivors_at
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.engine.reparametrised import Learning, Reparametrised, by_sgd, learn
from sharpminima.pruning.engine.search import SearchResult
from sharpminima.pruning.engine.straight_through import StraightThrough, masked
from sharpminima.runtime.rng import generator


class Popup(Reparametrised):
    """The net with a score for each frozen weight; the best by magnitude act, rescaled by 1 / sqrt(k)."""

    def __init__(self, run: Run, settings: EdgePopupSettings, level: float) -> None:
        super().__init__(run, "edge_popup")
        sizes = {name: self.base(name).numel() for name in self.names}
        self._survivors = survivors_at(level, sum(sizes.values()))
        self._distribution = settings.distribution
        draws = generator(run.seed, "edge_popup", "scores")
        for name in self.names:
            weight = self.base(name)
            bound = math.sqrt(1 / (weight.numel() / weight.shape[0]))  # PyTorch's own for weights
            self.add(name, ((2 * torch.rand(weight.shape, generator=draws) - 1) * bound).to(weight))

    def best_masks(self) -> dict[str, Tensor]:
        """Masks (CPU) of the scores of largest magnitude, in the number asked for."""
        scores = {name: self.of(name).detach().abs() for name in self.names}
        return keep_best(scores, self._survivors, self._distribution)

    def weights(self) -> dict[str, Tensor]:
        """W0 where scores are best, zero elsewhere, rescaled; the scores get the masks' gradients."""
        weights = {}
        for name, mask in self.best_masks().items():
            weight, acting = self.base(name), max(1, int(mask.sum()))
            acts = StraightThrough.apply(self.of(name).abs(), mask.to(weight.device))
            weights[name] = weight * (1 / math.sqrt(acting / mask.numel())) * acts
        return weights


def search(run: Run, level: float, settings: EdgePopupSettings, resume: ResumeFile | None) -> SearchResult:
    """Train the scores of frozen W0; the masks are the best of them in the number asked for."""
    net = Popup(run, settings, level)
    added = by_sgd(settings, settings.rate)
    history = learn(run, net, settings, "edge_popup", resume, Learning, added=added, frozen=True)
    masks = net.best_masks()
    return SearchResult(masked(net.folded(), masks), masks, history)

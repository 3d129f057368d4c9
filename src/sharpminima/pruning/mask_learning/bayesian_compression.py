"""Bayesian compression with the group normal-Jeffreys prior: Louizos, Ullrich, Welling, "Bayesian compression for deep
learning", NeurIPS 2017.

The weights that read a unit share a scale z, normal with mean mu and variance sigma^2, and each weight, and each bias,
is normal, too. z is drawn for each image, outputs by local reparametrisation. Beside the loss stands 1/N of

    sum of KL(q(z) || p(z)) over units + sum of (sigma_w^2 + w^2 - log sigma_w^2 - 1) / 2 over weights and biases,

where KL(q(z) || p(z)), of the improper prior p(z) = 1 / |z|, is that of dropout
(`sharpminima.pruning.engine.variational.dropout_kl`) with log alpha = log sigma^2 - log mu^2, and N the number of
training images. Units with log alpha at the `threshold` or above leave; what stays has the means, mu w. The strength
multiplies the divergences.

As in the authors' code: Adam at 1e-3 for all; mu starts at 1, and log variances at -9, with a spread of .01; variances
of the first layer are .04 at most; a pixel that a linear layer reads is a unit. Their thresholds, -2.8, -3 and -5 by
layer, were read off histograms; ours is one for all. A unit here is a filter with all positions of its map, where their
linear layer behind a map has a z for each position, and is scaled where it is read, behind its ReLU, where they scale
convolutions before it: the same for z > 0 without a BatchNorm. The divergence of weights is the paper's; their
convolutions take log sigma_w^2 for log sigma_w there. Weights start as all our nets do, and batches are of 100.

LeNet-300 on MNIST by the published recipe: 1.99 % error at 10.9 % left; published: 1.80 at 10.8, within 0.3 points.
"""

import math
from functools import partial

import torch
from torch import Tensor, nn

from sharpminima.catalogue.methods.mask_learning import BayesianCompressionSettings
from sharpminima.nets.compaction import Units
from sharpminima.nets.masks import all_masks
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.engine.reparametrised import Learning, by_adam, first_layer, learn
from sharpminima.pruning.engine.search import SearchResult
from sharpminima.pruning.engine.straight_through import masked
from sharpminima.pruning.engine.total import total
from sharpminima.pruning.engine.unit_factors import NoisyUnits
from sharpminima.pruning.engine.variational import TINY, drawn_output, dropout_kl
from sharpminima.runtime.rng import generator
from sharpminima.training import FlatModel

_START, _SPREAD = -9.0, 0.01  # of log variances


class Scaled(NoisyUnits):
    """The net with mu and log sigma^2 of a scale for each unit, and log sigma^2 of each weight and bias."""

    def __init__(self, run: Run, settings: BayesianCompressionSettings, strength: float) -> None:
        super().__init__(run, "bayesian_compression", pixels=settings.pixels)
        self._scale, self._threshold = strength / len(run.training.labels), settings.threshold
        self.first = first_layer(run)
        draws = generator(run.seed, "bayesian_compression", "start")
        like = self.base(self.names[0])

        def around(mean: float, *shape: int) -> Tensor:
            return (mean + _SPREAD * torch.randn(shape, generator=draws)).to(like)

        for group in self.groups:
            self.add(f"{group.name}.mean", around(1.0, group.count))
            self.add(f"{group.name}.log_variance", around(_START, group.count))
        self.random = list(all_masks(self.model, biases=True))  # weights and biases
        for name in self.random:
            self.add(name, around(_START, *self.base(name).shape))
        for name in self.names:
            layer = name.rpartition(".")[0]
            self.model.get_submodule(layer).register_forward_hook(partial(self._sampled, layer))

    def log_alpha(self, group: Units) -> Tensor:
        """log sigma^2 - log mu^2 of each unit."""
        return self.of(f"{group.name}.log_variance") - (self.mean(group).square() + TINY).log()

    def drawn(self, group: Units, images: int, draws: torch.Generator) -> Tensor:
        """z for so many images [images, units]."""
        mean = self.mean(group)
        noise = torch.randn(images, group.count, generator=draws).to(mean)
        return mean + (self.of(f"{group.name}.log_variance") / 2).exp() * noise

    def mean(self, group: Units) -> Tensor:
        """mu of each unit."""
        return self.of(f"{group.name}.mean")

    def margin(self, group: Units) -> Tensor:
        """By how much log alpha is under the threshold."""
        return self._threshold - self.log_alpha(group)

    def _sampled(self, name: str, layer: nn.Linear | nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        """The output of the layer ``name`` as a draw from its distribution, given what it takes."""
        if not self.training:
            return output
        bias = None if layer.bias is None else self.of(f"{name}.bias").exp()
        return drawn_output(layer, inputs[0], output, self.of(f"{name}.weight").exp(), self._draws, bias)

    def penalty(self) -> Tensor:
        """The strength times all divergences over N []."""
        scales = total(dropout_kl(self.log_alpha(group)).sum() for group in self.groups)
        weights = total(
            (self.of(name).exp() + self.base(name).square() - self.of(name) - 1).sum() / 2 for name in self.random
        )
        return self._scale * (scales + weights)


class Limited(Learning[Scaled]):
    """Keeps the variances of the first layer at most at .04."""

    @torch.no_grad()
    def after_step(self, flat: FlatModel) -> None:
        """Clip them."""
        super().after_step(flat)
        net = self.net(flat)
        for name in net.random:
            if name.rpartition(".")[0] == net.first:
                net.of(name).clamp_(max=math.log(0.04))


def search(run: Run, strength: float, settings: BayesianCompressionSettings, resume: ResumeFile | None) -> SearchResult:
    """Train means and variances from W0; units whose scale is mostly noise leave."""
    net = Scaled(run, settings, strength)
    added = by_adam(settings, settings.noise_lr)
    history = learn(run, net, settings, "bayesian_compression", resume, Limited, added=added)
    masks = net.masks()
    return SearchResult(masked(net.folded(), masks), masks, history)

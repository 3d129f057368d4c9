"""Soft weight sharing: Ullrich, Meeds, Welling, "Soft weight-sharing for neural network compression", ICLR 2017;
Nowlan, Hinton, "Simplifying neural networks by soft weight-sharing", Neural Computation 1992.

The weights w of a trained net get a prior that is trained with them: a mixture of 16 Gaussians, of which one stays at 0
with a share of .99. Beside the loss stands tau / N times

    - sum log p(w) - log of the Gamma priors of the precisions 1 / sigma^2,

N the number of training images. Weights gather at the means. At the end components that are the same (a divergence
under 1e-10) become one, and each weight is set to the mean of the component that is most likely to have made it; those
at 0 are removed. The strength is tau.

As in the authors' code: means from -.6 to .6 and sigma .25 at the start, Gamma(5e3, 2) for the component at 0 and
Gamma(250, .1) for the others, by shape and rate; Adam at 5e-4 for weights, 1e-4 for means, 3e-3 for the logarithms of
precisions, which is 1.5e-3 for log sigma, and for the logits of the shares; tau .003. Ours: biases are not in the
mixture; components that are the same are merged once, to their mean weighted by shares; and where a recipe follows, it
moves the weights off the means again: `recipe: null` keeps them there.

Adam's steps do not depend on tau: sigma needs some 1,700 of them from .25 to .02, where the priors have it. A search
that ends before leaves no component but the one at 0, since that is as wide as all weights.

LeNet-300 on MNIST by the published recipe: 2.10 % error at 4.7 % left; published: 1.94 at 4.35, within 0.3 points.
"""

import math

import torch
from torch import Tensor

from sharpminima.catalogue.methods.penalty import SoftWeightSharingSettings
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.engine.mixture import merged, surprise
from sharpminima.pruning.engine.reparametrised import Learning, Reparametrised, learn
from sharpminima.pruning.engine.search import SearchResult
from sharpminima.pruning.engine.straight_through import masked
from sharpminima.training import FlatModel, Group

_MEANS, _SIGMA = 0.6, 0.25  # at the start: from -.6 to .6
_ZERO, _OTHERS = (5e3, 2.0), (250.0, 0.1)  # shape and rate of the priors of precisions


class Mixture(Reparametrised):
    """The net, and beside it the mixture that is the prior of its weights.

    What is added: ``means`` [K - 1], ``log_sigma`` [K] and ``logits`` [K - 1] of the shares, the first of all K being
    the component at 0.
    """

    def __init__(self, run: Run, settings: SoftWeightSharingSettings, strength: float) -> None:
        super().__init__(run, "soft_weight_sharing")
        self._scale = strength / len(run.training.labels)
        self._zero = settings.zero
        like = self.base(self.names[0])
        others = settings.components - 1
        self.add("means", torch.linspace(-_MEANS, _MEANS, others).to(like))
        self.add("log_sigma", torch.full((others + 1,), math.log(_SIGMA)).to(like))
        self.add("logits", torch.zeros(others).to(like))

    def weights(self) -> dict[str, Tensor]:
        """None but the net's own."""
        return {}

    def means(self) -> Tensor:
        """Of all components [K]."""
        means = self.of("means")
        return torch.cat([means.new_zeros(1), means])

    def log_shares(self) -> Tensor:
        """Logarithms of the shares of all components [K]."""
        logits = self.of("logits")
        rest = logits.log_softmax(0) + math.log1p(-self._zero)
        return torch.cat([logits.new_tensor([math.log(self._zero)]), rest])

    def log_likelihoods(self, values: Tensor) -> Tensor:
        """log of share times density, of each component for each value: [K, values]."""
        log_sigma = self.of("log_sigma")
        distance = (values - self.means()[:, None]) * (-log_sigma).exp()[:, None]
        constant = self.log_shares() - log_sigma - math.log(2 * math.pi) / 2
        return constant[:, None] - distance.square() / 2

    def penalty(self) -> Tensor:
        """tau / N times - log p(w) and - log of the priors of precisions []."""
        values = torch.cat([self.base(name).flatten() for name in self.names])
        log_sigma = self.of("log_sigma")
        loss = surprise(values, self.means(), log_sigma, self.log_shares())
        log_precision = -2 * log_sigma
        priors = log_precision.new_tensor([_ZERO, *[_OTHERS] * (len(log_precision) - 1)])
        shape, rate = priors.unbind(1)
        loss = loss - ((shape - 1) * log_precision - rate * log_precision.exp()).sum()
        return self._scale * loss

    @torch.no_grad()
    def snapped(self) -> dict[str, Tensor]:
        """The weights, each at the mean of its likeliest component, by name (CPU)."""
        shares, means = self.log_shares().exp(), self.means().clone()
        owner = merged(means, self.of("log_sigma"))
        for component in range(len(means)):
            same = owner == component
            if component and same.any():
                means[component] = (means[same] * shares[same]).sum() / shares[same].sum()
        snapped = {}
        for name in self.names:
            weight = self.base(name)
            likeliest = self.log_likelihoods(weight.flatten()).argmax(0)
            snapped[name] = means[owner[likeliest]].view(weight.shape).cpu()
        return snapped


class Sharing(Learning[Mixture]):
    """Adam for the weights and for the mixture, each part at its own rate."""

    def __init__(self, run: Run, settings: SoftWeightSharingSettings, flat: FlatModel) -> None:
        super().__init__(run, settings, flat)
        rates = {
            "means": settings.means_lr,
            "log_sigma": settings.mixture_lr / 2,  # of the logarithm of the precision, -2 log sigma
            "logits": settings.mixture_lr,
        }
        parts = [Group((f"added.{part}",), "adam", rate / settings.lr) for part, rate in rates.items()]
        self.update_groups = (self.own, *parts)


def search(run: Run, strength: float, settings: SoftWeightSharingSettings, resume: ResumeFile | None) -> SearchResult:
    """Train the net, which is trained already, with its mixture; then each weight is its component's mean."""
    net = Mixture(run, settings, strength)
    history = learn(run, net, settings, "soft_weight_sharing", resume, Sharing)
    values = net.snapped()
    masks = {name: value != 0 for name, value in values.items()}
    return SearchResult(masked({**net.folded(), **values}, masks), masks, history)

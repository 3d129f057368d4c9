"""Shift attention layers: Hacene, Lassance, Gripon, Courbariaux, Bengio, "Attention based pruning for shift networks",
ICPR 2020.

A convolution's weights w act as w softmax(T A / std A), a softmax over the positions of each kernel, where A, of the
weights' shape, is trained beside them. T grows exponentially, from step to step, until the softmax is all at one
position. That position stays: one weight a kernel, so that the layer is a shift of channels and a 1x1 convolution.

The form is from general knowledge of the paper, not from its text, and so is that std A is taken kernel by kernel.
Ours: where T begins and ends, A drawn as standard normals, its rate, and w that starts sqrt(positions) times as large
as W0, without which a layer of one weight a kernel gives too little and LeNet-5 does not learn. So is the way to a
level: after the search the smallest of what is left leave, of linear layers too, until as many weights survive as are
asked for, or fewer, where kernels have no more than their one. Kernels of 1x1 have one as it is.
"""

import torch
from torch import Tensor

from sharpminima.catalogue.methods.mask_learning import ShiftAttentionSettings
from sharpminima.nets.masks import Masks
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.distribution import keep_best, survivors_at
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.engine.reparametrised import Learning, Reparametrised, by_sgd, learn
from sharpminima.pruning.engine.search import SearchResult
from sharpminima.pruning.engine.straight_through import masked
from sharpminima.runtime.rng import generator

_LEAST_STD = 1e-12  # of an attention that is the same everywhere, which is left so


class Attending(Reparametrised):
    """The net with an attention over the positions of each kernel, ever sharper; in eval mode its highest alone."""

    def __init__(self, run: Run, settings: ShiftAttentionSettings) -> None:
        super().__init__(run, "shift_attention")
        self.settings = settings
        self._steps = settings.epochs * -(-len(run.training.labels) // settings.batch_size)
        self.attended = [name for name in self.names if self.base(name)[0, 0].numel() > 1]
        draws = generator(run.seed, "shift_attention", "attention")
        for name in self.attended:
            weight = self.base(name)
            self.add(name, torch.randn(weight.shape, generator=draws).to(weight))
            weight.data.mul_(weight[0, 0].numel() ** 0.5)

    @property
    def temperature(self) -> float:
        """T at this step: the settings' ``begin`` at the first, ``end`` at the last."""
        done = max(0, int(self.step) - 1) / max(1, self._steps - 1)
        return self.settings.begin * (self.settings.end / self.settings.begin) ** done

    def attention(self, name: str) -> Tensor:
        """What each weight acts with, of its shape: the sum over a kernel is 1."""
        a = self.of(name).flatten(2)
        if not self.training:
            highest = torch.zeros_like(a).scatter_(2, a.argmax(2, keepdim=True), 1.0)
            return highest.view_as(self.of(name))
        a = a / a.std(2, correction=0, keepdim=True).clamp_min(_LEAST_STD)
        return (self.temperature * a).softmax(2).view_as(self.of(name))

    def weights(self) -> dict[str, Tensor]:
        """Weights times attention."""
        return {name: self.base(name) * self.attention(name) for name in self.attended}

    @torch.no_grad()
    def kept(self, survivors: int, distribution: str) -> Masks:
        """Masks (CPU) of one weight a kernel, the largest, no more than ``survivors``."""
        was_training = self.training
        self.eval()
        there = {
            name: self.attention(name) > 0 if name in self.attended else torch.ones_like(self.base(name)).bool()
            for name in self.names
        }
        self.train(was_training)
        sizes = {name: self.base(name).abs().masked_fill(~there[name], -torch.inf) for name in self.names}
        return {name: mask & there[name].cpu() for name, mask in keep_best(sizes, survivors, distribution).items()}


def search(run: Run, level: float, settings: ShiftAttentionSettings, resume: ResumeFile | None) -> SearchResult:
    """Train weights and attention from W0; what it ends on stays, the largest of it."""
    net = Attending(run, settings)
    history = learn(run, net, settings, "shift_attention", resume, Learning, added=by_sgd(settings, settings.rate))
    size = sum(net.base(name).numel() for name in net.names)
    masks = net.kept(survivors_at(level, size), settings.distribution)
    return SearchResult(masked(net.folded(), masks), masks, history)

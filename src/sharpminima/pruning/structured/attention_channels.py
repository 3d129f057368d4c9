"""PCAS, channels by attention statistics: Yamamoto, Maeno, "PCAS: pruning channels with attention statistics for deep
network compression", 2018.

From a trained net. Attention networks learn with it by which factor each unit should be multiplied, image by image, as
in squeeze-and-excitation (Hu, Shen, Sun, CVPR 2018): with s [units] the means of the maps that are read,

    a(s) = sigmoid(W_2 relu(W_1 s + b_1) + b_2).

Then the mean of a over the training images ranks all units of the net together; the lowest leave, the attention goes,
and the net is trained on.

That there is such attention behind each convolution, and that its mean over the data decides, of all layers together,
is from general knowledge of the paper. Whether the net learns meanwhile, or stays as it is, could not be established:
`frozen` decides, and by default it learns: attention beside a frozen LeNet-300 ranked its units little better than
chance. On that net it ranks worse than L1 norms either way: most factors end near 1, where they say nothing of a unit's
size, and the layers' are not of one scale, so that the ranking of all together leaves the second no more than its
`floor`; `distribution: layerwise` does without that.

Ours: attention stands where units are read, behind BatchNorm and ReLU, and where several layers read them each has its
own, of which the mean counts; it learns by Adam; W_1 has a quarter of the units for rows (`reduction`), at least 4; W_1
and W_2 start uniform within one over the root of their inputs, and biases at 0.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from sharpminima.catalogue.methods.structured import AttentionChannelsSettings
from sharpminima.nets.compaction import Units
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.engine.reparametrised import Learning, by_adam, learn
from sharpminima.pruning.engine.search import SearchResult
from sharpminima.pruning.engine.straight_through import masked
from sharpminima.pruning.engine.unit_factors import UnitFactors, pooled
from sharpminima.pruning.engine.units import keep_best_units, units_of
from sharpminima.runtime.rng import generator

_LEAST = 4  # rows of W_1
_BATCH = 1000  # images of a pass over the data


class Attentive(UnitFactors):
    """The net with an attention network for each layer that reads units."""

    def __init__(self, run: Run, settings: AttentionChannelsSettings) -> None:
        super().__init__(run, "attention_channels", units_of(run.model))
        self._frozen = settings.frozen
        self._sums: dict[str, Tensor] | None = None  # of factors, while they are counted
        draws = generator(run.seed, "attention_channels", "start")
        like = self.base(self.names[0])

        def start(outputs: int, inputs: int) -> Tensor:
            return ((2 * torch.rand(outputs, inputs, generator=draws) - 1) / inputs**0.5).to(like)

        for group in self.groups:
            rows = max(_LEAST, group.count // settings.reduction)
            for reader in group.readers:
                of = f"{group.name}.{reader}"
                self.add(f"{of}.w1", start(rows, group.count))
                self.add(f"{of}.b1", like.new_zeros(rows))
                self.add(f"{of}.w2", start(group.count, rows))
                self.add(f"{of}.b2", like.new_zeros(group.count))
        self.train()

    def train(self, mode: bool = True) -> "Attentive":
        """A frozen net is in eval mode always: BatchNorm's statistics stay as they are, too."""
        super().train(mode)
        if self._frozen:
            self.model.eval()
        return self

    def weights(self) -> dict[str, Tensor]:
        """None but the net's own."""
        return {}

    def factors(self, group: Units, reader: str, features: Tensor) -> Tensor:
        """a of each image [N, units]."""
        of = f"{group.name}.{reader}"
        squeezed = pooled(features, group.readers[reader].to(features.device))
        hidden = F.linear(squeezed, self.of(f"{of}.w1"), self.of(f"{of}.b1")).relu()
        attention = F.linear(hidden, self.of(f"{of}.w2"), self.of(f"{of}.b2")).sigmoid()
        if self._sums is not None:
            self._sums[group.name] += attention.double().sum(0) / len(group.readers)
        return attention

    @torch.no_grad()
    def statistics(self, images: Tensor) -> dict[str, Tensor]:
        """Mean over ``images``, and over the layers that read it, of the attention to each unit [units], by group."""
        self._sums = {g.name: images.new_zeros(g.count, dtype=torch.float64) for g in self.groups}
        self.eval()
        for part in images.split(_BATCH):
            self(part)
        sums, self._sums = self._sums, None
        return {group: total / len(images) for group, total in sums.items()}


def search(run: Run, level: float, settings: AttentionChannelsSettings, resume: ResumeFile | None) -> SearchResult:
    """Train attention to the units of the net, which is trained already; those that get least leave."""
    net = Attentive(run, settings)
    added = by_adam(settings, settings.attention_lr)
    frozen = settings.frozen
    history = learn(run, net, settings, "attention_channels", resume, Learning, added=added, frozen=frozen)
    scores = net.statistics(run.training.images)
    masks = keep_best_units(run.model, scores, level, settings.distribution, settings.floor)
    return SearchResult(masked(net.folded(), masks), masks, history)

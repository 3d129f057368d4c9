"""Training optimal masks: Mikler, "Studying neural network pruning" (thesis, 2021).

The net is trained for 10 % of the steps; then its weights stay, and each has b: it acts where a draw c of
Bernoulli(sigmoid(b)) is 1, and b <- clip(b - alpha clip(dL/dc, -.1, .1), -15, 15). The highest b in the number asked
for stay, as the thesis has it, of equal ones those of the larger weights, and the training follows. The thesis says
that a penalty is usually needed and gives neither it nor the start of b, alpha or the length: ours are an L1 of
strength lambda on c, and settings to be tuned.
"""

import torch
from torch import Tensor

from sharpminima.catalogue.methods.mask_learning import OptimalMasksSettings
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.distribution import keep_best, survivors_at
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.engine.reparametrised import Learning, Reparametrised, by_sgd, learn
from sharpminima.pruning.engine.search import SearchResult
from sharpminima.pruning.engine.straight_through import StraightThrough, masked, with_ties
from sharpminima.training import FlatModel

_CLIP, _LIMIT = 0.1, 15.0  # of the gradient, of b


class Coins(Reparametrised):
    """The net with a b for each weight, which acts with probability sigmoid(b)."""

    def __init__(self, run: Run, settings: OptimalMasksSettings) -> None:
        super().__init__(run, "optimal_masks")
        steps = settings.epochs * -(-len(run.training.labels) // settings.batch_size)
        self.pretraining = round(settings.pretraining * steps)
        for name in self.names:
            self.add(name, torch.full_like(self.base(name), settings.start))

    def weights(self) -> dict[str, Tensor]:
        """All at first, then what is drawn; in eval mode what acts more often than not."""
        if int(self.step) <= self.pretraining:
            return {}
        draws, acting = self.noise(), {}
        for name in self.names:
            weight, b = self.base(name), self.of(name)
            chance = torch.rand(weight.shape, generator=draws).to(weight) if self.training else 0.5
            acting[name] = weight * StraightThrough.apply(b, b.detach().sigmoid() >= chance)
        return acting


class Tossing(Learning[Coins]):
    """Trains the weights for the first tenth of the steps, then b alone."""

    def __init__(self, run: Run, settings: OptimalMasksSettings, flat: FlatModel) -> None:
        added = by_sgd(settings, settings.alpha / settings.lr)
        super().__init__(run, settings, flat, added=added, bounds=(-_LIMIT, _LIMIT))
        self.settings = settings

    def before_step(self, flat: FlatModel, images: Tensor, labels: Tensor) -> None:
        """Freeze what is not trained at this step; add the penalty's gradient to those of b, and clip them."""
        net = self.net(flat)
        tossing = int(net.step) > net.pretraining
        self.own.frozen, self.added.frozen = tossing, not tossing
        if tossing:
            for name in self.added.names or ():
                flat.view(flat.gradients, name).add_(self.settings.strength).clamp_(-_CLIP, _CLIP)


def search(run: Run, level: float, settings: OptimalMasksSettings, resume: ResumeFile | None) -> SearchResult:
    """Pretrain, then train the masks."""
    net = Coins(run, settings)
    history = learn(run, net, settings, "optimal_masks", resume, Tossing)
    scores = {name: net.of(name).detach() for name in net.names}
    survivors = survivors_at(level, sum(score.numel() for score in scores.values()))
    weights = {name: net.base(name) for name in net.names}
    masks = keep_best(with_ties(scores, weights), survivors, settings.distribution)
    state = {name: tensor.detach().cpu() for name, tensor in net.model.state_dict().items()}
    return SearchResult(masked(state, masks), masks, history)

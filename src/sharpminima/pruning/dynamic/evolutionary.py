"""SET, sparse evolutionary training.

Mocanu et al., "Scalable training of artificial neural networks with adaptive sparse connectivity inspired by network
science", Nature Communications 2018: an Erdős-Rényi start; after each epoch 30 % of each layer leave, of its positive
weights the smallest and of its negative ones the largest, and as many places that were free come back at random. A
newcomer takes the value that W0 has there: a fresh draw from the layer's initialisation. The authors keep the output
layer dense; ours is as sparse as its share, since levels are of all weights.
"""

from torch import Tensor

from sharpminima.catalogue.methods.dynamic import SetSettings
from sharpminima.nets.masks import Masks
from sharpminima.pruning.dynamic.rewiring import Dynamic, drop_smallest, grow_best, room
from sharpminima.pruning.engine.method import Run
from sharpminima.training import FlatModel


class Evolving(Dynamic):
    """The same number of connections leaves and comes in each layer."""

    def __init__(self, run: Run, settings: SetSettings, flat: FlatModel, level: float, name: str) -> None:
        self._initial = flat.values.clone()
        super().__init__(run, settings, flat, level, name)

    def rewired(self, flat: FlatModel, masks: Masks) -> Masks:
        """Drop the share that is closest to zero of each sign, grow at random."""
        free, weights = room(masks), self.parts(flat, flat.values)
        positive = {name: mask & (weights[name] > 0) for name, mask in masks.items()}
        negative = {name: mask & ~positive[name] for name, mask in masks.items()}
        first, counts = {}, {}
        for name in masks:
            first[name] = min(free[name], int(self.settings.drop * int(positive[name].sum())))
            second = min(free[name] - first[name], int(self.settings.drop * int(negative[name].sum())))
            counts[name] = first[name] + second
        rest = {name: counts[name] - first[name] for name in masks}
        kept_positive, kept_negative = drop_smallest(weights, positive, first), drop_smallest(weights, negative, rest)
        kept = {name: kept_positive[name] | kept_negative[name] for name in masks}
        return grow_best(self.random_scores(masks), kept, masks, counts)

    def newcomers(self, flat: FlatModel, places: Masks) -> dict[str, tuple[Tensor, Tensor]]:
        """From W0."""
        initial = self.parts(flat, self._initial)
        return {name: (place, initial[name]) for name, place in places.items()}

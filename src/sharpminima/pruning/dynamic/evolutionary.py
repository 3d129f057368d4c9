"""SET, sparse evolutionary training.

Mocanu et al., "Scalable training of artificial neural networks with adaptive sparse connectivity inspired by network
science", Nature Communications 2018: an Erdős-Rényi start; after each epoch the smallest 30 % of each layer leave, and
as many places that were free come back at random. A newcomer takes the value that W0 has there: a fresh draw from the
layer's initialisation.
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
        """Drop the smallest, grow at random."""
        free = room(masks)
        counts = {name: min(free[name], int(self.settings.drop * int(mask.sum()))) for name, mask in masks.items()}
        kept = drop_smallest(self.parts(flat, flat.values), masks, counts)
        return grow_best(self.random_scores(masks), kept, masks, counts)

    def newcomers(self, flat: FlatModel, places: Masks) -> dict[str, tuple[Tensor, Tensor]]:
        """From W0."""
        initial = self.parts(flat, self._initial)
        return {name: (place, initial[name]) for name, place in places.items()}

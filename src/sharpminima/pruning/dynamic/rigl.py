"""RigL: Evci, Gale, Menick, Castro, Elsen, "Rigging the lottery: making all tickets winners", ICML 2020.

Every 100 steps, of each layer's connections the share alpha / 2 (1 + cos(pi t / T_end)) of least magnitude leaves, and
as many free places with the largest gradient of the loss come, with weight 0. Places that just left may come back,
as in the authors' code. T_end is 75 % of the search; an Erdős-Rényi kernel start.

All that is the authors', and alpha .3. Ours: numbers are rounded down, so that of few connections none leaves; a tensor
that the start would leave empty gets a connection; the step of a rewiring trains, too, where theirs is one without; and
after the search a training with the last masks follows.
"""

import math

from sharpminima.nets.masks import Masks
from sharpminima.pruning.dynamic.rewiring import Dynamic, drop_smallest, grow_best, room
from sharpminima.training import FlatModel


def cosine(share: float, step: int, end: int) -> float:
    """A share that falls from ``share`` at step 0 to 0 at step ``end``."""
    return share / 2 * (1 + math.cos(math.pi * min(step, end) / end))


class Rigging(Dynamic):
    """The same number of connections leaves and comes in each layer."""

    def rewired(self, flat: FlatModel, masks: Masks) -> Masks:
        """Drop the smallest, grow where the loss pulls most."""
        share, free = cosine(self.settings.drop, self.steps, self._last), room(masks)
        counts = {name: min(free[name], int(share * int(mask.sum()))) for name, mask in masks.items()}
        kept = drop_smallest(self.parts(flat, flat.values), masks, counts)
        assert flat.unmasked is not None  # of `search`
        pull = {name: gradient.abs() for name, gradient in self.parts(flat, flat.unmasked).items()}
        return grow_best(pull, kept, kept, counts)

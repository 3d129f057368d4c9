"""SWD, selective weight decay.

Tessier, Gripon, Léonardon, Arzel, Hannagan, Bertrand, "Rethinking weight decay for efficient neural network pruning",
2022: a mu / 2 sum w^2 over the weights that a magnitude pruning to the level would remove now, with a growing from
a_min to a_max exponentially. The step of this term is taken implicitly, w <- w / (1 + lr a mu): as an explicit
gradient it would diverge where lr a mu passes 2.
"""

import torch

from sharpminima.pruning.penalty.penalised import Penalised
from sharpminima.training import FlatModel


class SelectiveDecay(Penalised):
    """Shrinks what is to leave."""

    @torch.no_grad()
    def after_step(self, flat: FlatModel) -> None:
        """Decay all under the present threshold."""
        settings = self.settings
        growth = settings.a_min * (settings.a_max / settings.a_min) ** (self.steps / max(1, self.total_steps - 1))
        leaving = self.to_leave(flat, flat.values)
        flat.values.copy_(torch.where(leaving, flat.values / (1 + self.lr * growth * settings.mu), flat.values))
        super().after_step(flat)

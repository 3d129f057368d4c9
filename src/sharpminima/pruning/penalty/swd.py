"""SWD, selective weight decay.

Tessier, Gripon, Léonardon, Arzel, Hannagan, Bertrand, "Rethinking weight decay for efficient neural network pruning",
2022: a mu / 2 sum w^2 over the weights that a magnitude pruning to the level would remove now, with a growing from
a_min to a_max exponentially; mu is the net's weight decay. At the end those weights leave.

Ours is how the term's step is taken: implicitly, w <- w / (1 + lr a mu), after that of the loss. The authors add its
gradient to that of the loss, w <- w (1 - lr a mu), which is the same to first order in lr a mu, and diverges where that
passes 2: at our rate of .1 and their mu of 5e-4 before a is at their a_max of 1e5. An implicit step shrinks less than a
stable explicit one, and no momentum carries it on. Ours too: the usual decay of all weights is a setting of its own
(`weight_decay`), 0 unless asked, and a training with the masks follows.
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

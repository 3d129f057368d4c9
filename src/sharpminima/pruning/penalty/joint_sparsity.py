"""Joint sparsity: Choi, El-Khamy, Lee, "Compression of deep convolutional neural networks under joint sparsity
constraints", 2018; here of single weights, without the sparsity in the Winograd domain that the paper joins to it.

Beside the loss stands e^zeta / 2 sum w^2, over the share s of the weights that is smallest now, less alpha zeta. zeta
is trained with the net, and grows as those weights shrink, until they are nothing. s is the share to be removed.

The form is from general knowledge of the paper, not from its text. Ours: zeta starts at 0 and moves by SGD at the
learning rate; alpha is to be tuned; the net is trained from W0; and the penalty's step on the weights is taken
implicitly, w <- w / (1 + lr e^zeta), since as an explicit gradient it would diverge where lr e^zeta passes 2; and zeta
is 80 at most, at which nothing is left of a weight: where all are 0 it would grow for ever.
"""

import math
from typing import Any

import torch

from sharpminima.catalogue.methods.penalty import JointSparsitySettings
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.penalty.penalised import Penalised
from sharpminima.training import FlatModel

_MOST = 80.0  # zeta; float32 has its exponential


class TrainedDecay(Penalised):
    """Shrinks what is to leave, ever more."""

    def __init__(self, run: Run, settings: JointSparsitySettings, flat: FlatModel, level: float) -> None:
        super().__init__(run, settings, flat, level)
        self.zeta = 0.0

    @torch.no_grad()
    def after_step(self, flat: FlatModel) -> None:
        """Decay all under the present threshold; zeta <- zeta - lr (e^zeta / 2 sum w^2 - alpha), w before the step."""
        leaving, factor = self.to_leave(flat, flat.values), math.exp(self.zeta)
        squares = flat.values[leaving].square().sum().item()
        flat.values.copy_(torch.where(leaving, flat.values / (1 + self.lr * factor), flat.values))
        self.zeta = min(_MOST, self.zeta - self.lr * (factor / 2 * squares - self.settings.alpha))
        super().after_step(flat)

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and JSON values; a resume file holds it."""
        return {**super().state(), "zeta": self.zeta}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, to the same bits."""
        super().restore(state)
        self.zeta = state["zeta"]

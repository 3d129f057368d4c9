"""Weight elimination: Weigend, Rumelhart, Huberman, "Generalization by weight-elimination with application to
forecasting", NeurIPS 1990 (1991).

Beside the loss stands lambda sum u^2 / (1 + u^2), u = w / w0: the number of weights that are large beside w0, smoothed.
Small weights decay, large ones are let go; then the smallest leave.

lambda follows the error E after each epoch, with its mean A <- gamma A + (1 - gamma) E: where E is lower than before,
or lower than wanted, lambda grows by a step; else it falls by that step where E is still below A, and by a tenth where
it is not. The rule is from general knowledge of the paper, not from its text. Ours: E is the validation loss, the
wanted error 0, gamma .9, the step a tenth of the strength, and lambda starts at the strength and not at 0; with
`adapt: false` it stays there.
"""

from typing import Any

import torch
from torch import Tensor

from sharpminima.catalogue.methods.penalty import WeightEliminationSettings
from sharpminima.nets.evaluation import Evaluation
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.penalty.penalised import Penalised
from sharpminima.training import FlatModel

_GAMMA, _STEP, _CUT = 0.9, 0.1, 0.9


class Elimination(Penalised):
    """Adds the gradient of the smoothed count, and adapts lambda."""

    def __init__(self, run: Run, settings: WeightEliminationSettings, flat: FlatModel, level: float) -> None:
        super().__init__(run, settings, flat, level)
        self.strength = settings.strength  # lambda
        self._error = self._mean = float("inf")  # after the last epoch, and over all

    @torch.no_grad()
    def before_step(self, flat: FlatModel, images: Tensor, labels: Tensor) -> None:
        """Add 2 lambda / w0 u / (1 + u^2)^2 to the gradients of the weights that may be removed."""
        u = flat.values / self.settings.w0
        pull = u / (1 + u.square()).square()
        flat.gradients.addcmul_(pull, self.penalised, value=2 * self.strength / self.settings.w0)

    def after_epoch(self, flat: FlatModel, epoch: int, validation: Evaluation) -> None:
        """Let lambda follow the error."""
        super().after_epoch(flat, epoch, validation)
        error = validation.loss
        mean = error if epoch == 1 else _GAMMA * self._mean + (1 - _GAMMA) * error
        if self.settings.adapt:
            step = _STEP * self.settings.strength
            if error < self._error:
                self.strength += step
            elif error < mean:
                self.strength = max(0.0, self.strength - step)
            else:
                self.strength *= _CUT
        self._error, self._mean = error, mean

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and JSON values; a resume file holds it."""
        return {**super().state(), "strength": self.strength, "error": self._error, "mean": self._mean}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, to the same bits."""
        super().restore(state)
        self.strength, self._error, self._mean = state["strength"], state["error"], state["mean"]

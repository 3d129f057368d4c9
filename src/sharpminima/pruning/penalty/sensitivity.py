"""Sensitivity-driven regularisation, LOBSTER's forerunner.

Tartaglione, Lepsøy, Fiandrotti, Francini, "Learning sparse neural networks via sensitivity-driven regularization",
NeurIPS 2018. The sensitivity of a weight is S = 1/C sum_k |dy_k / dw| over the C outputs y, the batch's mean of the
logits (the paper's unspecific form, alpha_k = 1/C); after an SGD step w <- w - lambda w max(0, 1 - S). The paper then
removes weights under a threshold; here the smallest leave, to the number asked for. The update was established from
the public code of the same authors' SeReNe, which has it by neuron, and from the paper's abstract. It is measured in
eval mode (ours), BatchNorm being part of the function.
"""

import torch
from torch import Tensor

from sharpminima.pruning.penalty.penalised import Penalised, evaluating, sensitivities
from sharpminima.training import FlatModel


class SensitivityDecay(Penalised):
    """Decays what the outputs do not feel."""

    def before_step(self, flat: FlatModel, images: Tensor, labels: Tensor) -> None:
        """Measure, on the mini-batch."""
        parameters = dict(flat.model.named_parameters())
        with evaluating(flat.model):
            outputs = flat.network(images).mean(0)
            felt = sensitivities(outputs, [parameters[name] for name in self.names])
        self._insensitivity = {name: (1 - s).relu_() for name, s in zip(self.names, felt, strict=True)}

    @torch.no_grad()
    def after_step(self, flat: FlatModel) -> None:
        """Decay; lambda is not multiplied by the learning rate."""
        for name, share in self._insensitivity.items():
            weight = flat.view(flat.values, name)
            weight.addcmul_(weight, share, value=-self.settings.strength)
        super().after_step(flat)

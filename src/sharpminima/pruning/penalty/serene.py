"""SeReNe, sensitivity-based regularisation of neurons.

Tartaglione, Bragagnolo, Odierna, Fiandrotti, Grangetto, "SeReNe: sensitivity-based regularization of neurons for
structured sparsity in neural networks", TNNLS 2022. The sensitivity of a neuron is S = 1/C sum_k |dy_k / dp|, the
outputs' reaction to its post-synaptic potential p, averaged over the batch and the positions of a map; after an SGD
step the incoming weights of a neuron decay, w <- w - lambda w max(0, 1 - S) (the form that the authors' public code
calls full). Theirs also divides by the batch size once more, by taking the outputs' mean; ours does not. Ours is
measured in eval mode, BatchNorm being part of the function.
"""

from functools import partial

import torch
from torch import Tensor, nn

from sharpminima.catalogue.methods.penalty import SereneSettings
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.penalty.penalised import Penalised, evaluating, sensitivities
from sharpminima.training import FlatModel


class NeuronDecay(Penalised):
    """Decays the incoming weights of neurons that the outputs do not feel."""

    def __init__(self, run: Run, settings: SereneSettings, flat: FlatModel, level: float) -> None:
        super().__init__(run, settings, flat, level)
        self._layers = {name: flat.model.get_submodule(name.rpartition(".")[0]) for name in self.names}

    def before_step(self, flat: FlatModel, images: Tensor, labels: Tensor) -> None:
        """Measure, on the mini-batch."""
        potentials: dict[str, Tensor] = {}

        def noted(name: str, _layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            potentials[name] = output
            return output.clone()  # a ReLU in place acts on this

        hooks = [layer.register_forward_hook(partial(noted, name)) for name, layer in self._layers.items()]
        with evaluating(flat.model):
            outputs = flat.network(images).sum(0)  # a sample's potentials act on its own outputs only
            felt = sensitivities(outputs, [potentials[name] for name in self.names])
        for hook in hooks:
            hook.remove()
        self._insensitivity = {
            name: (1 - _by_neuron(self._layers[name], s).mean(1)).relu_()
            for name, s in zip(self.names, felt, strict=True)
        }

    @torch.no_grad()
    def after_step(self, flat: FlatModel) -> None:
        """Decay; lambda is not multiplied by the learning rate."""
        for name, share in self._insensitivity.items():
            weight = flat.view(flat.values, name)
            weight.addcmul_(weight, share.view(-1, *[1] * (weight.ndim - 1)), value=-self.settings.strength)
        super().after_step(flat)


def _by_neuron(layer: nn.Module, potentials: Tensor) -> Tensor:
    """What belongs to a neuron [neurons, images and positions]: a linear layer has its neurons last."""
    return potentials.movedim(-1 if isinstance(layer, nn.Linear) else 1, 0).flatten(1)

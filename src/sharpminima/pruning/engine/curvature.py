"""The Gauss-Newton matrix of the mean cross-entropy, exactly: its diagonal, and the block of a unit.

G = 1/N sum_n J_n^T H_n J_n, where J_n is the Jacobian of image n's logits with respect to the parameters and
H_n = diag(p) - p p^T the Hessian of its cross-entropy with respect to the logits, p the softmax. With
H_n = sum_c s_c s_c^T, s_c = sqrt(p_c) (e_c - p), one backward pass a class c from the logits' cotangents s_c has, at
the output of each layer, all that its parameters' part of the diagonal needs (Botev, Ritter, Barber, "Practical
Gauss-Newton optimisation for deep learning", ICML 2017; Dangel, Kunstner, Hennig, "BackPACK", ICLR 2020): for a linear
layer (delta^2)^T x^2. Nothing is drawn, and no element is negative.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from sharpminima.base.errors import ConfigError
from sharpminima.data import Split
from sharpminima.pruning.engine.activations import rows_of

_ELEMENTS = 2**24  # of a part of the per-image gradients that is held at a time


class _Seen:
    """What a layer took and gave in the forward pass."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Tensor]] = []

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        self.calls.append((inputs[0].detach(), output))
        return output.clone()  # what the net does to it in place leaves our reference to the layer's output alone


def gauss_newton_diagonal(model: nn.Module, weights: dict[str, Tensor], sample: Split) -> dict[str, Tensor]:
    """The Gauss-Newton diagonal at ``weights``, by name, each of its parameter's shape.

    Args:
        model: in eval mode for this: BatchNorm is the fixed scale and shift of its running statistics, so that images
            do not mix. Unchanged.
        weights: weights and biases of Conv2d and Linear layers that stand in place of the model's own.
        sample: images [N, ...] and labels [N]; labels do not matter.

    Raises:
        ConfigError: a layer of ``weights`` acts several times, or not at all, or takes other rows than the images.

    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False))
    >>> _ = net[0].weight.data.zero_()  # p = 1/2: p (1 - p) x^2
    >>> sample = Split(torch.tensor([[1.0, 2.0]]), torch.tensor([0]))
    >>> gauss_newton_diagonal(net, {"0.weight": net[0].weight.detach()}, sample)["0.weight"]
    tensor([[0.2500, 1.0000],
            [0.2500, 1.0000]])
    """
    layers = {name: model.get_submodule(name) for name in _owners(weights)}
    inputs, by_class = cotangents(model, weights, sample)
    diagonal = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for deltas in by_class:
        for name, layer in layers.items():
            for kind, squared in _squares(layer, inputs[name], deltas[name]).items():
                if (whole := f"{name}.{kind}") in diagonal:
                    diagonal[whole] += squared / len(sample.labels)
    return diagonal


def cotangents(
    model: nn.Module, weights: dict[str, Tensor], sample: Split
) -> tuple[dict[str, Tensor], Iterator[dict[str, Tensor]]]:
    """What the layers of ``weights`` take [N, ...], and class by class what reaches their outputs from s_c [N, ...].

    Arguments and errors as of `gauss_newton_diagonal`.
    """
    layers = {name: model.get_submodule(name) for name in _owners(weights)}
    seen = {name: _Seen() for name in layers}
    values = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    training = model.training
    with ExitStack() as stack:
        stack.callback(model.train, training)
        for name, layer in layers.items():
            stack.callback(layer.register_forward_hook(seen[name]).remove)
        logits = functional_call(model.eval(), (values, buffers), (sample.images,))
    for name, each in seen.items():
        if len(each.calls) != 1:
            raise ConfigError(
                f"layer {name!r} acts {len(each.calls)} times in a forward pass: this has the curvature of layers that "
                "act once; take another criterion"
            )
    for name, each in seen.items():
        if len(each.calls[0][0]) != len(sample.labels):
            raise ConfigError(
                f"layer {name!r} takes {len(each.calls[0][0])} rows for {len(sample.labels)} images, which this cannot "
                "tell apart: give it tokens as a dimension of their own [N, tokens, ...], or take another criterion"
            )
    outputs = {name: each.calls[0][1] for name, each in seen.items()}

    def by_class() -> Iterator[dict[str, Tensor]]:
        p = logits.detach().softmax(1)
        for label in range(p.shape[1]):
            cotangent = -p.clone()
            cotangent[:, label] += 1
            cotangent *= p[:, label, None].sqrt()
            deltas = torch.autograd.grad(logits, list(outputs.values()), cotangent, retain_graph=True)
            yield dict(zip(outputs, deltas, strict=True))

    return {name: each.calls[0][0] for name, each in seen.items()}, by_class()


class UnitCurvature:
    """The Gauss-Newton matrix of each unit of a layer by itself: of its incoming weights, and of its bias as the last.

    Args:
        layer: Linear, of one vector an image, or Conv2d of one group.
        inputs: of the layer [N, ...].
        deltas: class by class what reaches its outputs, as of `cotangents`.

    Raises:
        ConfigError: another layer.
    """

    def __init__(self, layer: nn.Module, inputs: Tensor, deltas: list[Tensor]) -> None:
        self._rows = rows_of(layer, inputs)  # [N, positions, weights]
        self._deltas = torch.stack(deltas).double()  # [classes, N, units, ...]
        if self._deltas.ndim == 3:  # one input an image: the classes add up to one weight of its outer product
            self._deltas = self._deltas.square().sum(0, keepdim=True).sqrt()[..., None]
        self._deltas = self._deltas.flatten(3)  # [classes, N, units, positions]
        if layer.bias is not None:
            self._rows = torch.cat([self._rows, torch.ones_like(self._rows[..., :1])], dim=-1)

    def factor(self, unit: int) -> Tensor:
        """J [rows, weights and bias] in float64, with J^T J the matrix of the unit."""
        rows = torch.einsum("cnp,npk->cnk", self._deltas[:, :, unit], self._rows)
        return rows.flatten(0, 1) / len(self._rows) ** 0.5


def _owners(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name.rpartition(".")[0] for name in names))


def _squares(layer: nn.Module, inputs: Tensor, delta: Tensor) -> dict[str, Tensor]:
    """The sum over images of the squares of each image's gradients, by the layer's own names."""
    if isinstance(layer, nn.Linear) and inputs.ndim == 2:
        squares = delta.square()
        return {"weight": squares.T @ inputs.square(), "bias": squares.sum(0)}
    own = {name: parameter.detach() for name, parameter in layer.named_parameters()}
    images = max(1, _ELEMENTS // sum(parameter.numel() for parameter in own.values()))
    parts = zip(inputs.split(images), delta.split(images), strict=True)
    each = [vmap(partial(_pulled, layer, own))(some, back) for some, back in parts]
    return {name: torch.stack([part[name].square().sum(0) for part in each]).sum(0) for name in own}


def _pulled(layer: nn.Module, own: dict[str, Tensor], image: Tensor, delta: Tensor) -> Any:
    """The gradients that the cotangent ``delta`` of one image's output gives to the layer's parameters."""

    def act(parameters: dict[str, Tensor]) -> Any:
        return functional_call(layer, parameters, (image[None],))

    _, pull, *_ = vjp(act, own)
    return pull(delta[None])[0]

"""Scores that are trained in place of weights, through a mask that has no derivative."""

from typing import Any

import torch
from torch import Tensor

from sharpminima.nets.masks import Masks


class StraightThrough(torch.autograd.Function):
    """A mask whose gradient goes to the scores as it is (Bengio, Léonard, Courville, 2013)."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, mask: Tensor) -> Tensor:
        """The mask (bool, of the scores' shape) in the scores' dtype; their values play no part."""
        return mask.to(scores.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """The gradient of the mask as that of the scores; the mask itself has none."""
        return gradient, None


def dense_beneath(weight: Tensor, acting: Tensor) -> Tensor:
    """``acting``, of the weight's shape, whose gradient goes to all of ``weight`` as it is.

    >>> w = torch.tensor([1.0, -2.0], requires_grad=True)
    >>> (3 * dense_beneath(w, w * torch.tensor([True, False]))).sum().backward()
    >>> dense_beneath(w, w * torch.tensor([True, False])).tolist(), w.grad.tolist()
    ([1.0, 0.0], [3.0, 3.0])
    """
    return weight + (acting - weight).detach()


def with_ties(scores: dict[str, Tensor], weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Scores (float64) among which, of equal ones, those of the larger weights are the higher.

    What training never touched has the score it started with, which is many a time the same everywhere.

    >>> with_ties({"w": torch.zeros(2)}, {"w": torch.tensor([1.0, -2.0])})["w"].argmax().item()
    1
    """
    return {name: score.detach().double() + 1e-9 * weights[name].detach().abs() for name, score in scores.items()}


def masked(state: dict[str, Tensor], masks: Masks) -> dict[str, Tensor]:
    """A state dict without what the masks remove."""
    return {name: tensor * masks[name] if name in masks else tensor for name, tensor in state.items()}

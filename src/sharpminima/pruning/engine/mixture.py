"""A mixture of Gaussians as the prior of weights, which is trained with them.

Nowlan, Hinton, "Simplifying neural networks by soft weight-sharing", Neural Computation 1992.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

CHUNK = 1 << 12
"""Weights at a time, so that what is computed of them for each component stays in the cache."""
_SAME = 1e-10  # nats


def surprise(values: Tensor, means: Tensor, log_sigma: Tensor, log_shares: Tensor) -> Tensor:
    """- sum log p(w) of weights under a mixture of Gaussians, in nats: a penalty, differentiable by all it is given.

    Args:
        values: the weights [P].
        means: of the components [K].
        log_sigma: logarithms of their deviations [K].
        log_shares: logarithms of their shares [K], which sum to 1.

    >>> zero = torch.zeros(1)
    >>> round(surprise(torch.tensor([0.0, 1.0]), zero, zero, zero).item(), 3)  # log(2 pi) + 1 / 2
    2.338
    """
    found: Tensor = _Surprise.apply(values, means, log_sigma, log_shares)
    return found


def merged(means: Tensor, log_sigma: Tensor) -> Tensor:
    """Component [K] -> the one that stands for it: the first of those whose mutual divergence is below 1e-10 nats.

    >>> merged(torch.tensor([0.0, 0.3, 0.3]), torch.zeros(3)).tolist()
    [0, 1, 1]
    """
    owner = torch.arange(len(means), device=means.device)
    means, variance = means.double(), (2 * log_sigma.double()).exp()  # float32 has no 1e-10 beside 2
    for later in range(1, len(means)):
        for first in range(later):
            distance = (means[later] - means[first]).square()
            ratio = variance[later] / variance[first]
            divergence = (ratio + 1 / ratio - 2 + distance / variance[first] + distance / variance[later]) / 2
            if owner[first] == first and divergence < _SAME:
                owner[later] = first
                break
    return owner


class _Surprise(torch.autograd.Function):
    """- sum log p(w) of weights [P] under a mixture, in one pass over them with its gradients.

    Of each component: its mean, its log sigma and the logarithm of its share, [K] each. With the responsibilities r of
    components for a weight and z = (w - mean) / sigma the gradients are sums of r z / sigma, over components for a
    weight and over weights for a mean, of r (1 - z^2) for log sigma and of - r for the logarithm of a share.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, means: Tensor, log_sigma: Tensor, log_shares: Tensor) -> Tensor:
        inverse = (-log_sigma).exp()
        constant = (log_shares - log_sigma - math.log(2 * math.pi) / 2)[:, None]
        to_values, parts = torch.empty_like(values), []
        sums = means.new_zeros(3, len(means), dtype=torch.float64)  # of r, r z and r z^2
        for chunk, its_gradient in zip(values.split(CHUNK), to_values.split(CHUNK), strict=True):
            z = (chunk - means[:, None]).mul_(inverse[:, None])
            share = torch.addcmul(constant, z, z, value=-0.5)
            highest = share.amax(0)
            total = _exp(share.sub_(highest)).sum(0)
            share.div_(total)
            parts.append((highest + total.log()).sum())
            sums[0] += share.sum(1)
            sums[1] += share.mul_(z).sum(1)
            torch.mv(share.T, inverse, out=its_gradient)
            sums[2] += share.mul_(z).sum(1)
        of_shares, of_means, of_squares = sums.to(means.dtype)
        ctx.save_for_backward(to_values, -of_means * inverse, of_shares - of_squares, -of_shares)
        return -torch.stack(parts).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, ...]:
        return tuple(slope * gradient for gradient in ctx.saved_tensors)


def _exp(exponents: Tensor) -> Tensor:
    """In place; 0 where the result would be near or below the least normal one, where MKL takes ten times as long."""
    least = 2 * torch.finfo(exponents.dtype).tiny
    return F.threshold(exponents.clamp_(min=math.log(least)).exp_(), 1.0001 * least, 0, inplace=True)

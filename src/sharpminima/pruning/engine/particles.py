"""A particle filter over masks: many at a time, of which those with less error are drawn more often, and varied.

Anwar, Hwang, Sung, "Structured pruning of deep convolutional neural networks", ACM Journal on Emerging Technologies in
Computing Systems 13 (2017): each particle is a mask, weighted by the error of the net under it; particles are resampled
by their weights and varied, over and over.

That a weight is the share of images that are classified rightly, the systematic resampling, and how particles are
varied is ours: a particle is a number for each structure, of which the highest stay, so that all have as many
survivors as are asked for; a part of the numbers is drawn anew in each generation. The best mask seen so far is one of
the particles of each generation, as it is.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Keys = dict[str, Tensor]
"""Parameter name -> a number in [0, 1) for each structure; the highest stay."""


def resampled(weights: Tensor, draw: float) -> Tensor:
    """Systematic resampling: particle i comes as often as its share of the weights [P] says, to within one: int64 [P].

    Args:
        draw: in [0, 1).

    >>> resampled(torch.tensor([1.0, 0.0, 3.0, 0.0]), 0.5)
    tensor([0, 2, 2, 2])
    """
    shares = weights.double().cumsum(0) / weights.double().sum()
    points = (torch.arange(len(weights), dtype=torch.float64) + draw) / len(weights)
    return torch.searchsorted(shares, points, right=True).clamp_(max=len(weights) - 1)


def filtered(
    first: Keys,
    error: Callable[[Keys], float],
    *,
    particles: int,
    generations: int,
    mutation: float,
    draws: torch.Generator,
) -> Keys:
    """The keys of the mask of least error that a particle filter has met.

    Args:
        first: whose shapes count, and whose -inf stay: structures that have left.
        error: of the net under the mask of some keys, in [0, 1].
        particles: at a time.
        generations: of particles.
        mutation: the share of numbers that is drawn anew from one generation to the next.

    >>> keys = {"w": torch.zeros(3)}
    >>> worst = lambda keys: float(keys["w"].argmax() != 1)  # only structure 1 does
    >>> draws = torch.Generator().manual_seed(0)
    >>> filtered(keys, worst, particles=5, generations=5, mutation=0.5, draws=draws)["w"].argmax()
    tensor(1)
    """

    def drawn() -> Keys:
        fresh = {name: torch.rand(key.shape, generator=draws, dtype=torch.float64) for name, key in first.items()}
        return {name: fresh[name].masked_fill(key.isinf(), -torch.inf) for name, key in first.items()}

    def varied(keys: Keys) -> Keys:
        fresh = drawn()
        changes = {name: torch.rand(key.shape, generator=draws) < mutation for name, key in keys.items()}
        return {name: torch.where(changes[name], fresh[name], key) for name, key in keys.items()}

    crowd = [drawn() for _ in range(particles)]
    best, least = crowd[0], 2.0
    for generation in range(generations):
        errors = [error(keys) for keys in crowd]
        lowest = min(errors)
        if lowest < least:
            best, least = crowd[errors.index(lowest)], lowest
        if generation < generations - 1:
            weights = 1.0 - torch.tensor(errors, dtype=torch.float64) + 1e-9  # all may be wrong everywhere
            draw = float(torch.rand((), generator=draws, dtype=torch.float64))
            parents = resampled(weights, draw)[: particles - 1].tolist()
            crowd = [best, *(varied(crowd[parent]) for parent in parents)]
    return best

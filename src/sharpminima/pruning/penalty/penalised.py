"""Training under a penalty that makes the net easy to prune; then the least of it is removed, to the number asked for.

A penalty is a policy: it adds its gradient to that of the loss before a step, or shrinks weights after it.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sharpminima.nets.masks import all_masks
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.distribution import keep_best, survivors_at
from sharpminima.pruning.engine.method import Pruned, Run
from sharpminima.pruning.engine.search import SearchPolicy, SearchResult, prune_by_search, search_result
from sharpminima.pruning.engine.trainings import fit
from sharpminima.pruning.engine.units import incoming, keep_best_units, units_of
from sharpminima.training import FlatModel


class Penalised(SearchPolicy):
    """Knows which parameters are penalised: the weights that may be removed."""

    def __init__(self, run: Run, settings: Any, flat: FlatModel, level: float) -> None:
        super().__init__(run, settings)
        self.settings, self.level = settings, level
        self.names = list(all_masks(flat.model))
        self.penalised = flat.indicator(self.names)

    def to_leave(self, flat: FlatModel, importance: Tensor) -> Tensor:
        """True where a pruning to the level by |importance| [P] would remove a weight now; with ties, a few more."""
        sizes = importance.abs()
        each = sizes[self.penalised > 0]
        leaving = len(each) - survivors_at(self.level, len(each))
        if not leaving:
            return torch.zeros_like(sizes, dtype=torch.bool)
        return (sizes <= each.kthvalue(leaving).values) & (self.penalised > 0)


def search_weights(
    run: Run, level: float, settings: Any, resume: ResumeFile | None, *, name: str, policy: type[Penalised]
) -> SearchResult:
    """Train from W0 under the penalty; the smallest weights leave."""
    flat = FlatModel(copy.deepcopy(run.model))
    history = fit(run, flat, policy(run, settings, flat, level), settings, (name, "search"), resume)
    masks = all_masks(flat.model)
    scores = {key: flat.view(flat.values, key).abs() for key in masks}
    survivors = survivors_at(level, sum(mask.numel() for mask in masks.values()))
    return search_result(flat, keep_best(scores, survivors, settings.distribution), history)


def search_units(
    run: Run, level: float, settings: Any, resume: ResumeFile | None, *, name: str, policy: type[Penalised]
) -> SearchResult:
    """Train from W0 under the penalty; the units with the smallest incoming weights (L2) leave."""
    flat = FlatModel(copy.deepcopy(run.model))
    history = fit(run, flat, policy(run, settings, flat, level), settings, (name, "search"), resume)
    weights = incoming(flat.model, units_of(flat.model))
    scores = {group: weight.square().mean(1).sqrt() for group, weight in weights.items()}
    masks = keep_best_units(flat.model, scores, level, settings.distribution, settings.floor)
    return search_result(flat, masks, history)


def prune_weights(run: Run, settings: Any, name: str, policy: type[Penalised]) -> Pruned:
    """The method of a penalty on single weights."""
    return prune_by_search(run, settings, name, partial(search_weights, name=name, policy=policy))


def prune_units(run: Run, settings: Any, name: str, policy: type[Penalised]) -> Pruned:
    """The method of a penalty on units."""
    return prune_by_search(run, settings, name, partial(search_units, name=name, policy=policy))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """In eval mode for a while: an image's outputs are its own, and BatchNorm counts no mini-batch twice.

    In training mode BatchNorm takes from each output what the others of the mini-batch feel, so that a derivative of
    their sum is not one of any image.
    """
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def sensitivities(outputs: torch.Tensor, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """Mean over the outputs [K] of |d output / d input|, for each input."""
    total = [torch.zeros_like(each) for each in inputs]
    for output in outputs:
        gradients = torch.autograd.grad(output, inputs, retain_graph=True)
        for sum_, gradient in zip(total, gradients, strict=True):
            sum_ += gradient.abs() / len(outputs)
    return total

"""Dynamic sparse training: the net is sparse from the start, and now and then connections leave and others come.

The number of survivors stays what was asked for, always. What leaves is the smallest in magnitude; methods differ in
how many leave, in which layers as many come back, and where.
"""

import copy
from abc import ABC, abstractmethod
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sharpminima.catalogue.methods.dynamic import DynamicSettings
from sharpminima.nets.masks import Masks, all_masks, count
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.distribution import keep_best, survivors_at, whole_shares
from sharpminima.pruning.engine.method import Pruned, Run
from sharpminima.pruning.engine.search import SearchPolicy, SearchResult, prune_by_search, search_result
from sharpminima.pruning.engine.trainings import fit
from sharpminima.runtime.rng import generator
from sharpminima.training import FlatModel

Parts = dict[str, Tensor]


class Dynamic(SearchPolicy, ABC):
    """Rewires the net; methods override `rewired`, `newcomers` and `before_step`."""

    def __init__(self, run: Run, settings: Any, flat: FlatModel, level: float, name: str) -> None:
        super().__init__(run, settings)
        self.settings = settings
        self._seed, self._name = run.seed, name
        self._every = settings.every or self.steps_per_epoch
        self._last = round(settings.until * self.total_steps)
        masks = all_masks(flat.model)
        _, size = count(masks)
        draws = self.draws()
        scores = {key: torch.rand(mask.shape, generator=draws, dtype=torch.float64) for key, mask in masks.items()}
        self._names = list(masks)
        flat.set_masks(none_empty(keep_best(scores, survivors_at(level, size), settings.distribution), scores))

    def draws(self) -> torch.Generator:
        """The random numbers of this step."""
        return generator(self._seed, self._name, "draws", self.steps)

    def masks(self, flat: FlatModel) -> Masks:
        """What survives now, on the device."""
        assert flat.mask is not None  # of `set_masks`
        return self.parts(flat, flat.mask > 0)

    def parts(self, flat: FlatModel, vector: Tensor) -> Parts:
        """A vector [P] by prunable tensor."""
        return {name: flat.view(vector, name) for name in self._names}

    @torch.no_grad()
    def after_step(self, flat: FlatModel) -> None:
        """Rewire when it is time; there is none after the last step, which newcomers would have no use of."""
        super().after_step(flat)
        if self.steps % self._every or self.steps > self._last or self.steps == self.total_steps:
            return
        before = self.masks(flat)
        after = self.rewired(flat, before)
        values = self.newcomers(flat, {name: after[name] & ~before[name] for name in after})
        flat.set_masks(after)
        for name, (places, value) in values.items():
            flat.view(flat.values, name)[places] = value[places]

    @abstractmethod
    def rewired(self, flat: FlatModel, masks: Masks) -> Masks:
        """The masks after this rewiring, with as many survivors."""

    def newcomers(self, flat: FlatModel, places: Masks) -> dict[str, tuple[Tensor, Tensor]]:
        """Their places and first values; zero, unless a method says otherwise."""
        return {name: (place, torch.zeros_like(place, dtype=flat.values.dtype)) for name, place in places.items()}

    def random_scores(self, masks: Masks) -> Parts:
        """A draw a place."""
        draws = self.draws()
        return {
            name: torch.rand(mask.shape, generator=draws, dtype=torch.float64).to(mask.device)
            for name, mask in masks.items()
        }


def none_empty(masks: Masks, scores: Parts) -> Masks:
    """The masks with the best place of each tensor that has none, in place of the worst of the fullest tensor.

    A tensor without a weight makes the net a constant; most ways to rewire would leave it so for ever.

    >>> masks = {"a": torch.tensor([True, True]), "b": torch.tensor([False])}
    >>> none_empty(masks, {"a": torch.tensor([0.5, 0.1]), "b": torch.tensor([0.3])})
    {'a': tensor([ True, False]), 'b': tensor([True])}
    """
    filled = dict(masks)
    for name in [name for name, mask in masks.items() if not mask.any()]:
        fullest = max(filled, key=lambda key: int(filled[key].sum()))
        if int(filled[fullest].sum()) > 1:
            filled[name] = keep_best({name: scores[name]}, 1, "global")[name]
            rest = {fullest: scores[fullest].masked_fill(~filled[fullest], -torch.inf)}
            filled |= keep_best(rest, int(filled[fullest].sum()) - 1, "global")
    return filled


def drop_smallest(weights: Parts, masks: Masks, counts: dict[str, int]) -> Masks:
    """The masks without, in each tensor, the so many survivors of least magnitude."""
    kept = {}
    for name, mask in masks.items():
        score = weights[name].abs().double().masked_fill(~mask, -1.0)
        kept.update(keep_best({name: score}, int(mask.sum()) - counts[name], "global"))
    return {name: mask.to(masks[name].device) for name, mask in kept.items()}


def grow_best(scores: Parts, masks: Masks, taken: Masks, counts: dict[str, int]) -> Masks:
    """The masks with, in each tensor, so many more places: the best scores of those not ``taken``."""
    grown = {}
    for name, mask in masks.items():
        score = scores[name].double().masked_fill(taken[name], -torch.inf)
        grown[name] = mask | keep_best({name: score}, counts[name], "global")[name].to(mask.device)
    return grown


def room(masks: Masks) -> dict[str, int]:
    """Places in each tensor that are free."""
    return {name: int((~mask).sum()) for name, mask in masks.items()}


def share_out(weights: dict[str, float], free: dict[str, int], total: int) -> dict[str, int]:
    """``total`` places in proportion to the weights, none with more than are free; what is over goes to the others."""
    counts = dict.fromkeys(weights, 0)
    while (left := total - sum(counts.values())) > 0:
        open_to = {name: weights[name] for name in weights if counts[name] < free[name]}
        mass = sum(open_to.values())
        shares = {name: left * (w / mass if mass > 0 else 1 / len(open_to)) for name, w in open_to.items()}
        given = whole_shares(shares, dict.fromkeys(shares, left), left)
        for name, number in given.items():
            counts[name] = min(free[name], counts[name] + number)
    return counts


def search(
    run: Run, level: float, settings: DynamicSettings, resume: ResumeFile | None, *, name: str, policy: type[Dynamic]
) -> SearchResult:
    """Train sparse from W0."""
    flat = FlatModel(copy.deepcopy(run.model), dense_gradients=True)
    rewiring = policy(run, settings, flat, level, name)
    history = fit(run, flat, rewiring, settings, (name, "search"), resume)
    return search_result(flat, {key: mask.cpu() for key, mask in rewiring.masks(flat).items()}, history)


def prune(run: Run, settings: DynamicSettings, name: str, policy: type[Dynamic]) -> Pruned:
    """The method of a way to rewire."""
    return prune_by_search(run, settings, name, partial(search, name=name, policy=policy))

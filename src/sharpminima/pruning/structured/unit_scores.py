"""Structured pruning by a score of units: train, score, remove, train."""

import copy
from abc import ABC, abstractmethod
from functools import partial
from typing import Any

from torch import Tensor

from sharpminima.nets.masks import Masks
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.method import Pruned, Run
from sharpminima.pruning.engine.search import SearchPolicy, SearchResult, prune_by_search, search_result
from sharpminima.pruning.engine.trainings import fit
from sharpminima.pruning.engine.units import incoming, keep_best_units, units_of
from sharpminima.training import FlatModel


class UnitScores(SearchPolicy, ABC):
    """Trains the whole net, and scores its units at the end; methods give `scores`."""

    def __init__(self, run: Run, settings: Any, flat: FlatModel, level: float) -> None:
        super().__init__(run, settings)
        self.settings, self.level = settings, level
        self.groups = units_of(flat.model)

    def incoming(self, flat: FlatModel) -> dict[str, Tensor]:
        """The incoming weights of each unit [count, weights], by group."""
        return incoming(flat.model, self.groups)

    @abstractmethod
    def scores(self, flat: FlatModel) -> dict[str, Tensor]:
        """Group -> score of each unit [count]; the lowest leave."""

    def best(self, flat: FlatModel, level: float) -> Masks:
        """Masks of the net at ``level``, by the scores as they are now."""
        return keep_best_units(flat.model, self.scores(flat), level, self.settings.distribution, self.settings.floor)


def search(
    run: Run, level: float, settings: Any, resume: ResumeFile | None, *, name: str, policy: type[UnitScores]
) -> SearchResult:
    """Train from W0, then remove units."""
    flat = FlatModel(copy.deepcopy(run.model))
    scoring = policy(run, settings, flat, level)
    history = fit(run, flat, scoring, settings, (name, "search"), resume)
    return search_result(flat, scoring.best(flat, level), history)


def prune(run: Run, settings: Any, name: str, policy: type[UnitScores]) -> Pruned:
    """Search at each level with the scores of ``policy``, then train with what stays, as `prune_by_search` does."""
    return prune_by_search(run, settings, name, partial(search, name=name, policy=policy))

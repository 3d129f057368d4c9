"""Structured pruning in turns: from a trained net units leave one layer after another, and the net trains on between.

Layers have their turns in the order of the forward pass, evenly over the search; all that has left stays away.
"""

import copy
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from sharpminima.nets.compaction import Units
from sharpminima.nets.masks import Masks
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.criteria import draw_sample
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.engine.search import SearchPolicy, SearchResult, search_result
from sharpminima.pruning.engine.trainings import fit
from sharpminima.pruning.engine.units import unit_masks, units_of
from sharpminima.runtime.rng import generator
from sharpminima.training import FlatModel


class InTurns(SearchPolicy, ABC):
    """Trains on while layer after layer loses units; methods give `kept`, and take the turns that are due at first.

    Args:
        target: level or strength.
        begin: share of the steps before the first turn.
    """

    def __init__(
        self, run: Run, settings: Any, flat: FlatModel, target: float, name: str, *, begin: float = 0.0
    ) -> None:
        super().__init__(run, settings)
        self.settings, self.target = settings, target
        self.original = copy.deepcopy(self.net(flat))
        self.groups = units_of(self.original)
        self._begin = int(begin * self.total_steps)
        self.sample = draw_sample(run.training, settings.samples_per_class, generator(run.seed, name, "sample"))
        self.keep = {group.name: torch.ones(group.count, dtype=torch.bool) for group in self.groups}
        self._turns = 0  # of layers that have had theirs

    def take_turns(self, flat: FlatModel) -> None:
        """The turns of all layers that are due."""
        count, steps = len(self.groups), self.total_steps - self._begin
        while self._turns < count and (self.steps - self._begin) * count >= self._turns * steps:
            group = self.groups[self._turns]
            self._turns += 1
            keep = self.kept(self.net(flat), group)
            if not keep.all():
                self.keep[group.name] = keep
                flat.set_masks(self.masks(flat))

    def net(self, flat: FlatModel) -> nn.Module:
        """The net that is pruned."""
        return flat.model

    def masks(self, flat: FlatModel) -> Masks:
        """What is left of `FlatModel.model`, by its parameters."""
        return unit_masks(self.original, self.groups, self.keep)

    @abstractmethod
    def kept(self, model: nn.Module, group: Units) -> Tensor:
        """Which units stay: bool [count] (CPU); the weights that read them may be changed, in place.

        Args:
            model: as it is now, without what has left of the layers before.
        """

    def after_step(self, flat: FlatModel) -> None:
        """Take the turns that are due now."""
        super().after_step(flat)
        self.take_turns(flat)

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and JSON values; a resume file holds it."""
        return {**super().state(), "keep": self.keep, "turns": self._turns}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, to the same bits."""
        super().restore(state)
        self.keep, self._turns = state["keep"], state["turns"]


def search(
    run: Run, target: float, settings: Any, resume: ResumeFile | None, *, name: str, policy: type[InTurns]
) -> SearchResult:
    """Prune layer after layer to a level or by a strength, training on after each."""
    flat = FlatModel(copy.deepcopy(run.model))
    pruning = policy(run, settings, flat, target, name)
    history = fit(run, flat, pruning, settings, (name, "search"), resume)
    return search_result(flat, pruning.masks(flat), history)

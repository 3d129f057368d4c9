"""Structures within filters leave in rounds: the worst of a trained net first, and the net trains on after each round.

Which stay is said by the mean size of their weights (Mao et al. 2017, who take the sum, which ranks structures of one
size alike), or by a particle filter over masks (Anwar et al. 2017; `sharpminima.pruning.engine.particles`), whose error
is that of a sample of the training images. Particles choose among structures of convolutions, of which as many weights
stay as by size; single weights of linear layers leave by their size.
"""

import copy
from abc import ABC, abstractmethod
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from sharpminima.nets.masks import Masks, all_masks, count
from sharpminima.nets.modes import eval_mode
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.criteria import draw_sample
from sharpminima.pruning.engine.distribution import survivors_at
from sharpminima.pruning.engine.method import Pruned, Run
from sharpminima.pruning.engine.particles import Keys, filtered
from sharpminima.pruning.engine.schedule import survivor_counts
from sharpminima.pruning.engine.search import SearchPolicy, SearchResult, prune_by_search, search_result
from sharpminima.pruning.engine.structures import Structures, keep_best_structures
from sharpminima.pruning.engine.trainings import fit
from sharpminima.runtime.rng import generator
from sharpminima.training import FlatModel


class StructureRounds(SearchPolicy, ABC):
    """Trains on while structures leave; methods give `partition`."""

    def __init__(self, run: Run, settings: Any, flat: FlatModel, level: float, name: str) -> None:
        super().__init__(run, settings)
        self.settings = settings
        self.masks: Masks = all_masks(flat.model)
        self.structures = {key: self.partition(flat.model.get_parameter(key)) for key in self.masks}
        size = count(self.masks)[1]
        self._survivors = survivor_counts("iterative", size, survivors_at(level, size), settings.rounds)
        self._role = (run.seed, name)
        if settings.choice == "particles":
            self._sample = draw_sample(run.training, settings.samples_per_class, generator(*self._role, "sample"))
        self._rounds = 0  # done so far
        self._prune(flat)

    @abstractmethod
    def partition(self, weight: Tensor) -> Structures:
        """The structures of a layer's weight."""

    def _prune(self, flat: FlatModel) -> None:
        """All rounds that are due."""
        while (
            self._rounds < len(self._survivors) and self.steps * len(self._survivors) >= self._rounds * self.total_steps
        ):
            self.masks = self.chosen(flat, self._survivors[self._rounds])
            self._rounds += 1
            flat.set_masks(self.masks)

    def chosen(self, flat: FlatModel, survivors: int) -> Masks:
        """Masks with so many weights left of those that are there now."""
        sizes: Keys = {}
        for name, structures in self.structures.items():
            gone = structures.mean(self.masks[name]) == 0
            sizes[name] = structures.mean(flat.view(flat.values, name).abs()).masked_fill_(gone, -torch.inf)
        masks = self._best(sizes, survivors)
        drawn = {name: keys for name, keys in sizes.items() if self.masks[name].ndim > 2}
        if self.settings.choice == "magnitude" or not drawn:
            return masks
        number = count({name: masks[name] for name in drawn})[0]  # linear layers keep what they have
        keys = filtered(
            drawn,
            lambda keys: self._error(flat, {**masks, **self._best(keys, number)}),
            particles=self.settings.particles,
            generations=self.settings.generations,
            mutation=self.settings.mutation,
            draws=generator(*self._role, "particles", self._rounds),
        )
        return {**masks, **self._best(keys, number)}

    def _best(self, scores: dict[str, Tensor], survivors: int) -> Masks:
        """Masks of the highest scores of some tensors."""
        structures = {name: self.structures[name] for name in scores}
        return keep_best_structures(scores, structures, survivors, self.settings.distribution)

    @torch.no_grad()
    def _error(self, flat: FlatModel, masks: Masks) -> float:
        """The share of the sample that the net under ``masks`` classifies wrongly."""
        model = flat.model
        weights = {name: model.get_parameter(name) * mask.to(flat.values.device) for name, mask in masks.items()}
        with eval_mode(model):
            outputs = functional_call(model, weights, (self._sample.images,))
        return float((outputs.argmax(1) != self._sample.labels).double().mean())

    def after_step(self, flat: FlatModel) -> None:
        """Remove what is due now."""
        super().after_step(flat)
        self._prune(flat)

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and JSON values; a resume file holds it."""
        return {**super().state(), "masks": self.masks, "rounds": self._rounds}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, to the same bits."""
        super().restore(state)
        self.masks, self._rounds = state["masks"], state["rounds"]


def search(
    run: Run, level: float, settings: Any, resume: ResumeFile | None, *, name: str, policy: type[StructureRounds]
) -> SearchResult:
    """Prune the net, which is trained already, in rounds."""
    flat = FlatModel(copy.deepcopy(run.model))
    pruning = policy(run, settings, flat, level, name)
    history = fit(run, flat, pruning, settings, (name, "search"), resume)
    return search_result(flat, pruning.masks, history)


def prune(run: Run, settings: Any, name: str, policy: type[StructureRounds]) -> Pruned:
    """Search at each level with the structures of ``policy``, then train with what stays."""
    return prune_by_search(run, settings, name, partial(search, name=name, policy=policy))

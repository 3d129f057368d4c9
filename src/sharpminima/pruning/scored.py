"""Pruning by a score: any criterion, shared out over layers any way, at once or in rounds, before or after training.

The four are separate, so that they recombine: a criterion (`criteria`), a distribution (`distribution`), a schedule
(`schedule`) and where it starts. Every level is a run of its own from the same W0: its mask
is found first, and training with that mask follows.
"""

import copy
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field, create_model
from torch import nn

from sharpminima.data import Split
from sharpminima.masks import Masks, apply_masks, count, prunable_parameters
from sharpminima.pruning.criteria import CRITERIA, Candidate
from sharpminima.pruning.distribution import DISTRIBUTIONS, keep_best, survivors_at
from sharpminima.pruning.method import LevelState, Method, Pruned, Run
from sharpminima.pruning.schedule import SCHEDULES, survivor_counts
from sharpminima.pruning.stages import Stages, at, fit_recipe, level_state
from sharpminima.rng import generator
from sharpminima.settings import PositiveInt, RecipeSettings, Settings

_REVIVES = ("force",)  # criteria that score removed weights too


class ScoredSettings(Settings):
    """Settings of all methods that prune by a score; each has defaults of its own."""

    revision: Literal[1] = 1
    start: Literal["init", "trained"] = Field("init", description="the weights that are scored: W0, or trained from it")
    distribution: Literal[DISTRIBUTIONS] = "global"
    schedule: Literal[SCHEDULES] = Field("iterative", description="what is left after each round")
    rounds: PositiveInt = Field(1, description="scorings; one of them is one-shot")
    biases: bool = Field(False, description="whether biases may be removed too; levels are of what may be")
    samples_per_class: PositiveInt = Field(10, description="training images that a criterion sees")
    probes: PositiveInt = Field(50, description="random vectors of an estimate (obd)")
    dense: RecipeSettings = Field(RecipeSettings(), description="training before scoring, with start: trained")
    recipe: RecipeSettings = Field(RecipeSettings(), description="training with the mask")


def find_masks(model: nn.Module, criterion: str, level: float, settings: ScoredSettings, run: Run) -> Masks:
    """The mask of a level: ``rounds`` scorings, each of what the one before has left.

    Exactly `survivors_at` weights survive.
    """
    masks = all_masks(model, biases=settings.biases)
    _, size = count(masks)
    final = survivors_at(level, size)
    sample = draw_sample(run.training, settings.samples_per_class, generator(run.seed, criterion, "sample"))
    draws = generator(run.seed, criterion, "draws")
    for survivors in survivor_counts(settings.schedule, size, final, settings.rounds):
        candidate = Candidate(model, masks, sample, draws, settings.probes)
        masks = keep_scored(criterion, candidate, survivors, settings.distribution)
    return masks


def all_masks(model: nn.Module, *, biases: bool = False) -> Masks:
    """Masks of all that may be removed, nothing of which is."""
    parameters = dict(model.named_parameters())
    names = [name for name in prunable_parameters(model) if biases or parameters[name].ndim > 1]
    return {name: torch.ones(parameters[name].shape, dtype=torch.bool) for name in names}


def keep_scored(criterion: str, candidate: Candidate, survivors: int, distribution: str) -> Masks:
    """Masks that keep the ``survivors`` highest scores of what the candidate has left."""
    scores = CRITERIA[criterion](candidate)
    if criterion not in _REVIVES:
        masks = candidate.masks
        scores = {name: score.masked_fill(~masks[name].to(score.device), -torch.inf) for name, score in scores.items()}
    return keep_best(scores, survivors, distribution)


def draw_sample(training: Split, per_class: int, draws: torch.Generator) -> Split:
    """So many images of each class, or all of a class that has fewer."""
    order = torch.randperm(len(training.labels), generator=draws)
    labels = training.labels.cpu()[order]
    places = torch.cat([(labels == label).nonzero().flatten()[:per_class] for label in labels.unique()])
    chosen = order[places].to(training.labels.device)
    return Split(training.images[chosen], training.labels[chosen])


def prune(run: Run, settings: ScoredSettings, *, criterion: str) -> Pruned:
    """Score, remove and train, for each level by itself; facts as of `level_state`."""
    stages = Stages(run.resume)
    history: list[dict[str, Any]] = []
    epochs = 0
    start = run.model
    if settings.start == "trained":
        dense = stages.run("dense", partial(fit_recipe, run, copy.deepcopy(start), None, settings.dense, ("dense", 0)))
        start = at(run, dense["state"])
        history += dense["history"]
        epochs = len(dense["history"])
    levels: dict[float, LevelState] = {}
    most = epochs
    for number, level in enumerate(run.levels, start=1):
        masks = find_masks(start, criterion, level, settings, run)
        model = copy.deepcopy(start)
        apply_masks(model, masks)
        work = partial(fit_recipe, run, model, masks, settings.recipe, (criterion, "mask"))
        trained = stages.run(f"level-{level!r}", work)
        history += trained["history"]
        spent = epochs + len(trained["history"])
        most = max(most, spent)
        levels[level] = level_state(run, level, number, masks, trained, spent)
    return Pruned(levels=levels, history=history, events=[], epochs=most)


_TRAINED = {"start": (Literal["init", "trained"], "trained")}
_DEFAULTS: dict[str, dict[str, tuple[Any, Any]]] = {
    "magnitude": _TRAINED,
    "taylor": _TRAINED,
    "obd": _TRAINED,
    "grasp": {"samples_per_class": (PositiveInt, 25)},
    "synflow": {"rounds": (PositiveInt, 100)},
    "force": {"rounds": (PositiveInt, 60)},
}
_PAPERS = {
    "magnitude": "Han, Pool, Tran, Dally (2015)",
    "random": "control",
    "gradient": "control",
    "snip": "Lee, Ajanthan, Torr (2019)",
    "grasp": "Wang, Zhang, Grosse (2020)",
    "synflow": "Tanaka, Kunin, Yamins, Ganguli (2020)",
    "force": "de Jorge, Sanyal, Behl, Torr, Rogez, Dokania (2021)",
    "taylor": "Molchanov, Mallya, Tyree, Frosio, Kautz (2019)",
    "obd": "LeCun, Denker, Solla (1989)",
}


def _method(criterion: str) -> Method:
    settings = create_model(
        f"{criterion.capitalize()}Settings", __base__=ScoredSettings, **_DEFAULTS.get(criterion, {})
    )
    return Method(settings=settings, prune=partial(prune, criterion=criterion), paper=_PAPERS[criterion], kind="scored")


SCORED: dict[str, Method] = {criterion: _method(criterion) for criterion in CRITERIA}
"""Name of the criterion -> method."""

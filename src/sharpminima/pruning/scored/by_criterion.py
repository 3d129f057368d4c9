"""Pruning by a score: any criterion, shared out over layers any way, at once or in rounds, before or after training.

The four are separate, so that they recombine: a criterion (`criteria`), a distribution (`distribution`), a schedule
(`schedule`) and where it starts. Every level is a run of its own from the same W0: its mask
is found first, and training with that mask follows.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from sharpminima.catalogue.methods.choices import Criterion
from sharpminima.catalogue.methods.scored import ScoredSettings
from sharpminima.nets.masks import Masks, all_masks, apply_masks, count
from sharpminima.pruning.engine.criteria import Candidate, draw_sample, keep_scored
from sharpminima.pruning.engine.distribution import survivors_at
from sharpminima.pruning.engine.method import LevelState, Pruned, Run
from sharpminima.pruning.engine.promises import check_survivors, found_masks
from sharpminima.pruning.engine.schedule import survivor_counts
from sharpminima.pruning.engine.trainings import Trainings, fit_dense, fit_recipe, level_state
from sharpminima.runtime.rng import generator


def find_masks(model: nn.Module, criterion: Criterion, level: float, settings: ScoredSettings, run: Run) -> Masks:
    """The mask of a level: ``rounds`` scorings, each of what the one before has left, on images of its own.

    Exactly `survivors_at` weights survive.
    """
    masks = all_masks(model, biases=settings.biases)
    _, size = count(masks)
    final = survivors_at(level, size)
    samples = generator(run.seed, criterion.name, "sample")
    draws = generator(run.seed, criterion.name, "draws")
    for survivors in survivor_counts(settings.schedule, size, final, settings.rounds):
        sample = draw_sample(run.training, settings.samples_per_class, samples)
        candidate = Candidate(model, masks, sample, draws, settings.batches)
        masks = keep_scored(criterion, candidate, survivors, settings.distribution, reviving=criterion.revives)
    return masks


def prune(run: Run, settings: ScoredSettings, name: str, criterion: Criterion) -> Pruned:
    """Score, remove and train, for each level by itself."""
    return prune_by(run, settings, name, lambda model, level: find_masks(model, criterion, level, settings, run))


def prune_by(run: Run, settings: ScoredSettings, name: str, find: Callable[[nn.Module, float], Masks]) -> Pruned:
    """The same by any masks: ``find`` gets a net of its own, whose weights it may change, and a level.

    Raises:
        MethodError: the masks do not fit, or others survive than the method promises.
    """
    trainings = Trainings(run.resume)
    history: list[dict[str, Any]] = []
    epochs = 0
    start = run.model
    if settings.start == "trained":
        start, rows = fit_dense(run, trainings, settings.dense)
        history += rows
        epochs = len(rows)
    levels: dict[float, LevelState] = {}
    most = epochs
    for number, level in enumerate(run.levels, start=1):
        model = copy.deepcopy(start)
        masks = found_masks(model, find(model, level))
        check_survivors(run.dial, level, masks, reached=True)
        apply_masks(model, masks)
        work = partial(fit_recipe, run, model, masks, settings.recipe, (name, "mask"))
        trained = trainings.run(f"level-{level!r}", work)
        history += trained["history"]
        spent = epochs + len(trained["history"])
        most = max(most, spent)
        levels[level] = level_state(run, level, number, masks, trained, spent)
    return Pruned(levels=levels, history=history, events=[], epochs=most)

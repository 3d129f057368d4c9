"""Pruning by a score: any criterion, shared out over layers any way, at once or in rounds, before or after training.

The four are separate, so that they recombine: a criterion (`criteria`), a distribution (`distribution`), rounds of
density d^(k/n) for final density d, and where it starts. Every level is a run of its own from the same W0: its mask
is found first, and training with that mask follows.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field, create_model
from torch import nn

from sharpminima.data import Split
from sharpminima.evaluation import gradient_norm
from sharpminima.masks import Masks, apply_masks, prunable_parameters, sparsity
from sharpminima.pruning.criteria import CRITERIA, Candidate
from sharpminima.pruning.distribution import DISTRIBUTIONS, keep_best, survivors_at
from sharpminima.pruning.method import LevelState, Method, Pruned, Run
from sharpminima.resume import ResumeFile
from sharpminima.rng import generator
from sharpminima.settings import PositiveInt, RecipeSettings, Settings
from sharpminima.training import FlatModel, RecipePolicy, train

_REVIVES = ("force",)  # criteria that score removed weights too


class ScoredSettings(Settings):
    """Settings of all methods that prune by a score; each has defaults of its own."""

    revision: Literal[1] = 1
    start: Literal["init", "trained"] = Field("init", description="the weights that are scored: W0, or trained from it")
    distribution: Literal[DISTRIBUTIONS] = "global"
    rounds: PositiveInt = Field(1, description="scorings; density d^(k/n) after round k of n")
    biases: bool = Field(False, description="whether biases may be removed too; levels are of what may be")
    samples_per_class: PositiveInt = Field(10, description="training images that a criterion sees")
    probes: PositiveInt = Field(50, description="random vectors of an estimate (obd)")
    dense: RecipeSettings = Field(RecipeSettings(), description="training before scoring, with start: trained")
    recipe: RecipeSettings = Field(RecipeSettings(), description="training with the mask")


def find_masks(model: nn.Module, criterion: str, level: float, settings: ScoredSettings, run: Run) -> Masks:
    """The mask of a level: ``rounds`` scorings, each of what the one before has left.

    Exactly `survivors_at` weights survive.
    """
    parameters = dict(model.named_parameters())
    names = [name for name in prunable_parameters(model) if settings.biases or parameters[name].ndim > 1]
    masks = {name: torch.ones(parameters[name].shape, dtype=torch.bool) for name in names}
    size = sum(mask.numel() for mask in masks.values())
    final = survivors_at(level, size)
    sample = _sample(run.training, settings.samples_per_class, generator(run.seed, criterion, "sample"))
    draws = generator(run.seed, criterion, "draws")
    for number in range(1, settings.rounds + 1):
        count = final if number == settings.rounds else round(size * (final / size) ** (number / settings.rounds))
        scores = CRITERIA[criterion](Candidate(model, masks, sample, draws, settings.probes))
        if criterion not in _REVIVES:
            scores = {
                name: score.masked_fill(~masks[name].to(score.device), -torch.inf) for name, score in scores.items()
            }
        masks = keep_best(scores, count, settings.distribution)
    return masks


def _sample(training: Split, per_class: int, draws: torch.Generator) -> Split:
    """So many images of each class, or all of a class that has fewer."""
    order = torch.randperm(len(training.labels), generator=draws)
    labels = training.labels.cpu()[order]
    places = torch.cat([(labels == label).nonzero().flatten()[:per_class] for label in labels.unique()])
    chosen = order[places].to(training.labels.device)
    return Split(training.images[chosen], training.labels[chosen])


def prune(run: Run, settings: ScoredSettings, *, criterion: str) -> Pruned:
    """Score, remove and train, for each level by itself.

    Facts of a level: epoch and epochs of training with the mask, event (its number), collapsed (tensors that have no
    weight left: with one of those the net computes a constant), distribution, gradient_norm.
    """
    stages = _Stages(run.resume)
    history: list[dict[str, Any]] = []
    epochs = 0
    start = run.model
    if settings.start == "trained":
        dense = stages.run("dense", partial(_train, run, copy.deepcopy(run.model), None, settings.dense, ("dense", 0)))
        start = copy.deepcopy(run.model)
        start.load_state_dict(dense["state"])
        history += dense["history"]
        epochs = len(dense["history"])
    levels: dict[float, LevelState] = {}
    most = epochs
    for number, level in enumerate(run.levels, start=1):
        masks = find_masks(start, criterion, level, settings, run)
        model = copy.deepcopy(start)
        apply_masks(model, masks)
        work = partial(_train, run, model, masks, settings.recipe, (criterion, "mask"))
        trained = stages.run(f"level-{level!r}", work)
        history += trained["history"]
        spent = epochs + len(trained["history"])
        most = max(most, spent)
        facts = {
            "epoch": trained["epoch"],
            "epochs": spent,
            "event": number,
            "stage_complete": True,
            "collapsed": [name for name, mask in masks.items() if not mask.any()],
            "gradient_norm": trained["gradient_norm"],
        }
        levels[level] = LevelState(trained["state"], masks, True, facts)
        if run.progress is not None:
            run.progress.note(f"level {level:g}: {100 * sparsity(masks):.3f} % removed")
    return Pruned(levels=levels, history=history, events=[], epochs=most)


def _train(
    run: Run,
    model: nn.Module,
    masks: Masks | None,
    recipe: RecipeSettings,
    role: tuple[str | int, ...],
    resume: ResumeFile | None,
) -> dict[str, Any]:
    flat = FlatModel(model, compaction=run.compaction)
    if masks is not None:
        flat.set_masks(masks)
    policy = RecipePolicy(recipe)
    history = train(
        flat,
        run.training,
        run.validation,
        policy,
        batch_size=recipe.batch_size,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        stream=lambda epoch: generator(run.seed, *role, "order", epoch),
        augment=run.augment,
        progress=run.progress,
        resume=resume,
    )
    assert policy.best.snapshot is not None  # the engine raises before it returns without a finite loss
    flat.restore(policy.best.snapshot)
    return {
        "state": flat.state_dict(policy.best.snapshot),
        "history": history,
        "epoch": policy.best.epoch,
        "gradient_norm": gradient_norm(flat.model, run.training.images, run.training.labels),
    }


class _Stages:
    """Trainings one after the other; what is done stays on disk while the others run."""

    def __init__(self, resume: ResumeFile | None) -> None:
        self._resume = resume
        self._done: dict[str, dict[str, Any]] = (resume.load() if resume is not None else None) or {}

    def run(self, name: str, work: Callable[[ResumeFile | None], dict[str, Any]]) -> dict[str, Any]:
        """The result of a stage: as saved, or of ``work``, which gets a resume file of its own."""
        if name not in self._done:
            own = None if self._resume is None else self._resume.beside(name)
            self._done[name] = work(own)
            if self._resume is not None and own is not None:
                self._resume.save(self._done)
                own.remove()
        return self._done[name]


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

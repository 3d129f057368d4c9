"""A method as trainings one after the other, each of which a killed job does not repeat."""

import copy
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn

from sharpminima.catalogue.recipes import RecipeSettings
from sharpminima.nets.evaluation import gradient_norm
from sharpminima.nets.masks import Masks, apply_masks, sparsity
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.method import LevelState, Run
from sharpminima.runtime.rng import generator
from sharpminima.training import FlatModel, Policy, RecipePolicy, train

Role = tuple[str | int, ...]


class Optimiser(Protocol):
    """What SGD reads of a recipe or of a search's settings."""

    batch_size: int
    momentum: float
    weight_decay: float


class Trainings:
    """Trainings one after the other; what is done stays on disk while the others run."""

    def __init__(self, resume: ResumeFile | None) -> None:
        self._resume = resume
        self._done: dict[str, dict[str, Any]] = (resume.load() if resume is not None else None) or {}

    def run(self, name: str, work: Callable[[ResumeFile | None], dict[str, Any]]) -> dict[str, Any]:
        """The result of a training: as saved, or of ``work``, which gets a resume file of its own."""
        if name not in self._done:
            own = None if self._resume is None else self._resume.beside(name)
            self._done[name] = work(own)
            if self._resume is not None and own is not None:
                self._resume.save(self._done)
                own.remove()
        return self._done[name]


def fit(
    run: Run, flat: FlatModel, policy: Policy, optimiser: Optimiser, role: Role, resume: ResumeFile | None
) -> list[dict[str, Any]]:
    """`train` on the run's data; ``role`` is what the order of the images depends on, with the run's seed."""
    return train(
        flat,
        run.training,
        run.validation,
        policy,
        batch_size=optimiser.batch_size,
        momentum=optimiser.momentum,
        weight_decay=optimiser.weight_decay,
        stream=lambda epoch: generator(run.seed, *role, "order", epoch),
        augment=run.augment,
        progress=run.progress,
        resume=resume,
    )


def fit_best(
    run: Run, flat: FlatModel, policy: RecipePolicy, optimiser: Optimiser, role: Role, resume: ResumeFile | None
) -> dict[str, Any]:
    """Train, and go back to the best-validation state: state, history, epoch, gradient_norm."""
    history = fit(run, flat, policy, optimiser, role, resume)
    assert policy.best.snapshot is not None  # the engine raises before it returns without a finite loss
    flat.restore(policy.best.snapshot)
    return {
        "state": flat.state_dict(policy.best.snapshot),
        "history": history,
        "epoch": policy.best.epoch,
        "gradient_norm": gradient_norm(flat.model, run.training.images, run.training.labels),
    }


def fit_recipe(
    run: Run, model: nn.Module, masks: Masks | None, recipe: RecipeSettings, role: Role, resume: ResumeFile | None
) -> dict[str, Any]:
    """Train ``model``, in place, with the recipe at fixed masks; returns as `fit_best`."""
    flat = FlatModel(model, compaction=run.compaction)
    if masks is not None:
        flat.set_masks(masks)
    return fit_best(run, flat, RecipePolicy(recipe), recipe, role, resume)


def at(run: Run, state: dict[str, Tensor], masks: Masks | None = None) -> nn.Module:
    """A net of the run's architecture on its device, with other weights and without what ``masks`` remove."""
    model = copy.deepcopy(run.model)
    model.load_state_dict(state)
    if masks is not None:
        apply_masks(model, masks)
    return model


def level_state(
    run: Run, level: float, number: int, masks: Masks, trained: dict[str, Any], epochs: int, *, reached: bool = True
) -> LevelState:
    """The state of a level, from what `fit_best` has returned.

    Facts: epoch (of the last training), epochs (of all trainings behind the state), event (its number), collapsed
    (tensors that have no weight left: with one of those the net computes a constant), gradient_norm.
    """
    facts = {
        "epoch": trained["epoch"],
        "epochs": epochs,
        "event": number,
        "stage_complete": True,
        "collapsed": [name for name, mask in masks.items() if not mask.any()],
        "gradient_norm": trained["gradient_norm"],
    }
    if run.progress is not None:
        run.progress.note(f"level {level:g}: {100 * sparsity(masks):.3f} % removed")
    return LevelState(trained["state"], masks, reached, facts)

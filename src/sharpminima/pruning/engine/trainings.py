"""A method as trainings one after the other, each of which a killed job does not repeat."""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypedDict, TypeVar

from torch import Tensor, nn

from sharpminima.base.errors import AnalysisError
from sharpminima.catalogue.recipes import RecipeSettings
from sharpminima.nets.counts import count_net
from sharpminima.nets.evaluation import gradient_norm
from sharpminima.nets.masks import Masks, apply_masks, sparsity
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.method import LevelFacts, LevelState, Run
from sharpminima.runtime.rng import generator
from sharpminima.training import FlatModel, Policy, RecipePolicy, train

Role = tuple[str | int, ...]


class Optimiser(Protocol):
    """What SGD reads of a recipe or of a search's settings."""

    @property
    def batch_size(self) -> int:
        """Images a step."""

    @property
    def momentum(self) -> float:
        """In [0, 1)."""

    @property
    def weight_decay(self) -> float:
        """Times the weight, added to its gradient."""


class Trained(TypedDict):
    """What `fit_best` returns: the best-validation net and its training."""

    state: dict[str, Tensor]  # of the lowest validation loss; state dict, CPU
    history: list[dict[str, Any]]  # one row an epoch
    epoch: int  # of the state
    gradient_norm: float  # of the mean training loss at the state, over survivors


Result = TypeVar("Result", bound=Mapping[str, object])
"""Of a stage: tensors and JSON values by name, which a resume file holds."""


class Trainings:
    """Trainings one after the other; what is done stays on disk while the others run."""

    def __init__(self, resume: ResumeFile | None) -> None:
        self._resume = resume
        self._done: dict[str, Any] = (resume.load() if resume is not None else None) or {}

    def run(self, name: str, work: Callable[[ResumeFile | None], Result]) -> Result:
        """The result of a stage: as saved, or of ``work``, which gets a resume file of its own."""
        if name not in self._done:
            own = None if self._resume is None else self._resume.beside(name)
            self._done[name] = work(own)
            if self._resume is not None and own is not None:
                self._resume.save(self._done)
                own.remove()
        result: Result = self._done[name]
        return result


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
        psp_entropy=run.psp_entropy,
        progress=run.progress,
        resume=resume,
    )


def fit_best(
    run: Run, flat: FlatModel, policy: RecipePolicy, optimiser: Optimiser, role: Role, resume: ResumeFile | None
) -> Trained:
    """Train, and go back to the best-validation state."""
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
) -> Trained:
    """Train ``model``, in place, with the recipe at fixed masks; returns as `fit_best`."""
    flat = FlatModel(model, compaction=run.compaction)
    if masks is not None:
        flat.set_masks(masks)
    return fit_best(run, flat, RecipePolicy(recipe), recipe, role, resume)


def fit_dense(run: Run, trainings: Trainings, recipe: RecipeSettings) -> tuple[nn.Module, list[dict[str, Any]]]:
    """The run's net trained from W0 without a mask, the same for every method, and the rows of its epochs."""
    model = copy.deepcopy(run.model)
    dense = trainings.run("dense", partial(fit_recipe, run, model, None, recipe, ("dense", 0)))
    return at(run, dense["state"]), dense["history"]


def at(run: Run, state: dict[str, Tensor], masks: Masks | None = None) -> nn.Module:
    """A net of the run's architecture on its device, with other weights and without what ``masks`` remove."""
    model = copy.deepcopy(run.model)
    model.load_state_dict(state)
    if masks is not None:
        apply_masks(model, masks)
    return model


def broken_at(model: nn.Module, image: Sequence[int], masks: Masks) -> list[str] | None:
    """The weights at which a pruned net breaks apart: those without a survivor, or all where each has some.

    Args:
        image: shape of one.

    Returns:
        Their names; empty where something leads from input to output, by `flops_effective` of
        `sharpminima.nets.counts.Counts`: an addition may lead past what is empty, and what is not empty may lead
        nowhere. None: the layers are such that their paths are not known.

    >>> net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> masks = {"0.weight": Tensor([[1], [0]]).bool(), "2.weight": Tensor([[0, 1]]).bool()}
    >>> broken_at(net, (1,), masks)  # one unit has no input, the other no output
    ['0.weight', '2.weight']
    """
    try:
        if count_net(model, image, masks).flops_effective:
            return []
    except AnalysisError:
        return None
    weights = [name for name, mask in masks.items() if mask.ndim > 1]
    return [name for name in weights if not masks[name].any()] or weights


def level_state(
    run: Run, level: float, number: int, masks: Masks, trained: Trained, epochs: int, *, reached: bool = True
) -> LevelState:
    """The state of a level, from what `fit_best` has returned.

    Args:
        number: of the event behind it.
        epochs: of all trainings behind it.
        reached: whether the masks remove what the level asks for.
    """
    facts: LevelFacts = {
        "epoch": trained["epoch"],
        "epochs": epochs,
        "event": number,
        "stage_complete": True,
        "collapsed": broken_at(at(run, trained["state"]), run.training.images.shape[1:], masks),
        "gradient_norm": trained["gradient_norm"],
    }
    if run.progress is not None:
        run.progress.note(f"level {level:g}: {100 * sparsity(masks):.3f} % removed")
    return LevelState(trained["state"], masks, reached, facts)

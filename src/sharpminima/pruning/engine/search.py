"""What most methods share: a search, for a fixed number of epochs, finds structure and weights; then the recipe.

The search is what a method is. It runs with the method's own policy (`SearchPolicy`), and ends with a state and masks.
From there on all methods do the same: the net is trained with those masks by the recipe, and its best-validation state
is the level's. So the epochs of the final training are equal for all, and those in all are recorded. A method with a
density dial searches once for each level, and ends with exactly the survivors asked for; one without searches once for
each of its strengths (`prune_by_sweep`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from sharpminima.base.errors import MethodError
from sharpminima.catalogue.methods.search import FromTrainedSettings, SearchSettings, SweepSettings
from sharpminima.nets.evaluation import Evaluation, gradient_norm
from sharpminima.nets.masks import Masks, count
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.distribution import survivors_at
from sharpminima.pruning.engine.method import Event, LevelState, Pruned, Run
from sharpminima.pruning.engine.promises import check_survivors, found_masks
from sharpminima.pruning.engine.trainings import Trained, Trainings, at, fit_dense, fit_recipe, level_state
from sharpminima.training import FlatModel, Group, Policy, falling_cosine


def rate_after(settings: SearchSettings, epochs: int) -> float:
    """The share of its first learning rate that a search trains at after so many epochs.

    >>> [rate_after(SearchSettings(epochs=4, lr_schedule="linear"), epoch) for epoch in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    >>> held = SearchSettings(epochs=4, lr_schedule="linear", lr_hold=0.5)
    >>> [rate_after(held, epoch) for epoch in range(4)]
    [1.0, 1.0, 1.0, 0.5]
    """
    done = epochs / settings.epochs
    match settings.lr_schedule:
        case "constant":
            return 1.0
        case "steps":
            return 10.0 ** -sum(epochs >= max(1, round(share * settings.epochs)) for share in settings.lr_falls)
        case "linear":
            return min(1.0, (1.0 - done) / (1.0 - settings.lr_hold))
        case "cosine":
            return falling_cosine(done)
        case "exponential":
            return float(settings.lr_last**done)


class SearchPolicy(Policy):
    """A training of so many epochs with the settings' optimiser and schedule; counts its steps.

    Args:
        lr: at first; None: that of the settings.
    """

    def __init__(self, run: Run, settings: SearchSettings, lr: float | None = None) -> None:
        self._search, self._first_lr = settings, settings.lr if lr is None else lr
        self.lr, self.max_epochs, self.done = self._first_lr, settings.epochs, False
        self.update_groups = (Group.of(settings),)
        self.steps_per_epoch = math.ceil(len(run.training.labels) / settings.batch_size)
        self.total_steps = self.steps_per_epoch * settings.epochs
        self.steps = 0  # done so far

    def after_step(self, flat: FlatModel) -> None:
        """Count the step; `state` holds the number."""
        self.steps += 1

    def after_epoch(self, flat: FlatModel, epoch: int, validation: Evaluation) -> None:
        """Set the coming epoch's rate, stop after the last; the validation decides nothing."""
        self.lr = self._first_lr * rate_after(self._search, epoch)
        self.done = epoch >= self.max_epochs

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and JSON values; a resume file holds it."""
        return {"done": self.done, "steps": self.steps, "lr": self.lr}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, to the same bits."""
        self.done, self.steps, self.lr = state["done"], state["steps"], state["lr"]


@dataclass(frozen=True)
class SearchResult:
    """What a search returns: a net, its masks, and how it got there."""

    state: dict[str, Tensor]  # the net at its end; state dict, CPU
    masks: Masks  # CPU
    history: list[dict[str, Any]]  # one row an epoch


def search_result(flat: FlatModel, masks: Masks, history: list[dict[str, Any]]) -> SearchResult:
    """The net as it is now, with its masks and the rows of its epochs."""
    return SearchResult(flat.state_dict(flat.snapshot()), masks, history)


Search = Callable[[Run, float, Any, ResumeFile | None], SearchResult]
"""(run, level or strength, settings, resume) -> what it has found."""


class SweepEvent(Event):
    """The event of a sweep: a strength, and what came of it."""

    strength: float
    validation_loss: float  # the best of the training with the masks; without one, the last of the search


def prune_by_search(run: Run, settings: SearchSettings, name: str, search: Search) -> Pruned:
    """Search, then train, for each level by itself.

    Raises:
        MethodError: a search returns masks that do not fit, or other survivors than the method promises.
    """

    def search_level(run: Run, level: float, settings: SearchSettings, resume: ResumeFile | None) -> SearchResult:
        got = checked_result(run, search(run, level, settings, resume))
        check_survivors(run.dial, level, got.masks, reached=_reaches(level, got.masks))
        return got

    trainings = Trainings(run.resume)
    run, history = _start(run, settings, trainings)
    before = len(history)
    levels: dict[float, LevelState] = {}
    for number, level in enumerate(run.levels, start=1):
        masks, trained, rows = _search_and_train(run, settings, trainings, name, search_level, level)
        reached = _reaches(level, masks)
        levels[level] = level_state(run, level, number, masks, trained, before + len(rows), reached=reached)
        history += rows
    most = max(state.facts["epochs"] for state in levels.values())
    return Pruned(levels=levels, history=history, events=[], epochs=most)


def prune_by_sweep(run: Run, settings: SweepSettings, name: str, search: Search) -> Pruned:
    """Search, then train, for each strength; a level has the best by validation of those that reached it.

    Where none did, it has the sparsest of all. A stronger pull does not always remove more, nor a sparser net always
    err more: what stands for a level is chosen as strengths are (`sharpminima tune`), on the validation split.
    Events are the strengths (`SweepEvent`).

    Raises:
        MethodError: a search returns masks that do not fit.
    """

    def search_strength(run: Run, strength: float, settings: SweepSettings, resume: ResumeFile | None) -> SearchResult:
        return checked_result(run, search(run, strength, settings, resume))

    trainings = Trainings(run.resume)
    run, history = _start(run, settings, trainings)
    before = len(history)
    events: list[SweepEvent] = []
    nets: list[tuple[Masks, Trained, int]] = []
    for number, strength in enumerate(settings.strengths, start=1):
        masks, trained, rows = _search_and_train(run, settings, trainings, name, search_strength, strength)
        nets.append((masks, trained, before + len(rows)))
        survivors, size = count(masks)
        rows_of_net = trained["history"] or rows[-1:]
        loss = min(row["validation_loss"] for row in rows_of_net)
        events.append(
            {
                "event": number,
                "strength": strength,
                "survivors": survivors,
                "sparsity": 1 - survivors / size,
                "validation_loss": loss,
            }
        )
        history += rows
    levels = {}
    for level in run.levels:
        reached = [event for event in events if event["sparsity"] >= level]
        chosen = (
            min(reached, key=lambda event: event["validation_loss"])
            if reached
            else max(events, key=lambda event: event["sparsity"])
        )
        number = chosen["event"]
        levels[level] = level_state(run, level, number, *nets[number - 1], reached=bool(reached))
    return Pruned(levels=levels, history=history, events=events, epochs=max(epochs for _, _, epochs in nets))


def checked_result(run: Run, got: Any) -> SearchResult:
    """What a search has returned, with the masks of all weights that may be removed.

    A resume file is to hold no other: what is mended would not be searched again.

    Raises:
        MethodError: it is no `SearchResult`, or its masks do not fit the run's net.
    """
    if not isinstance(got, SearchResult):
        raise MethodError(f"its search returns a {type(got).__name__}; return search_result(flat, masks, history)")
    return replace(got, masks=found_masks(run.model, got.masks))


def _reaches(level: float, masks: Masks) -> bool:
    """Whether no more survive than are asked for; of units it may be more, as no layer loses its last one."""
    survivors, size = count(masks)
    return survivors <= survivors_at(level, size)


def _start(run: Run, settings: SearchSettings, trainings: Trainings) -> tuple[Run, list[dict[str, Any]]]:
    """The run from where its searches begin, W0 or a net trained from it, and the rows of that training."""
    if not isinstance(settings, FromTrainedSettings) or settings.dense is None:
        return run, []
    model, rows = fit_dense(run, trainings, settings.dense)
    return replace(run, model=model), list(rows)


def _search_and_train(
    run: Run, settings: SearchSettings, trainings: Trainings, name: str, search: Search, target: float
) -> tuple[Masks, Trained, list[dict[str, Any]]]:
    """The masks for one level or strength, what `train_found` makes of them, and the rows of all epochs."""
    got = SearchResult(
        **trainings.run(f"search-{target!r}", lambda resume: vars(search(run, target, settings, resume)))
    )
    trained = train_found(run, settings, trainings, name, got, target)
    return got.masks, trained, [*got.history, *trained["history"]]


def train_found(
    run: Run, settings: SearchSettings, trainings: Trainings, name: str, got: SearchResult, target: float
) -> Trained:
    """What `fit_recipe` makes of a search's net; where the settings have no recipe, the net as it was found."""
    model = at(run, got.state, got.masks)
    if settings.recipe is None:
        norm = gradient_norm(model, run.training.images, run.training.labels)
        state = {key: tensor.detach().to("cpu", copy=True) for key, tensor in model.state_dict().items()}
        return Trained(state=state, history=[], epoch=len(got.history), gradient_norm=norm)
    work = partial(fit_recipe, run, model, got.masks, settings.recipe, (name, "mask"))
    return trainings.run(f"level-{target!r}", work)

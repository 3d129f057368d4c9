"""What most methods share: a search, for a fixed number of epochs, finds structure and weights; then the recipe.

The search is what a method is. It runs at constant rate with the method's own policy (`SearchPolicy`), and ends with
a state and masks. From there on all methods do the same: the net is trained with those masks by the recipe, and its
best-validation state is the level's. So the epochs of the final training are equal for all, and those in all are
recorded. A method with a density dial searches once for each level, and ends with exactly the survivors asked for; one
without searches once for each of its strengths (`prune_by_sweep`).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from sharpminima.catalogue.methods.search import SearchSettings, SweepSettings
from sharpminima.nets.evaluation import Evaluation, gradient_norm
from sharpminima.nets.masks import Masks, count
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.distribution import survivors_at
from sharpminima.pruning.engine.method import LevelState, Pruned, Run
from sharpminima.pruning.engine.trainings import Trainings, at, fit_recipe, level_state
from sharpminima.training import FlatModel, Policy


class SearchPolicy(Policy):
    """A training of so many epochs at constant rate; counts its steps."""

    def __init__(self, run: Run, settings: SearchSettings) -> None:
        self.lr, self.max_epochs, self.done = settings.lr, settings.epochs, False
        self.steps_per_epoch = math.ceil(len(run.training.labels) / settings.batch_size)
        self.total_steps = self.steps_per_epoch * settings.epochs
        self.steps = 0  # done so far

    def after_step(self, flat: FlatModel) -> None:
        """Count."""
        self.steps += 1

    def after_epoch(self, flat: FlatModel, epoch: int, validation: Evaluation) -> None:
        """Stop after the last."""
        self.done = epoch >= self.max_epochs

    def state(self) -> dict[str, Any]:
        """For a resume file."""
        return {"done": self.done, "steps": self.steps}

    def restore(self, state: dict[str, Any]) -> None:
        """From a resume file."""
        self.done, self.steps = state["done"], state["steps"]


def found(flat: FlatModel, masks: Masks, history: list[dict[str, Any]]) -> dict[str, Any]:
    """What a search returns: the net as it is now, its masks, and the rows of its epochs."""
    return {"state": flat.state_dict(flat.snapshot()), "masks": masks, "history": history}


Search = Callable[[Run, float, Any, ResumeFile | None], dict[str, Any]]
"""(run, level, settings, resume) -> `found`."""


def prune_by_search(run: Run, settings: SearchSettings, name: str, search: Search) -> Pruned:
    """Search, then train, for each level by itself; facts as of `level_state`."""
    trainings = Trainings(run.resume)
    history: list[dict[str, Any]] = []
    levels: dict[float, LevelState] = {}
    for number, level in enumerate(run.levels, start=1):
        masks, trained, rows = _search_and_train(run, settings, trainings, name, search, level)
        asked = survivors_at(level, count(masks)[1])
        reached = count(masks)[0] <= asked  # units: no layer loses its last one
        levels[level] = level_state(run, level, number, masks, trained, len(rows), reached=reached)
        history += rows
    most = max(state.facts["epochs"] for state in levels.values())
    return Pruned(levels=levels, history=history, events=[], epochs=most)


def prune_by_sweep(run: Run, settings: SweepSettings, name: str, search: Search) -> Pruned:
    """Search, then train, for each strength; a level has the weakest that reached it, else the sparsest of all.

    Events are the strengths: event (its number), strength, survivors, sparsity, best validation loss.
    """
    trainings = Trainings(run.resume)
    history: list[dict[str, Any]] = []
    events, nets = [], []
    for number, strength in enumerate(settings.strengths, start=1):
        masks, trained, rows = _search_and_train(run, settings, trainings, name, search, strength)
        nets.append((masks, trained, len(rows)))
        survivors, size = count(masks)
        loss = min(row["validation_loss"] for row in trained["history"])
        facts = {"strength": strength, "survivors": survivors, "sparsity": 1 - survivors / size}
        events.append({"event": number, **facts, "validation_loss": loss})
        history += rows
    levels = {}
    for level in run.levels:
        reached = [event["event"] for event in events if event["sparsity"] >= level]
        number = reached[0] if reached else max(events, key=lambda event: event["sparsity"])["event"]
        levels[level] = level_state(run, level, number, *nets[number - 1], reached=bool(reached))
    return Pruned(levels=levels, history=history, events=events, epochs=max(epochs for _, _, epochs in nets))


def _search_and_train(
    run: Run, settings: SearchSettings, trainings: Trainings, name: str, search: Search, target: float
) -> tuple[Masks, dict[str, Any], list[dict[str, Any]]]:
    """The masks for one level or strength, what `fit_recipe` makes of them, and the rows of all epochs."""
    got = trainings.run(f"search-{target!r}", partial(search, run, target, settings))
    masks = got["masks"]
    model = at(run, got["state"], masks)
    if settings.recipe is None:
        norm = gradient_norm(model, run.training.images, run.training.labels)
        trained = {"state": got["state"], "history": [], "epoch": len(got["history"]), "gradient_norm": norm}
    else:
        work = partial(fit_recipe, run, model, masks, settings.recipe, (name, "mask"))
        trained = trainings.run(f"level-{target!r}", work)
    return masks, trained, [*got["history"], *trained["history"]]

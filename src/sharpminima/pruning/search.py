"""What most methods share: a search, for a fixed number of epochs, finds structure and weights; then the recipe.

The search is what a method is. It runs at constant rate with the method's own policy (`SearchPolicy`), and ends with
a state and masks. From there on all methods do the same: the net is trained with those masks by the recipe, and its
best-validation state is the level's. So the epochs of the final training are equal for all, and those in all are
recorded. A method with a density dial searches once for each level, and ends with exactly the survivors asked for.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field

from sharpminima.evaluation import Evaluation
from sharpminima.masks import Masks
from sharpminima.pruning.method import LevelState, Pruned, Run
from sharpminima.pruning.stages import Stages, at, fit_recipe, level_state
from sharpminima.resume import ResumeFile
from sharpminima.settings import PositiveInt, RecipeSettings, Settings
from sharpminima.training import FlatModel, Policy

Share = Annotated[float, Field(gt=0, le=1)]


class SearchSettings(Settings):
    """Of the search, and of the training that follows it."""

    revision: Literal[1] = 1
    epochs: PositiveInt = Field(40, description="of the search, at constant rate")
    lr: Annotated[float, Field(gt=0)] = 0.1
    batch_size: PositiveInt = 100
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    recipe: RecipeSettings = Field(RecipeSettings(), description="training with the masks that were found")


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


def prune_by_search(run: Run, settings: SearchSettings, *, name: str, search: Search) -> Pruned:
    """Search, then train, for each level by itself; facts as of `level_state`."""
    stages = Stages(run.resume)
    history: list[dict[str, Any]] = []
    levels: dict[float, LevelState] = {}
    for number, level in enumerate(run.levels, start=1):
        got = stages.run(f"search-{level!r}", partial(search, run, level, settings))
        model = at(run, got["state"], got["masks"])
        work = partial(fit_recipe, run, model, got["masks"], settings.recipe, (name, "mask"))
        trained = stages.run(f"level-{level!r}", work)
        rows = [*got["history"], *trained["history"]]
        levels[level] = level_state(run, level, number, got["masks"], trained, len(rows))
        history += rows
    most = max(state.facts["epochs"] for state in levels.values())
    return Pruned(levels=levels, history=history, events=[], epochs=most)

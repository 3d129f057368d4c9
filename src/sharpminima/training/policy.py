"""What a training does beyond SGD: learning rate, best state, when to stop. Gradual methods are policies too."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from sharpminima.catalogue.recipes import RecipeSettings
from sharpminima.nets.evaluation import Evaluation
from sharpminima.training.flat import FlatModel
from sharpminima.training.optimiser import Group


class Policy(ABC):
    """Called by the engine; owns everything that is not the model, the optimiser or the order of the images.

    What is asked for before and after a step does nothing where a policy has no use of it.
    """

    lr: float  # of the coming epoch
    done: bool  # no further epoch
    max_epochs: int  # at most, for the progress line
    update_groups: Sequence[
        Group
    ] = ()  # how parameters move; none: all alike, by the training's momentum and weight decay

    def before_step(self, flat: FlatModel, images: Tensor, labels: Tensor) -> None:  # noqa: B027
        """Before each SGD step, when ``flat.gradients`` are those of its mini-batch; a penalty adds its own here."""

    def after_step(self, flat: FlatModel) -> None:  # noqa: B027
        """After each SGD step; ``flat.gradients`` is still that of the step's mini-batch."""

    @abstractmethod
    def after_epoch(self, flat: FlatModel, epoch: int, validation: Evaluation) -> None:
        """After each epoch (numbered from 1), with the validation of the model as it is now."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Nested tensors and JSON values from which `restore` goes on."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, to the same bits."""


def falling_cosine(done: float) -> float:
    """What is left of a rate that falls from 1 to 0 by half a cosine (Loshchilov, Hutter, "SGDR", 2017, eq. 5).

    Args:
        done: share of the training that is over, 0 to 1.

    >>> [round(falling_cosine(done), 3) for done in (0.0, 1 / 3, 0.5, 1.0)]
    [1.0, 0.75, 0.5, 0.0]
    """
    return (1.0 + math.cos(math.pi * done)) / 2


class Best:
    """The state of the lowest validation loss so far; an equal loss does not replace it.

    Args:
        last: the newest state counts instead, whatever its loss.
    """

    def __init__(self, *, last: bool = False) -> None:
        self._last = last
        self.loss = float("inf")
        self.epoch = 0
        self.snapshot: dict[str, Tensor] | None = None

    def offer(self, flat: FlatModel, epoch: int, loss: float) -> bool:
        """Keep the model's state if ``loss`` is lower than all before, or the newest counts; whether it is kept."""
        if loss >= self.loss and not self._last:
            return False
        self.loss, self.epoch, self.snapshot = loss, epoch, flat.snapshot()
        return True

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and JSON values; a resume file holds it."""
        return {"loss": self.loss, "epoch": self.epoch, "snapshot": self.snapshot}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, to the same bits."""
        self.loss, self.epoch, self.snapshot = state["loss"], state["epoch"], state["snapshot"]


class RecipePolicy(Policy):
    """The dense recipe: a schedule of the learning rate, and the best-validation state kept.

    See `RecipeSettings.schedule`. The paper says only "standard training"; the numbers are ours.
    """

    def __init__(self, settings: RecipeSettings) -> None:
        self._settings = settings
        self.lr = settings.lr
        self.max_epochs = settings.max_epochs
        self.done = False
        self.best = Best(last=settings.state == "last")
        if settings.nesterov or settings.optimiser != "sgd":
            self.update_groups = (Group.of(settings),)
        self._waited = 0  # epochs since the best one or the last reduction

    def after_epoch(self, flat: FlatModel, epoch: int, validation: Evaluation) -> None:
        """Keep the best state, lower the rate, stop."""
        settings = self._settings
        self._waited = 0 if self.best.offer(flat, epoch, validation.loss) else self._waited + 1
        if settings.schedule == "plateau":
            if self._waited >= settings.patience:
                self.lr /= 10
                self._waited = 0
            self.done = epoch - self.best.epoch >= settings.stop_after
        elif settings.schedule == "steps" and epoch in settings.milestones:
            self.lr /= 10
        elif settings.schedule == "cosine":
            self.lr = settings.lr * falling_cosine(epoch / settings.max_epochs)
        self.done = self.done or epoch >= settings.max_epochs

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and JSON values; a resume file holds it."""
        return {"lr": self.lr, "done": self.done, "waited": self._waited, "best": self.best.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, to the same bits."""
        self.lr, self.done, self._waited = state["lr"], state["done"], state["waited"]
        self.best.restore(state["best"])

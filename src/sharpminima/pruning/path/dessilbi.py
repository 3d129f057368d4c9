"""DessiLBI: the whole path from the empty to the dense structure, in one training.

Fu, Liu, Li, Sun, Zeng, Yao, "DessiLBI: exploring structural sparsity of deep networks via differential inclusion
paths", ICML 2020. Beside the weights W run Z and Gamma, both 0 at the start:

    W <- W - kappa lr (g + (W - Gamma) / nu),  Z <- Z + (lr / nu) (W - Gamma),  Gamma <- kappa Prox(Z)

with Prox the soft threshold at 1 for fully connected layers, and Z max(0, 1 - 1 / ||Z||) for each filter of a
convolution. As in the authors' code, a momentum buffer stands in the place of g, and Z moves by the W before its own
step. The sparse model is W where Gamma is not zero; what matters enters first. A level is the last point of the path
at which the share asked for was still out; the path, a row an epoch, is among the run's events.
"""

import copy
from functools import partial
from typing import Any, TypedDict

import torch
from torch import Tensor

from sharpminima.catalogue.methods.path import DessilbiSettings
from sharpminima.nets.evaluation import Evaluation
from sharpminima.nets.masks import Masks, all_masks, count, sparsity
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.method import Event, LevelState, Pruned, Run
from sharpminima.pruning.engine.search import SearchPolicy
from sharpminima.pruning.engine.trainings import Trainings, at, fit, fit_recipe, level_state
from sharpminima.training import FlatModel


def prox(z: Tensor) -> Tensor:
    """Shrinks each weight of a matrix by 1, and the norm of each filter of a convolution by 1."""
    if z.ndim == 2:
        return z.sign() * (z.abs() - 1).relu()
    norms = torch.linalg.vector_norm(z, dim=(1, 2, 3), keepdim=True)
    return torch.where(norms > 1, z * (1 - 1 / norms), 0.0)


class Point(TypedDict):
    """A point of the path."""

    state: dict[str, Tensor]  # state dict, CPU
    masks: Masks  # where Gamma is not zero, CPU


class PathEvent(Event):
    """The path after an epoch."""

    epoch: int
    density_per_layer: dict[str, float]


class FoundPath(TypedDict):
    """What the search returns."""

    levels: dict[str, Point]  # repr of the level -> the last point before it was passed
    events: list[PathEvent]
    history: list[dict[str, Any]]  # one row an epoch


class Path(SearchPolicy):
    """Z and Gamma beside the weights; keeps the state at which each level was passed."""

    def __init__(self, run: Run, settings: DessilbiSettings, flat: FlatModel) -> None:
        super().__init__(run, settings)
        self._settings, self._levels = settings, run.levels
        self.lr = settings.kappa * settings.lr
        self.names = list(all_masks(flat.model))
        self._z, self._gamma = torch.zeros_like(flat.values), torch.zeros_like(flat.values)
        self._coupled = flat.indicator(self.names)
        self.passed: dict[str, Point] = {}
        self.events: list[PathEvent] = []

    def support(self, flat: FlatModel) -> Masks:
        """Masks (CPU): True where Gamma is not zero."""
        return {name: (flat.view(self._gamma, name) != 0).cpu() for name in self.names}

    def here(self, flat: FlatModel) -> Point:
        """The net and its masks as they are at this step."""
        return {"state": flat.state_dict(flat.snapshot()), "masks": self.support(flat)}

    def before_step(self, flat: FlatModel, images: Tensor, labels: Tensor) -> None:
        """Move Z by the weights as they are."""
        self._pull = (flat.values - self._gamma).mul_(self._coupled)
        self._z.add_(self._pull, alpha=self._settings.lr / self._settings.nu)

    @torch.no_grad()
    def after_step(self, flat: FlatModel) -> None:
        """Pull the weights to Gamma, then let Gamma follow Z."""
        flat.values.add_(self._pull, alpha=-self.lr / self._settings.nu)
        gamma = torch.zeros_like(self._gamma)
        for name in self.names:
            flat.view(gamma, name).copy_(self._settings.kappa * prox(flat.view(self._z, name)))
        if (gamma != 0).count_nonzero() != (self._gamma != 0).count_nonzero():
            share_out = 1.0 - int((gamma != 0).count_nonzero()) / int(self._coupled.sum())
            for level in self._levels:
                if repr(level) not in self.passed and share_out < level:
                    self.passed[repr(level)] = self.here(flat)
        self._gamma = gamma
        super().after_step(flat)

    def after_epoch(self, flat: FlatModel, epoch: int, validation: Evaluation) -> None:
        """Record the path's density, whole and by layer; stop after the last epoch."""
        super().after_epoch(flat, epoch, validation)
        support = self.support(flat)
        self.events.append(
            {
                "event": epoch,
                "epoch": epoch,
                "survivors": count(support)[0],
                "sparsity": sparsity(support),
                "density_per_layer": {name: float(mask.double().mean()) for name, mask in support.items()},
            }
        )

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and JSON values; a resume file holds it."""
        mine = {"z": self._z, "gamma": self._gamma, "passed": self.passed, "events": self.events}
        return {**super().state(), **mine}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, to the same bits."""
        super().restore(state)
        self._z.copy_(state["z"])
        self._gamma.copy_(state["gamma"])
        self.passed, self.events = state["passed"], state["events"]


def search(run: Run, settings: DessilbiSettings, resume: ResumeFile | None) -> FoundPath:
    """The path from W0; a level that is never passed has the last state."""
    flat = FlatModel(copy.deepcopy(run.model))
    policy = Path(run, settings, flat)
    history = fit(run, flat, policy, settings, ("dessilbi", "search"), resume)
    last = policy.here(flat)
    return {
        "levels": {repr(level): policy.passed.get(repr(level), last) for level in run.levels},
        "events": policy.events,
        "history": history,
    }


def prune(run: Run, settings: DessilbiSettings) -> Pruned:
    """One path, then a training at each level's masks."""
    trainings = Trainings(run.resume)
    path = trainings.run("path", partial(search, run, settings))
    history = list(path["history"])
    levels: dict[float, LevelState] = {}
    for number, level in enumerate(run.levels, start=1):
        masks = path["levels"][repr(level)]["masks"]
        model = at(run, path["levels"][repr(level)]["state"], masks)
        work = partial(fit_recipe, run, model, masks, settings.recipe, ("dessilbi", "mask"))
        trained = trainings.run(f"level-{level!r}", work)
        spent = len(path["history"]) + len(trained["history"])
        levels[level] = level_state(run, level, number, masks, trained, spent)
        history += trained["history"]
    most = max(state.facts["epochs"] for state in levels.values())
    return Pruned(levels=levels, history=history, events=path["events"], epochs=most)

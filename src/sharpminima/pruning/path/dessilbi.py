"""DessiLBI: the whole path from the empty to the dense structure, in one training.

Fu, Liu, Li, Sun, Zeng, Yao, "DessiLBI: exploring structural sparsity of deep networks via differential inclusion
paths", ICML 2020. Beside the weights W run Z and Gamma, both 0 at the start:

    W <- W - kappa lr (g + (W - Gamma) / nu),  Z <- Z + (lr / nu) (W - Gamma),  Gamma <- kappa Prox(Z)

with Prox the soft threshold at 1 for fully connected layers, and Z max(0, 1 - 1 / ||Z||) for each filter of a
convolution. As in the authors' code, a momentum buffer stands in the place of g, Z moves by the W before its own step,
and lr falls to a tenth after each third. What matters enters first; the path, a row an epoch, is among the run's
events.

A level is of the weights at the end. As in the authors' code each tensor by itself keeps, to the share asked for, the
highest of |w| - e, e the first epoch after which Gamma was not zero; what never entered comes after all. Theirs removes
whole filters of a convolution by ||w|| - e of the filter; ours single weights, so that levels are of weights. Filters
enter whole, and early: with one order over all tensors the first fully connected layer of LeNet-5 would be empty.
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
from sharpminima.pruning.engine.distribution import keep_best, survivors_at
from sharpminima.pruning.engine.method import Event, LevelState, Pruned, Run
from sharpminima.pruning.engine.search import SearchPolicy, SearchResult, train_found
from sharpminima.pruning.engine.trainings import Trainings, fit, level_state
from sharpminima.training import FlatModel

_NEVER = 1e4  # an epoch after all


def prox(z: Tensor) -> Tensor:
    """Shrinks each weight of a matrix by 1, and the norm of each filter of a convolution by 1."""
    if z.ndim == 2:
        return z.sign() * (z.abs() - 1).relu()
    norms = torch.linalg.vector_norm(z, dim=(1, 2, 3), keepdim=True)
    return torch.where(norms > 1, z * (1 - 1 / norms), 0.0)


class PathEvent(Event):
    """The path after an epoch."""

    epoch: int
    density_per_layer: dict[str, float]


class FoundPath(TypedDict):
    """What the search returns."""

    state: dict[str, Tensor]  # at the end; state dict, CPU
    order: dict[str, Tensor]  # of each weight; the highest matter most, CPU
    events: list[PathEvent]
    history: list[dict[str, Any]]  # one row an epoch


class Path(SearchPolicy):
    """Z and Gamma beside the weights; records when each weight entered."""

    def __init__(self, run: Run, settings: DessilbiSettings, flat: FlatModel) -> None:
        super().__init__(run, settings, settings.kappa * settings.lr)
        self._settings = settings
        self.names = list(all_masks(flat.model))
        self._z, self._gamma = torch.zeros_like(flat.values), torch.zeros_like(flat.values)
        self._coupled = flat.indicator(self.names)
        self._entered = torch.full_like(flat.values, _NEVER)  # the first epoch after which Gamma was not zero
        self.events: list[PathEvent] = []

    def support(self, flat: FlatModel) -> Masks:
        """Masks (CPU): True where Gamma is not zero."""
        return {name: (flat.view(self._gamma, name) != 0).cpu() for name in self.names}

    def order(self, flat: FlatModel) -> dict[str, Tensor]:
        """|w| less the epoch of entry, of each weight, by name (CPU)."""
        order = flat.values.abs().double() - self._entered
        return {name: flat.view(order, name).cpu() for name in self.names}

    def before_step(self, flat: FlatModel, images: Tensor, labels: Tensor) -> None:
        """Move Z by the weights as they are."""
        self._pull = (flat.values - self._gamma).mul_(self._coupled)
        self._z.add_(self._pull, alpha=self.lr / self._settings.kappa / self._settings.nu)

    @torch.no_grad()
    def after_step(self, flat: FlatModel) -> None:
        """Pull the weights to Gamma, then let Gamma follow Z."""
        flat.values.add_(self._pull, alpha=-self.lr / self._settings.nu)
        for name in self.names:
            flat.view(self._gamma, name).copy_(self._settings.kappa * prox(flat.view(self._z, name)))
        super().after_step(flat)

    def after_epoch(self, flat: FlatModel, epoch: int, validation: Evaluation) -> None:
        """Record what has entered, and the path's density, whole and by layer; stop after the last epoch."""
        super().after_epoch(flat, epoch, validation)
        self._entered[(self._gamma != 0) & (self._entered == _NEVER)] = epoch
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
        mine = {"z": self._z, "gamma": self._gamma, "entered": self._entered, "events": self.events}
        return {**super().state(), **mine}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, to the same bits."""
        super().restore(state)
        for mine, saved in ((self._z, "z"), (self._gamma, "gamma"), (self._entered, "entered")):
            mine.copy_(state[saved])
        self.events = state["events"]


def search(run: Run, settings: DessilbiSettings, resume: ResumeFile | None) -> FoundPath:
    """The path from W0 to its end."""
    flat = FlatModel(copy.deepcopy(run.model))
    policy = Path(run, settings, flat)
    history = fit(run, flat, policy, settings, ("dessilbi", "search"), resume)
    state = flat.state_dict(flat.snapshot())
    return {"state": state, "order": policy.order(flat), "events": policy.events, "history": history}


def prune(run: Run, settings: DessilbiSettings) -> Pruned:
    """One path, then a training at each level's masks."""
    trainings = Trainings(run.resume)
    path = trainings.run("path", partial(search, run, settings))
    history = list(path["history"])
    levels: dict[float, LevelState] = {}
    for number, level in enumerate(run.levels, start=1):
        survivors = survivors_at(level, sum(order.numel() for order in path["order"].values()))
        masks = keep_best(path["order"], survivors, settings.distribution)
        got = SearchResult(path["state"], masks, path["history"])
        trained = train_found(run, settings, trainings, "dessilbi", got, level)
        spent = len(path["history"]) + len(trained["history"])
        levels[level] = level_state(run, level, number, masks, trained, spent)
        history += trained["history"]
    most = max(state.facts["epochs"] for state in levels.values())
    return Pruned(levels=levels, history=history, events=path["events"], epochs=most)

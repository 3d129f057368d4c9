"""SGD and Adam on a `FlatModel`, by groups of parameters, so that what a method has frozen never moves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from sharpminima.training.flat import FlatModel

_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8  # of Adam, as torch and all authors have them

Kind = Literal["sgd", "adam"]


class Update(Protocol):
    """What a group takes from the settings of a recipe or of a search."""

    @property
    def optimiser(self) -> Kind:
        """What steps are made of."""

    @property
    def momentum(self) -> float:
        """In [0, 1)."""

    @property
    def nesterov(self) -> bool:
        """Whether a step looks ahead along its momentum."""

    @property
    def weight_decay(self) -> float:
        """Times the parameter, added to its gradient."""


@dataclass
class Group:
    """Parameters that move alike. What is in no group, or in a frozen one, keeps its bits, and so do its moments."""

    names: tuple[str, ...] | None = None  # of the model's parameters; None: all
    kind: Kind = "sgd"
    rate: float = 1.0  # times the training's learning rate
    momentum: float = 0.0  # of SGD
    nesterov: bool = False
    weight_decay: float = 0.0
    dense: bool = False  # momentum is that of `FlatModel.unmasked`: what is removed has one too, and does not move
    frozen: bool = False  # at present; a policy may change it between two steps

    @classmethod
    def of(cls, settings: Update, names: Sequence[str] | None = None) -> "Group":
        """A group that moves as the settings say, at the training's learning rate.

        >>> from sharpminima.catalogue.recipes import RecipeSettings
        >>> Group.of(RecipeSettings(momentum=0.9), ["fc1.weight"]).momentum
        0.9
        """
        chosen = None if names is None else tuple(names)
        return cls(chosen, settings.optimiser, 1.0, settings.momentum, settings.nesterov, settings.weight_decay)


class Optimiser:
    """The arithmetic of ``torch.optim.SGD`` and ``torch.optim.Adam`` on a `FlatModel`.

    Removed parameters have no gradient, so weights and moments stay zero there as well.

    Attributes:
        groups: disjoint; without any, all parameters are one group of plain SGD.
        first: momentum, or Adam's mean of gradients [..., P]; None where no group has any.
        second: Adam's mean of squared gradients [..., P]; None without Adam.
    """

    def __init__(self, flat: FlatModel, groups: Sequence[Group] = ()) -> None:
        self._flat = flat
        self.groups = tuple(groups) or (Group(),)
        self._spans = [flat.spans(group.names) for group in self.groups]
        self._steps = [0] * len(self.groups)  # each has made
        adam = any(group.kind == "adam" for group in self.groups)
        self.first = torch.zeros_like(flat.values) if adam or any(group.momentum for group in self.groups) else None
        self.second = torch.zeros_like(flat.values) if adam else None

    @torch.no_grad()
    def step(self, lr: float | Tensor) -> None:
        """One update at learning rate ``lr``, a number or one a replica [R, 1]."""
        for number, (group, spans) in enumerate(zip(self.groups, self._spans, strict=True)):
            if group.frozen:
                continue
            self._steps[number] += 1
            for span in spans:
                if group.kind == "adam":
                    self._adam(group, span, lr * group.rate, self._steps[number])
                else:
                    self._sgd(group, span, lr * group.rate)

    def _sgd(self, group: Group, span: slice, lr: float | Tensor) -> None:
        flat = self._flat
        values, mask = flat.values[..., span], None if flat.mask is None else flat.mask[..., span]
        source = flat.unmasked if group.dense else flat.gradients
        assert source is not None  # ``dense`` is of models that have it
        update = source[..., span]
        if group.weight_decay:
            update = update.add(values, alpha=group.weight_decay)
        if group.momentum:
            assert self.first is not None
            buffer = self.first[..., span].mul_(group.momentum).add_(update)
            if mask is not None and not group.dense:
                # A mask set since the last step must not leave momentum that would revive a weight.
                buffer.mul_(mask)
            update = update.add(buffer, alpha=group.momentum) if group.nesterov else buffer
        if group.dense and mask is not None:
            update = update * mask
        _subtract(values, update, lr)

    def _adam(self, group: Group, span: slice, lr: float | Tensor, steps: int) -> None:
        flat = self._flat
        assert self.first is not None
        assert self.second is not None
        values, gradient = flat.values[..., span], flat.gradients[..., span]
        first, second = self.first[..., span], self.second[..., span]
        if group.weight_decay:
            gradient = gradient.add(values, alpha=group.weight_decay)
        first.lerp_(gradient, 1 - _BETA1)
        second.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
        if flat.mask is not None:
            first.mul_(flat.mask[..., span])
            second.mul_(flat.mask[..., span])
        spread = (second / (1 - _BETA2**steps)).sqrt_().add_(_EPS)
        _subtract(values, first / spread, lr / (1 - _BETA1**steps))

    def keep(self, places: list[int]) -> None:
        """Go on with some of the replicas, as `FlatReplicas.keep`."""
        self.first = None if self.first is None else self.first[places]
        self.second = None if self.second is None else self.second[places]

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and JSON values; a resume file holds it."""
        return {"first": self.first, "second": self.second, "steps": self._steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, to the same bits."""
        self._steps = list(state["steps"])
        for mine, saved in ((self.first, state["first"]), (self.second, state["second"])):
            if mine is not None:
                mine.copy_(saved)


def _subtract(values: Tensor, update: Tensor, lr: float | Tensor) -> None:
    """In place, ``lr`` times the update."""
    if isinstance(lr, Tensor):
        values.addcmul_(update, lr, value=-1)
    else:
        values.add_(update, alpha=-lr)

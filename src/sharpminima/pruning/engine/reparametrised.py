"""Nets whose weights are computed from other parameters: gates, scores, means and variances.

The whole is a module of its own, so that the one training loop, its best states and resume files serve it unchanged.
Noise comes from a generator a step, and the number of the step is a buffer: a resumed training draws the same.
"""

import copy
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sharpminima.catalogue.methods.search import LearnedSettings, SearchSettings
from sharpminima.nets.masks import Masks, all_masks
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.activations import running_order
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.engine.search import SearchPolicy
from sharpminima.pruning.engine.trainings import fit
from sharpminima.runtime.rng import generator
from sharpminima.training import FlatModel, Group


def free_name(module: nn.Module, name: str) -> str:
    """``name`` as a parameter or buffer of ``module`` may be called: without dots, and as nothing else of it is.

    ``fc.1.weight`` and ``fc_1.weight`` of one net are two.

    >>> module = nn.ParameterDict({"fc_1_weight": torch.ones(1)})
    >>> free_name(module, "fc.1.weight"), free_name(module, "fc.2.weight")
    ('fc_1_weight_', 'fc_2_weight')
    """
    free = name.replace(".", "_")
    while hasattr(module, free):
        free += "_"
    return free


class Reparametrised(nn.Module, ABC):
    """A net under other parameters; subclasses compute the `weights`.

    Args:
        run: whose model is copied.
        name: of the method, for the noise.
    """

    step: Tensor  # int64 []: steps of training so far

    def __init__(self, run: Run, name: str) -> None:
        super().__init__()
        self.model = copy.deepcopy(run.model)
        self._role = (run.seed, name, "noise")
        self.names = list(all_masks(self.model))
        self.added = nn.ParameterDict()
        self._keys: dict[str, str] = {}  # what was added for -> its key
        device = next(self.model.parameters()).device
        self.register_buffer("step", torch.zeros((), dtype=torch.int64, device=device))

    def add(self, name: str, value: Tensor) -> None:
        """A parameter that belongs to the net's parameter ``name``."""
        self._keys[name] = free_name(self.added, name)
        self.added[self._keys[name]] = nn.Parameter(value)

    def of(self, name: str) -> Tensor:
        """The parameter that was added for the net's parameter ``name``."""
        return self.added[self._keys[name]]

    def base(self, name: str) -> Tensor:
        """The net's own parameter ``name``, as it is trained or frozen."""
        return self.model.get_parameter(name)

    @property
    def watched(self) -> nn.Module:
        """The net whose ReLUs are neurons (`sharpminima.training.FlatModel`): gates are clamped too, and are none."""
        return self.model

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """What stands in place of the net's parameters, by name; with noise in training mode only."""

    def noise(self) -> torch.Generator:
        """The random numbers of this step (CPU)."""
        return generator(*self._role, int(self.step))

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] to logits [N, classes], computed with `weights`; in training mode a step further."""
        if self.training:
            self.step += 1
        return functional_call(self.model, self.weights(), (images,))

    def masks(self) -> Masks:
        """What is left, by the weights of eval mode."""
        with torch.no_grad():
            was_training = self.training
            self.eval()
            weights = self.weights()
            self.train(was_training)
        return {name: (weights[name] != 0).cpu() for name in self.names}

    @torch.no_grad()
    def folded(self) -> dict[str, Tensor]:
        """A state dict of the net alone, with the weights of eval mode, on the CPU."""
        was_training = self.training
        self.eval()
        state = {**self.model.state_dict(), **self.weights()}
        self.train(was_training)
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}

    def penalty(self) -> Tensor | None:
        """What is added to the loss, if anything."""
        return None


Net = TypeVar("Net", bound=Reparametrised)


def first_layer(run: Run) -> str:
    """The layer with weights that runs first, wherever the net has it among its modules."""
    layers = [name.rpartition(".")[0] for name in all_masks(run.model)]
    return running_order(run.model, layers, run.training.images[:1])[0]


class Learning(SearchPolicy, Generic[Net]):
    """Trains a `Reparametrised` net with its penalty: the weights as the settings say, what was added by itself.

    Gates and scores see gradients that are smaller than those of weights by the size of a weight or by the number of
    images: they have a rate of their own, or Adam. Momentum and weight decay of the weights are not theirs.

    Args:
        added: how what was added moves; its ``rate`` is times the learning rate. None: by plain SGD at that rate.
        frozen: whether all of the net's own parameters stay as they are, to the bit.
        bounds: least and largest value of what was added, to which it is clipped after each step.
    """

    def __init__(
        self,
        run: Run,
        settings: SearchSettings,
        flat: FlatModel,
        *,
        added: Group | None = None,
        frozen: bool = False,
        bounds: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(run, settings)
        self._bounds = bounds
        names = [name for name, _ in flat.model.named_parameters()]
        self.own = Group.of(settings, [name for name in names if name.startswith("model.")])
        self.own.frozen = frozen
        self.added = added or Group()
        self.added.names = tuple(name for name in names if name.startswith("added."))
        self.update_groups = (self.own, self.added)

    def net(self, flat: FlatModel) -> Net:
        """The net that is trained, as what it is."""
        return cast(Net, flat.model)

    def before_step(self, flat: FlatModel, images: Tensor, labels: Tensor) -> None:
        """Add the penalty's gradient."""
        penalty = self.net(flat).penalty()
        if penalty is not None:
            penalty.backward()  # accumulates in ``flat.gradients``

    @torch.no_grad()
    def after_step(self, flat: FlatModel) -> None:
        """Count the step, and clip what was added to its bounds."""
        super().after_step(flat)
        if self._bounds is not None:
            for name in self.added.names or ():
                flat.view(flat.values, name).clamp_(*self._bounds)


def by_sgd(settings: LearnedSettings, rate: float = 1.0) -> Group:
    """What is added moves by SGD at ``rate`` times the learning rate."""
    return Group(rate=rate, momentum=settings.added_momentum, weight_decay=settings.added_weight_decay)


def by_adam(settings: LearnedSettings, lr: float) -> Group:
    """What is added moves by Adam, at ``lr`` as long as the search is at its first rate."""
    return Group(kind="adam", rate=lr / settings.lr, weight_decay=settings.added_weight_decay)


def learn(
    run: Run,
    net: Reparametrised,
    settings: SearchSettings,
    name: str,
    resume: ResumeFile | None,
    policy: type[Learning[Any]],
    **how: Any,
) -> list[dict[str, Any]]:
    """Train ``net``, in place; the rows of its epochs."""
    flat = FlatModel(net)
    return fit(run, flat, policy(run, settings, flat, **how), settings, (name, "search"), resume)

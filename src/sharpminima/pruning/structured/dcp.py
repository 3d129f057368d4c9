"""DCP, discrimination-aware channel pruning: Zhuang, Tan, Zhuang, Liu, Guo, Wu, Huang, Zhu, "Discrimination-aware
channel pruning for deep neural networks", NeurIPS 2018.

A trained net is trained on with auxiliary losses, of classifiers halfway (`sharpminima.pruning.engine.auxiliary`), so
that what it knows there is discriminative. Then layer after layer chooses which units it goes on reading. With Y and Y'
what the layer gives in the whole net and in the pruned one, and p' the outputs of the next classifier, or of the net,

    L(W) = mean (Y - Y')^2 + cross-entropy of p'

is a function of the weights W that read units, which are 0 at first. The unit whose weights have the largest gradient,
as the sum over outputs of the norm over positions, comes back with its weights; then what has come back, and the bias,
is fitted to L for a pass over the images; and so on, up to the number that is to stay.

Choice, fit and both losses are as in the authors' code, with its optimiser: Nesterov's momentum of .9, decay of 1e-4,
at .01 for the fit; auxiliary losses have their weights there. Ours: the same optimiser and rate for all of the search,
whose first part (`begin`) trains with auxiliary losses alone, and which trains on with them after each layer; a
classifier is one linear layer, of units where they are read, behind BatchNorm and ReLU, which theirs brings along; the
images of a choice are a sample; the weights of other units, where a layer reads some, stay; and the whole net is that
at the first layer's turn.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from sharpminima.catalogue.methods.structured import DcpSettings
from sharpminima.nets.compaction import Units
from sharpminima.nets.masks import Masks
from sharpminima.nets.modes import eval_mode
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.activations import watched
from sharpminima.pruning.engine.auxiliary import Classified
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.engine.ranking import highest_first
from sharpminima.pruning.engine.search import SearchResult
from sharpminima.pruning.engine.straight_through import masked
from sharpminima.pruning.engine.total import total
from sharpminima.pruning.engine.trainings import fit
from sharpminima.pruning.structured.layer_by_layer import LayerByLayer
from sharpminima.training import FlatModel


def gradient_norms(gradient: Tensor) -> Tensor:
    """Of weights [outputs, units, ...], the sum over outputs of each unit's norm [units].

    >>> gradient_norms(torch.tensor([[[3.0, 4.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 2.0]]]))
    tensor([5., 3.])
    """
    return gradient.flatten(2).norm(dim=2).sum(0)


class Choice:
    """The weights by which layers read some units, to be chosen from: 0 but for those that have come back.

    Args:
        model: unchanged until `write`.
        group: the units.
        update: makes an optimiser of parameters.
    """

    def __init__(self, model: nn.Module, group: Units, update: Callable[[list[Tensor]], torch.optim.Optimizer]) -> None:
        parameters = dict(model.named_parameters())
        device = next(iter(parameters.values())).device
        self._name, self._update = group.name, update
        self._columns = {f"{name}.weight": inputs.to(device) for name, inputs in group.readers.items()}
        self._base = {name: parameters[name].detach().clone() for name in self._columns}
        self.whole = {name: self._of_units(name, weight) for name, weight in self._base.items()}
        self.weights = {name: torch.zeros_like(weight).requires_grad_() for name, weight in self.whole.items()}
        biases = (f"{name}.bias" for name in group.readers)
        self.biases = {
            name: parameters[name].detach().clone().requires_grad_() for name in biases if name in parameters
        }
        self.chosen = torch.zeros(group.count, dtype=torch.bool, device=device)

    def _of_units(self, name: str, weight: Tensor) -> Tensor:
        """Those of a layer's weights that read the units [outputs, units, positions, ...]."""
        columns = self._columns[name]
        return weight[:, columns.flatten()].unflatten(1, columns.shape).clone()

    def parameters(self) -> dict[str, Tensor]:
        """Weights and biases of the layers, by name, as they are now."""
        weights = {
            name: self._base[name].index_copy(1, self._columns[name].flatten(), weight.flatten(1, 2))
            for name, weight in self.weights.items()
        }
        return {**weights, **self.biases}

    def add(self, losses: list[Callable[[], Tensor]], number: int) -> None:
        """Let the ``number`` units come back whose weights have the largest gradient of the sum of ``losses``."""
        weights = list(self.weights.values())
        sums = [torch.zeros_like(weight) for weight in weights]
        for loss in losses:
            for sum_, gradient in zip(sums, torch.autograd.grad(loss(), weights), strict=True):
                sum_ += gradient
        norms = total(gradient_norms(gradient) for gradient in sums)
        best = highest_first(self._name, norms.masked_fill(self.chosen, -torch.inf))[:number]
        self.chosen[best] = True
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight[:, best] = self.whole[name][:, best]

    def fit(self, losses: list[Callable[[], Tensor]]) -> None:
        """A step on each of the losses, of what has come back and of the biases."""
        moving = [*self.weights.values(), *self.biases.values()]
        optimiser = self._update(moving)
        for loss in losses:
            gradients = torch.autograd.grad(loss(), moving)
            for parameter, gradient in zip(moving, gradients, strict=True):
                parameter.grad = gradient
            for weight in gradients[: len(self.weights)]:
                weight[:, ~self.chosen] = 0.0
            optimiser.step()

    @torch.no_grad()
    def write(self, model: nn.Module) -> None:
        """Set the model's weights and biases to these."""
        for name, value in self.parameters().items():
            model.get_parameter(name).copy_(value)


class Discriminating(LayerByLayer):
    """Trains with auxiliary losses; chooses units by gradients of reconstruction and discrimination."""

    def __init__(self, run: Run, settings: DcpSettings, flat: FlatModel, level: float) -> None:
        assert isinstance(flat.model, Classified)
        self._classified = flat.model
        super().__init__(run, settings, flat, level, "dcp", begin=settings.begin)

    def net(self, flat: FlatModel) -> nn.Module:
        """The net without its classifiers."""
        return self._classified.model

    def masks(self, flat: FlatModel) -> Masks:
        """What is left of the net, which is a part of what is trained."""
        return {f"model.{name}": mask for name, mask in super().masks(flat).items()}

    def before_step(self, flat: FlatModel, images: Tensor, labels: Tensor) -> None:
        """Add the gradient of the auxiliary losses."""
        if self._classified.taps:
            self._classified.auxiliary_loss(images, labels).backward()
            if flat.mask is not None:
                flat.gradients.mul_(flat.mask)

    def losses(self, model: nn.Module, group: Units, choice: Choice) -> list[Callable[[], Tensor]]:
        """L of each mini-batch of the sample, with the weights of ``choice`` in place of the model's own."""
        images, labels = self.sample.images, self.sample.labels
        parts = -(-len(labels) // self.settings.batch_size)
        tap, readers = self._classified.behind(group), list(group.readers)

        def outputs_of(net: nn.Module, part: Tensor) -> dict[str, Tensor]:
            with torch.no_grad(), watched(net, readers) as seen:
                net(part)
            return {name: given for name, (_, given) in seen.items()}

        def loss_of(part: Tensor, truth: Tensor, targets: dict[str, Tensor]) -> Tensor:
            with watched(model, [*readers, *([] if tap is None else [tap.layer])]) as seen:
                outputs = functional_call(model, choice.parameters(), (part,))
            logits = outputs if tap is None else self._classified.logits(tap, seen[tap.layer][0])
            rebuilt = total(F.mse_loss(seen[name][1], target) for name, target in targets.items())
            return rebuilt + F.cross_entropy(logits, truth)

        def at(number: int) -> Callable[[], Tensor]:
            part, truth = images[number::parts], labels[number::parts]  # the sample lies class by class
            targets = outputs_of(self.original, part)
            return lambda: loss_of(part, truth, targets)

        return [at(number) for number in range(parts)]

    def chosen(self, model: nn.Module, group: Units, left: int) -> Tensor:
        """Those that come back, one after another, with BatchNorm's statistics as they are."""
        if all(bool(keep.all()) for keep in self.keep.values()):
            self.original = copy.deepcopy(model)
        settings = self.settings

        def update(parameters: list[Tensor]) -> torch.optim.Optimizer:
            return torch.optim.SGD(
                parameters,
                settings.lr,
                momentum=settings.momentum,
                nesterov=settings.nesterov,
                weight_decay=settings.weight_decay,
            )

        choice = Choice(model, group, update)
        with eval_mode(model), eval_mode(self.original):
            losses = self.losses(model, group, choice)
            while (missing := left - int(choice.chosen.sum())) > 0:
                choice.add(losses, min(missing, settings.units))
                choice.fit(losses)
        choice.write(model)
        return choice.chosen.cpu()

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and JSON values; a resume file holds it."""
        return {**super().state(), "original": self.original.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, to the same bits."""
        super().restore(state)
        self.original.load_state_dict(state["original"])


def search(run: Run, level: float, settings: DcpSettings, resume: ResumeFile | None) -> SearchResult:
    """Train with auxiliary losses, then choose units layer by layer, training on after each."""
    net = Classified(run, "dcp", settings.losses)
    flat = FlatModel(net)
    pruning = Discriminating(run, settings, flat, level)
    history = fit(run, flat, pruning, settings, ("dcp", "search"), resume)
    masks = {name.removeprefix("model."): mask for name, mask in pruning.masks(flat).items()}
    return SearchResult(masked(net.folded(), masks), masks, history)

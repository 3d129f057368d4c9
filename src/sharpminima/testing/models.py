"""What a net must keep, whoever built it."""

import contextlib

import torch
from torch import nn
from torch.nn import functional as F

from sharpminima.catalogue.models import Model
from sharpminima.nets.compaction import NotCompactable, compact
from sharpminima.nets.facts import net_facts
from sharpminima.nets.masks import apply_masks, prunable_parameters
from sharpminima.pruning.engine.units import unit_masks, units_of
from sharpminima.testing._checks import demand

_IMAGES = 3
_LEFT = 0.7  # of the rows of each weight, and of its columns


def check_model(model: Model) -> None:
    """Check all that this module does.

    Raises:
        CheckFailed: the net does not keep what models promise.
    """
    check_facts(model)
    for classes in (10, 7):
        check_outputs(model, classes)
    check_seed(model)
    check_gradients(model)
    check_compaction(model)
    if model.facts.has_units:
        check_without_units(model)


def built(model: Model, *, seed: int = 0, classes: int = 10) -> nn.Module:
    """The net, initialised from a seed; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return model(num_classes=classes)


def _images(model: Model) -> torch.Tensor:
    return torch.randn(_IMAGES, *model.shape, generator=torch.Generator().manual_seed(0))


def check_facts(model: Model) -> None:
    """The sizes that the entry states are those of the built net."""
    actual = net_facts(model)
    demand(model.known in (None, actual), f"{model.name}: is said to be {model.known}; it is {actual}")


def check_outputs(model: Model, classes: int) -> None:
    """One value a class, for images of the stated shape; in eval mode an image's do not depend on its companions."""
    net, images = built(model, classes=classes).eval(), _images(model)
    with torch.no_grad():
        together, alone = net(images), net(images[:1])
    actual = list(together.shape)
    demand(actual == [_IMAGES, classes], f"{model.name}: outputs {actual}, {[_IMAGES, classes]} expected")
    same = torch.allclose(together[:1], alone, rtol=1e-3, atol=1e-4)
    demand(same, f"{model.name}: in eval mode an image's outputs depend on the other images of its batch")


def check_seed(model: Model) -> None:
    """PyTorch's default generator alone decides the initial weights."""
    first, again, other = (built(model, seed=seed).state_dict() for seed in (3, 3, 4))
    same = all(torch.equal(values, again[name]) for name, values in first.items())
    demand(same, f"{model.name}: two nets of one seed differ")
    differs = any(not torch.equal(values, other[name]) for name, values in first.items())
    demand(differs, f"{model.name}: nets of two seeds are the same")


def check_gradients(model: Model) -> None:
    """Every parameter has a finite gradient, and not all of them are zero."""
    net = built(model).train()
    F.cross_entropy(net(_images(model)), torch.arange(_IMAGES)).backward()
    gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
    without = [name for name, gradient in gradients.items() if gradient is None]
    demand(not without, f"{model.name}: no gradient for {', '.join(without)}")
    wild = [name for name, gradient in gradients.items() if gradient is not None and not gradient.isfinite().all()]
    demand(not wild, f"{model.name}: the gradients of {', '.join(wild)} are not finite")
    moving = any(gradient is not None and gradient.any() for gradient in gradients.values())
    demand(moving, f"{model.name}: all gradients are zero")


def check_without_units(model: Model) -> None:
    """Without a third of the units that can be left out, the smaller net computes the same."""
    net = built(model).eval()
    groups = units_of(net)
    masks = unit_masks(net, groups, {units.name: torch.arange(units.count) % 3 > 0 for units in groups})
    apply_masks(net, masks)
    compacted = compact(net, masks)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    demand(compacted.parameter_count < parameters, f"{model.name}: is no smaller without units")
    _check_computes(model, net, compacted.model)


def check_compaction(model: Model) -> None:
    """Under random masks the net is trained without what is dead (`sharpminima.nets.compaction`), and is the same."""
    net, draws = built(model).eval(), torch.Generator().manual_seed(0)
    weights = [name for name in prunable_parameters(net) if net.get_parameter(name).ndim > 1]
    masks = {}
    for name in weights:
        shape = net.get_parameter(name).shape
        masks[name] = torch.rand(shape, generator=draws) < _LEFT
        for axis in (0, 1):  # whole units, so that some are dead
            gone = torch.rand(shape[axis], generator=draws) > _LEFT
            masks[name].movedim(axis, 0)[gone] = False
        bias = f"{name.removesuffix('weight')}bias"
        if bias in dict(net.named_parameters()):
            masks[bias] = masks[name].flatten(1).any(1)
    apply_masks(net, masks)
    with contextlib.suppress(NotCompactable):  # a training says so before it begins
        _check_computes(model, net, compact(net, masks, sparse=(nn.Conv2d, nn.Linear)).model)


def _check_computes(model: Model, net: nn.Module, smaller: nn.Module) -> None:
    """The smaller net gives what the net gives; any fault is ours."""
    images = _images(model)
    with torch.no_grad():
        wanted = net(images)
        try:
            same = torch.allclose(smaller.eval()(images), wanted, rtol=1e-3, atol=1e-4)
        except (RuntimeError, IndexError):
            same = False
    demand(
        same,
        f"{model.name}: without dead units something else is computed; that is a fault of sharpminima.nets.compaction, "
        "not of the model: please report it, and train with compaction switched off",
    )

"""Whether a net, whoever built it, can be trained, pruned and measured: asked before any of that is begun."""

from typing import Any

import torch
from torch import Tensor, nn

from sharpminima.base.errors import PluginError
from sharpminima.catalogue.brought import described, running
from sharpminima.catalogue.models import unlabelled
from sharpminima.nets.masks import all_masks
from sharpminima.nets.modes import same_buffers, same_modes

_BITS = 32  # of what is computed in; `--precision` chooses what a training computes in


def check_usable(name: str, net: nn.Module, images: Tensor, num_classes: int) -> None:
    """Refuse a net at its W0 that would fail later, or be trained to nothing. It is left as it was.

    Args:
        name: of the model in the catalogue.
        net: as it was built, on the CPU.
        images: normalised, float32 [n, C, H, W].
        num_classes: outputs that it must have.

    Raises:
        PluginError: it has nothing to prune, or weights that are lazy, elsewhere, in half precision or not
            finite; its forward raises,
            in either mode, or gives other than one finite value a class.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    >>> check_usable("own", net, torch.zeros(2, 1, 2, 2), num_classes=3)
    >>> check_usable("own", net, torch.zeros(2, 1, 2, 2), num_classes=10)
    Traceback (most recent call last):
    ...
    sharpminima.base.errors.PluginError: model 'own': gives [2, 3] in train mode; [2, 10] is needed, an output ...
    """
    where = described("model", unlabelled(name))
    for of, values in net.named_parameters():  # buffers may hold what they like, such as a mask of -inf
        if nn.parameter.is_lazy(values):
            raise PluginError(f"{where}: {of} is made in a first pass; build the net of layers that know their sizes")
        if values.device.type != "cpu":
            raise PluginError(
                f"{where}: {of} is on {values.device}; build the net on the CPU, it is moved where it trains"
            )
        if values.is_floating_point() and torch.finfo(values.dtype).bits < _BITS:
            raise PluginError(
                f"{where}: {of} is {values.dtype}; build the net in float32 (--precision makes it coarser)"
            )
        if values.layout == torch.strided and not values.isfinite().all():
            raise PluginError(
                f"{where}: {of} has values that are not finite before any training; draw it in another way"
            )
    check_prunable(name, net)
    for mode in ("train", "eval"):
        contract = f"in {mode} mode its forward takes float32 {list(images.shape)} and returns an output a class"
        with same_modes(net), same_buffers(net), torch.random.fork_rng(devices=[]):
            net.train(mode == "train")
            with torch.set_grad_enabled(mode == "train"), running("model", unlabelled(name), contract):
                outputs = net(images)
        _check_outputs(where, mode, outputs, [len(images), num_classes])


def check_prunable(name: str, net: nn.Module) -> None:
    """Refuse a net of which pruning could remove nothing.

    Args:
        name: of the model in the catalogue.

    Raises:
        PluginError: it has no weight of a Linear or Conv2d.

    >>> check_prunable("own", nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    """
    if all_masks(net):
        return
    has = (
        "parameters, but no weight of nn.Linear or nn.Conv2d"
        if any(True for _ in net.parameters())
        else "no parameters"
    )
    raise PluginError(
        f"{described('model', unlabelled(name))}: has {has}, and so nothing to prune; build it of these layers, each "
        "an attribute or in a container such as nn.Sequential or nn.ModuleList, without a parametrisation"
    )


def _check_outputs(where: str, mode: str, outputs: Any, shape: list[int]) -> None:
    if not isinstance(outputs, Tensor):
        what = "None" if outputs is None else f"a {type(outputs).__name__}"
        raise PluginError(f"{where}: gives {what} in {mode} mode; return one tensor {shape}, an output a class")
    if list(outputs.shape) != shape:
        raise PluginError(
            f"{where}: gives {list(outputs.shape)} in {mode} mode; {shape} is needed, an output a class: num_classes "
            "is what the builder is given"
        )
    if not outputs.is_floating_point() or torch.finfo(outputs.dtype).bits < _BITS:
        raise PluginError(
            f"{where}: gives {outputs.dtype} in {mode} mode; return float32 (--precision makes it coarser)"
        )
    if not outputs.isfinite().all():
        raise PluginError(
            f"{where}: its outputs in {mode} mode are NaN or infinite before any training, which no learning rate "
            "cures; look at divisions, roots, logarithms and exponents in its forward"
        )

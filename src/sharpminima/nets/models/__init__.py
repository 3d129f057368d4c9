"""The nets, built by the names of `sharpminima.catalogue.models`.

>>> sum(p.numel() for p in build_model("lenet300").parameters())
266610
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from sharpminima.base.errors import ConfigError
from sharpminima.catalogue.models import MODELS


def build_model(
    name: str,
    *,
    num_classes: int = 10,
    seed: int = 0,
    bn_momentum: float | None = None,
    bn_eps: float | None = None,
) -> nn.Module:
    """Build the net ``name``, initialised from ``seed`` alone; the global random state is left as it was.

    Args:
        bn_momentum: of every BatchNorm, in PyTorch's sense: the share of the new batch in the running statistics (in
            TensorFlow's sense it is 1 minus this); None keeps .1.
        bn_eps: of every BatchNorm; None keeps 1e-5.

    Raises:
        ConfigError: there is no such model.

    >>> net = build_model("lenet300", num_classes=10, seed=1)
    >>> net(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    if name not in MODELS:
        raise ConfigError(f"there is no model {name!r}; there are {', '.join(MODELS)}")
    with torch.random.fork_rng(devices=[]):
        # Layers draw from the CPU's default generator; manual_seed of the module would touch CUDA too.
        torch.default_generator.manual_seed(seed)
        model = MODELS[name](num_classes=num_classes)
    return set_batchnorm(model, bn_momentum, bn_eps)


def set_batchnorm(model: nn.Module, momentum: float | None = None, eps: float | None = None) -> nn.Module:
    """Set both of every BatchNorm, in place, as `build_model` does; None leaves what is there. Returns the model.

    >>> set_batchnorm(nn.Sequential(nn.BatchNorm2d(3)), momentum=0.2)[0].momentum
    0.2
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = module.momentum if momentum is None else momentum
            module.eps = module.eps if eps is None else eps
    return model


def build_recorded(metadata: Mapping[str, Any], *, num_classes: int = 10, seed: int = 0) -> nn.Module:
    """`build_model` as a checkpoint's metadata tell: ``model`` and, where it is not the usual one, ``batchnorm``.

    Raises:
        ConfigError: there is no such model.

    >>> build_recorded({"model": "lenet5-bn", "batchnorm": {"eps": 1e-3}}).get_submodule("1").eps
    0.001
    """
    model = build_model(metadata["model"], num_classes=num_classes, seed=seed)
    return set_batchnorm(model, **metadata.get("batchnorm", {}))


__all__ = ["MODELS", "build_model", "build_recorded", "set_batchnorm"]

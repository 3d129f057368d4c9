"""The nets: a flat registry whose names are used verbatim in configs, paths and plots.

>>> sum(p.numel() for p in build_model("lenet300").parameters())
266610
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from sharpminima.errors import ConfigError
from sharpminima.models.lenet import LeNet5, LeNet300
from sharpminima.models.mlp import MLP3x400
from sharpminima.models.resnet import ResNetCifar

MODELS: dict[str, Callable[..., nn.Module]] = {
    "lenet300": LeNet300,
    "lenet5": LeNet5,
    "mlp3x400": MLP3x400,
    "resnet32": partial(ResNetCifar, 32),
}
"""Name -> builder, called with ``num_classes``."""

INPUT_SHAPES: dict[str, tuple[int, int, int]] = {
    "lenet300": (1, 28, 28),
    "lenet5": (1, 28, 28),
    "mlp3x400": (1, 28, 28),
    "resnet32": (3, 32, 32),
}
"""Name -> (channels, height, width) of one image."""


def build_model(name: str, *, num_classes: int = 10, seed: int = 0) -> nn.Module:
    """Build the net ``name``, initialised from ``seed`` alone; the global random state is left as it was.

    Raises:
        ConfigError: there is no such model.
    """
    if name not in MODELS:
        raise ConfigError(f"there is no model {name!r}; there are {', '.join(MODELS)}")
    with torch.random.fork_rng(devices=[]):
        # Layers draw from the CPU's default generator; manual_seed of the module would touch CUDA too.
        torch.default_generator.manual_seed(seed)
        return MODELS[name](num_classes=num_classes)


__all__ = ["INPUT_SHAPES", "MODELS", "build_model"]

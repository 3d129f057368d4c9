"""Pruning methods behind one registry; a name is used verbatim in configs, paths and plots.

A method takes a `Run` and settings, and returns a `Pruned`: one trained net, with its masks, for each level asked for.

>>> from sharpminima.data import Split
>>> from sharpminima.nets.models import build_model
>>> import torch
>>> data = Split(torch.randn(20, 1, 28, 28), torch.arange(20) % 10)
>>> run = Run(build_model("lenet300"), data, data, data, levels=(0.9,), seed=0, augment=False)
>>> snip = METHODS["snip"]
>>> pruned = snip.prune(run, snip.settings(recipe={"max_epochs": 1}))
>>> masks = pruned.levels[0.9].masks  # of 266,200 weights
>>> sum(int(mask.sum()) for mask in masks.values())
26620
"""

from sharpminima.catalogue.methods import METHODS, Method
from sharpminima.catalogue.strategies import STRATEGIES, Strategy
from sharpminima.pruning.engine.method import LevelState, Pruned, Run

__all__ = ["METHODS", "STRATEGIES", "LevelState", "Method", "Pruned", "Run", "Strategy"]

"""Pruning methods behind one registry; a name is used verbatim in configs, paths and plots."""

from sharpminima.pruning import (
    dessilbi,
    dsr,
    gradual,
    group_lasso,
    iterative,
    l1,
    lobster,
    rigl,
    sensitivity,
    serene,
    set,
    slimming,
    sparse_momentum,
    swd,
)
from sharpminima.pruning.method import LevelState, Method, Pruned, Run
from sharpminima.pruning.scored import SCORED
from sharpminima.pruning.strategies import STRATEGIES, Strategy

METHODS: dict[str, Method] = {
    "lobster": lobster.METHOD,
    **SCORED,
    **iterative.METHODS,
    **gradual.METHODS,
    "set": set.METHOD,
    "dsr": dsr.METHOD,
    "sparse_momentum": sparse_momentum.METHOD,
    "rigl": rigl.METHOD,
    "l1": l1.METHOD,
    "group_lasso": group_lasso.METHOD,
    "slimming": slimming.METHOD,
    "swd": swd.METHOD,
    "dessilbi": dessilbi.METHOD,
    "sensitivity": sensitivity.METHOD,
    "serene": serene.METHOD,
}
"""Name -> method."""

__all__ = ["METHODS", "STRATEGIES", "LevelState", "Method", "Pruned", "Run", "Strategy"]

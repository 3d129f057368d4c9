"""Pruning methods behind one registry; a name is used verbatim in configs, paths and plots."""

from sharpminima.pruning import dsr, gradual, iterative, lobster, rigl, set, sparse_momentum
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
}
"""Name -> method."""

__all__ = ["METHODS", "STRATEGIES", "LevelState", "Method", "Pruned", "Run", "Strategy"]

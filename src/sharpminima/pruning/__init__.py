"""Pruning methods behind one registry; a name is used verbatim in configs, paths and plots."""

from sharpminima.pruning import gradual, iterative, lobster
from sharpminima.pruning.method import LevelState, Method, Pruned, Run
from sharpminima.pruning.scored import SCORED
from sharpminima.pruning.strategies import STRATEGIES, Strategy

METHODS: dict[str, Method] = {
    "lobster": lobster.METHOD,
    **SCORED,
    **iterative.METHODS,
    **gradual.METHODS,
}
"""Name -> method."""

__all__ = ["METHODS", "STRATEGIES", "LevelState", "Method", "Pruned", "Run", "Strategy"]

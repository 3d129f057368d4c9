"""Pruning methods behind one registry; a name is used verbatim in configs, paths and plots."""

from sharpminima.catalogue.methods import METHODS, Method
from sharpminima.catalogue.strategies import STRATEGIES, Strategy
from sharpminima.pruning.engine.method import LevelState, Pruned, Run

__all__ = ["METHODS", "STRATEGIES", "LevelState", "Method", "Pruned", "Run", "Strategy"]

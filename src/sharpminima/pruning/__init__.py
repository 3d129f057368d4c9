"""Pruning methods behind one registry; a name is used verbatim in configs, paths and plots."""

from sharpminima.pruning import (
    continuous_sparsification,
    dessilbi,
    dsr,
    dst,
    edge_popup,
    gradual,
    group_lasso,
    iterative,
    l0,
    l1,
    l1_filters,
    lobster,
    optimal_masks,
    rigl,
    sensitivity,
    serene,
    set,
    slimming,
    soft_filter,
    sparse_momentum,
    supermask,
    swd,
    taylor_channels,
    variational_dropout,
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
    "dst": dst.METHOD,
    "l1": l1.METHOD,
    "group_lasso": group_lasso.METHOD,
    "slimming": slimming.METHOD,
    "swd": swd.METHOD,
    "dessilbi": dessilbi.METHOD,
    "sensitivity": sensitivity.METHOD,
    "serene": serene.METHOD,
    "l0": l0.METHOD,
    "variational_dropout": variational_dropout.METHOD,
    "supermask": supermask.METHOD,
    "edge_popup": edge_popup.METHOD,
    "continuous_sparsification": continuous_sparsification.METHOD,
    "optimal_masks": optimal_masks.METHOD,
    "l1_filters": l1_filters.METHOD,
    "soft_filter": soft_filter.METHOD,
    "taylor_channels": taylor_channels.METHOD,
}
"""Name -> method."""

__all__ = ["METHODS", "STRATEGIES", "LevelState", "Method", "Pruned", "Run", "Strategy"]

"""The figure of the path of selected weights, of DessiLBI."""

import pandas as pd
from matplotlib.figure import Figure

from sharpminima.base.errors import FigureError
from sharpminima.base.names import DENSE, GRADUAL
from sharpminima.catalogue.columns import ALL
from sharpminima.figures.scales import log_scale
from sharpminima.figures.style import FULL_WIDTH, GRADUAL_COLOUR, PALETTE, styled


def selection_path(path: pd.DataFrame, results: pd.DataFrame) -> Figure:
    """DessiLBI's path: share of weights that have entered, %, by layer, against epochs; and test error against it.

    Lines: means over runs; dots: the nets trained at each level, hollow where the path did not reach it.

    Args:
        path: as `tables.path` gives it.
        results: a results table of the same study.
    """
    if path.empty:
        raise FigureError("the path has no epochs")
    parameters = [name for name in dict.fromkeys(path["parameter"]) if name == ALL or name.endswith("weight")]
    nets = results[(results["method"] == "dessilbi") & (results["strategy"] == GRADUAL)]
    with styled():
        figure = Figure(figsize=(FULL_WIDTH, 2.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        for number, name in enumerate(parameters):
            means = path[path["parameter"] == name].groupby("epoch")["density"].mean()
            label = "all" if name == ALL else name.removesuffix(".weight")
            look = {"color": "black", "linewidth": 1.8} if name == ALL else {"color": PALETTE[number % len(PALETTE)]}
            left.plot(means.index, 100 * means, label=label, **look)
        left.set_xlabel("epoch of the path")
        left.set_ylabel("parameters selected (%)")
        left.legend(ncols=2)
        for row in nets.itertuples():
            face = GRADUAL_COLOUR if row.reached else "white"
            density = 100 * (1 - row.sparsity)
            right.plot(density, row.test_error_percent, "o", color=GRADUAL_COLOUR, markerfacecolor=face)
        dense = results.loc[results["strategy"] == DENSE, "test_error_percent"]
        right.axhline(dense.mean(), color="0.3", linestyle="--", linewidth=0.9, label="dense")
        right.set_xlabel("parameters selected (%)")
        right.set_ylabel("test error after training there (%)")
        right.legend()
        log_scale(right, "x", 100 * (1 - nets["sparsity"]))
        log_scale(right, "y", pd.concat([nets["test_error_percent"], dense]))
    return figure

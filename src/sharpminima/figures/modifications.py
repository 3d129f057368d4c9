"""The figure of strategies that each change one thing, beside published ones."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpminima.base.errors import FigureError
from sharpminima.catalogue.strategies import STRATEGIES
from sharpminima.figures.style import FULL_WIDTH, look_of, styled
from sharpminima.report.intervals import describe
from sharpminima.report.tables import panels

_IN_ORDER = ("rewind", "shuffle-weights", "reinit", "shuffle-masks", "random-structure-layerwise", "random-structure")


def modifications(results: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """What of a pruned net matters: test accuracy, %, under each retraining of its masks, beside published ones.

    Dots: single nets; bars: mean and one sample standard deviation. One panel a dataset, net and method, at its highest
    level.

    Args:
        results: a results table.
        published: a table of published accuracies (`PUBLISHED_COLUMNS`).
    """
    experiments = panels(results)
    if not experiments:
        raise FigureError("the results table has dense nets only; the figure shows retrained ones")
    with styled():
        figure = Figure(figsize=(FULL_WIDTH, 2.5 * len(experiments) + 0.4), layout="constrained")
        for axes, (key, nets) in zip(
            figure.subplots(len(experiments), 1, squeeze=False)[:, 0], experiments, strict=True
        ):
            retrained = nets[nets["strategy"].isin(STRATEGIES)]
            rows = retrained[retrained["level"] == retrained["level"].max()]
            names = [name for name in _IN_ORDER if name in set(rows["strategy"])]
            for place, name in enumerate(reversed(names)):
                accuracy = 100 - rows.loc[rows["strategy"] == name, "test_error_percent"]
                ours, colour = describe(accuracy), look_of(name, key[2]).colour
                axes.plot(accuracy, [place - 0.14] * len(accuracy), ".", color=colour, alpha=0.5, markersize=4)
                axes.errorbar(ours["mean"], place, xerr=ours["sd"], fmt="o", color=colour, capsize=2)
                for theirs in published[published["strategy"] == name].itertuples():
                    axes.errorbar(
                        theirs.accuracy_percent,
                        place + 0.22,
                        xerr=theirs.spread_percent,
                        fmt="D",
                        color="0.35",
                        markerfacecolor="white",
                        markersize=4,
                        capsize=2,
                    )
            counts = sorted({int((rows["strategy"] == name).sum()) for name in names})
            axes.set_yticks(range(len(names)), [STRATEGIES[name].title for name in reversed(names)])
            axes.set_ylim(-0.5, len(names) - 0.4)
            axes.set_xlabel("test accuracy (%)")
            axes.grid(axis="x", linewidth=0.3)
            removed = describe(100 * rows["sparsity"])["mean"]
            title = f"{key[1]} / {key[0]}, {key[2]}, {removed:.2f} % removed, n = {'-'.join(map(str, counts))}"
            axes.set_title(title, loc="left")
        entries = [
            Line2D([], [], marker="o", linestyle="", color="0.1", label="ours"),
            Line2D([], [], marker="D", linestyle="", color="0.35", markerfacecolor="white", label="published"),
        ]
        figure.legend(handles=entries, loc="outside lower center", ncols=2)
    return figure

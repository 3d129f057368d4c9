"""The figures that set methods beside each other, and the path of DessiLBI."""

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from sharpminima.base.errors import FigureError
from sharpminima.base.names import DENSE, GRADUAL, level_name
from sharpminima.catalogue.columns import ALL
from sharpminima.catalogue.methods import METHODS
from sharpminima.catalogue.strategies import STRATEGIES
from sharpminima.figures.style import FULL_WIDTH, GRADUAL_COLOUR, OUTLINE, look_of, styled
from sharpminima.report.intervals import describe
from sharpminima.report.tables import panels, ranking

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#9A8B00", "#888888")
_MARKERS = ("o", "s", "^", "D", "v")
_KINDS = tuple(dict.fromkeys(method.kind for method in METHODS.values()))
_IN_ORDER = ("rewind", "shuffle-weights", "reinit", "shuffle-masks", "random-structure-layerwise", "random-structure")
_MOST_LABELS = 8  # of the methods that no other beats


def methods_compared(results: pd.DataFrame) -> Figure:
    """Every method's own nets: test error, %, by method, against density, and against epochs; a row of panels a net.

    Methods stand in the order of their mean error over the levels. Bars: one sample standard deviation over runs. What
    did not reach its level is hollow, at what it reached. Named on the right: methods that no other beats in both.

    Args:
        results: a results table.

    Raises:
        FigureError: it holds no method's own nets.
    """
    ranked = ranking(results)
    if ranked.empty:
        raise FigureError("the results table has no pruned nets; the figure compares methods")
    nets = list(dict.fromkeys(zip(ranked["dataset"], ranked["model"], strict=True)))
    levels = sorted(ranked["level"].unique())
    most = max(ranked[ranked["model"] == model]["method"].nunique() for _, model in nets)
    with styled():
        height = max(3.2, 0.135 * most + 0.6) * len(nets) + 0.7
        figure = Figure(figsize=(FULL_WIDTH, height), layout="constrained")
        grid = figure.add_gridspec(2 * len(nets), 2, width_ratios=(1.15, 1.0))
        for number, (dataset, model) in enumerate(nets):
            rows = ranked[(ranked["dataset"] == dataset) & (ranked["model"] == model)]
            left = figure.add_subplot(grid[2 * number : 2 * number + 2, 0])
            _by_method(left, rows, levels)
            left.set_title(f"{model} / {dataset}", loc="left")
            for place, (column, label) in enumerate((("density", "parameters left (%)"), ("epochs", "epochs in all"))):
                axes = figure.add_subplot(grid[2 * number + place, 1])
                _against(axes, rows, levels, column)
                axes.set_xlabel(label)
                axes.set_ylabel("test error (%)")
        figure.legend(handles=_entries(ranked, levels), loc="outside lower center", ncols=4)
    return figure


def modifications(results: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """What of a pruned net matters: test accuracy, %, under each retraining of its masks, beside published ones.

    Dots: single nets; bars: mean and one sample standard deviation. One panel a dataset, net and method, at its highest
    level.

    Args:
        results: a results table.
        published: a table of published accuracies (`PUBLISHED_COLUMNS`).
    """
    found = panels(results)
    if not found:
        raise FigureError("the results table has dense nets only; the figure shows retrained ones")
    with styled():
        figure = Figure(figsize=(FULL_WIDTH, 2.5 * len(found) + 0.4), layout="constrained")
        for axes, (key, nets) in zip(figure.subplots(len(found), 1, squeeze=False)[:, 0], found, strict=True):
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
            look = {"color": "black", "linewidth": 1.8} if name == ALL else {"color": _COLOURS[number % len(_COLOURS)]}
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
        _log(right, "x", 100 * (1 - nets["sparsity"]))
        _log(right, "y", pd.concat([nets["test_error_percent"], dense]))
    return figure


def _by_method(axes: Axes, rows: pd.DataFrame, levels: list[float]) -> None:
    order = rows.groupby("method")["error_mean"].mean().sort_values(ascending=False).index
    place = {method: number for number, method in enumerate(order)}
    for row in rows.itertuples():
        axes.errorbar(row.error_mean, place[row.method], xerr=_bar(row.error_sd), **_look(row, levels))
    axes.set_yticks(range(len(order)), order, fontsize=6)
    axes.set_ylim(-0.7, len(order) - 0.3)
    axes.set_xlabel("test error (%)")
    axes.grid(axis="y", linewidth=0.3)
    _log(axes, "x", rows["error_mean"])


def _against(axes: Axes, rows: pd.DataFrame, levels: list[float], column: str) -> None:
    for row in rows.itertuples():
        x, spread = getattr(row, f"{column}_mean"), getattr(row, f"{column}_sd")
        axes.errorbar(x, row.error_mean, xerr=_bar(spread), yerr=_bar(row.error_sd), **_look(row, levels))
    named: list[str] = []
    for row in _unbeaten(rows, f"{column}_mean").itertuples():
        if row.method not in named and len(named) < _MOST_LABELS:
            named.append(row.method)
            axes.annotate(
                row.method,
                (getattr(row, f"{column}_mean"), row.error_mean),
                xytext=(4, 2 if len(named) % 2 else -7),  # neighbours' names on either side
                textcoords="offset points",
                fontsize=5.5,
                path_effects=OUTLINE,
            )
    _log(axes, "x", rows[f"{column}_mean"])
    _log(axes, "y", rows["error_mean"])
    if column == "density":
        axes.invert_xaxis()
    axes.margins(x=0.12, y=0.12)  # room for the names


def _unbeaten(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows of the lowest error among all that are no higher in ``column``, in its order."""
    ordered = rows.sort_values([column, "error_mean"])
    return ordered[ordered["error_mean"] < ordered["error_mean"].cummin().shift(fill_value=math.inf)]


def _look(row: Any, levels: list[float]) -> dict[str, Any]:
    colour = _COLOURS[_KINDS.index(METHODS[row.method].kind) % len(_COLOURS)]
    return {
        "fmt": _MARKERS[levels.index(row.level) % len(_MARKERS)],
        "markersize": 3.2,
        "color": colour,
        "markerfacecolor": colour if row.reached else "white",
        "markeredgewidth": 0.7,
        "elinewidth": 0.6,
    }


def _bar(spread: float) -> float | None:
    return None if math.isnan(spread) else spread


def _log(axes: Axes, which: str, values: pd.Series) -> None:
    """A logarithmic axis with plain numbers, where no value is 0."""
    if values.min() <= 0:
        return
    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter() if values.max() / values.min() > 5 else "{x:g}")
    axis.set_tick_params(which="minor", labelsize=6)


def _entries(ranked: pd.DataFrame, levels: list[float]) -> list[Line2D]:
    shown = {METHODS[method].kind for method in ranked["method"]}
    entries = [
        Line2D([], [], marker="o", linestyle="", markersize=4, color=_COLOURS[number % len(_COLOURS)], label=kind)
        for number, kind in enumerate(_KINDS)
        if kind in shown
    ]
    for number, level in enumerate(levels):
        marker, name = _MARKERS[number % len(_MARKERS)], f"{level_name(level)} % removed"
        entries.append(Line2D([], [], marker=marker, linestyle="", markersize=4, color="0.3", label=name))
    if not ranked["reached"].all():
        face: dict[str, Any] = {"markerfacecolor": "white", "color": "0.3", "label": "level not reached"}
        entries.append(Line2D([], [], marker="o", linestyle="", markersize=4, **face))
    return entries

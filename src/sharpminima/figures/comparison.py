"""The figures that set methods beside each other, and the path of DessiLBI."""

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from sharpminima.errors import FigureError
from sharpminima.figures.style import FULL_WIDTH, OUTLINE, styled
from sharpminima.figures.tables import ranking
from sharpminima.layout import level_name
from sharpminima.pruning import METHODS

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#9A8B00", "#888888")
_MARKERS = ("o", "s", "^", "D", "v")
_KINDS = tuple(dict.fromkeys(method.kind for method in METHODS.values()))
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
                xytext=(3, -2 - 5 * (len(named) % 2)),
                textcoords="offset points",
                fontsize=5.5,
                path_effects=OUTLINE,
            )
    _log(axes, "x", rows[f"{column}_mean"])
    _log(axes, "y", rows["error_mean"])
    if column == "density":
        axes.invert_xaxis()
    axes.margins(x=0.12)


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
        face = {"markerfacecolor": "white", "color": "0.3", "label": "level not reached"}
        entries.append(Line2D([], [], marker="o", linestyle="", markersize=4, **face))
    return entries

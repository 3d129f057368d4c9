"""The figure that sets methods beside each other."""

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpminima.base.errors import FigureError
from sharpminima.base.names import level_name
from sharpminima.catalogue.methods import METHODS
from sharpminima.figures.scales import log_scale
from sharpminima.figures.style import FULL_WIDTH, OUTLINE, PALETTE, styled
from sharpminima.report.tables import ranking
from sharpminima.report.titles import title_of_net

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
            left.set_title(title_of_net(model, dataset), loc="left")
            for place, (column, label) in enumerate((("density", "parameters left (%)"), ("epochs", "epochs in all"))):
                axes = figure.add_subplot(grid[2 * number + place, 1])
                _against(axes, rows, levels, column)
                axes.set_xlabel(label)
                axes.set_ylabel("test error (%)")
        figure.legend(handles=_entries(ranked, levels), loc="outside lower center", ncols=4)
    return figure


def colour_of_method(method: str) -> str:
    """A method's colour: that of its kind."""
    return PALETTE[_KINDS.index(METHODS[method].kind) % len(PALETTE)]


def _by_method(axes: Axes, rows: pd.DataFrame, levels: list[float]) -> None:
    order = rows.groupby("method")["error_mean"].mean().sort_values(ascending=False).index
    place = {method: number for number, method in enumerate(order)}
    for row in rows.itertuples():
        axes.errorbar(row.error_mean, place[row.method], xerr=_bar(row.error_sd), **_look(row, levels))
    axes.set_yticks(range(len(order)), order, fontsize=6)
    axes.set_ylim(-0.7, len(order) - 0.3)
    axes.set_xlabel("test error (%)")
    axes.grid(axis="y", linewidth=0.3)
    log_scale(axes, "x", rows["error_mean"])


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
    log_scale(axes, "x", rows[f"{column}_mean"])
    log_scale(axes, "y", rows["error_mean"])
    if column == "density":
        axes.invert_xaxis()
    axes.margins(x=0.12, y=0.12)  # room for the names


def _unbeaten(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows of the lowest error among all that are no higher in ``column``, in its order."""
    ordered = rows.sort_values([column, "error_mean"])
    return ordered[ordered["error_mean"] < ordered["error_mean"].cummin().shift(fill_value=math.inf)]


def _look(row: Any, levels: list[float]) -> dict[str, Any]:
    colour = colour_of_method(row.method)
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


def _entries(ranked: pd.DataFrame, levels: list[float]) -> list[Line2D]:
    shown = {METHODS[method].kind for method in ranked["method"]}
    entries = [
        Line2D([], [], marker="o", linestyle="", markersize=4, color=PALETTE[number % len(PALETTE)], label=kind)
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

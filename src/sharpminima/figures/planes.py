"""A quantity over the plane through G and 1-S, and along its line: what Fig. 2 to 4 have in common."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sharpminima.base.errors import FigureError
from sharpminima.base.names import GRADUAL, REWIND, level_name
from sharpminima.figures.scales import LOG_FROM, colour_scale, plain_log_ticks
from sharpminima.figures.style import OUTLINE, look_of
from sharpminima.report.titles import title_of_net


def caption(surface: pd.DataFrame, *, lines: int = 2) -> str:
    """What a map shows: its level may be lower than the one asked for."""
    row = surface.iloc[0]
    net = f"{title_of_net(row['model'], row['dataset'])}, {row['method']}, seed {row['seed']}"
    removed = f"level {level_name(row['level'])} %, {100 * row['sparsity']:.2f} % removed"
    data = f"{row['images']:,} images ({row['part']})"
    return f"{net}\n{removed}; {data}" if lines == 2 else f"{net}\n{removed}\n{data}"


def nearest_line(surface: pd.DataFrame) -> float:
    """The grid's y closest to 0."""
    y = surface.loc[surface["point"] == "grid", "y"]
    return float(y.iloc[int(np.argmin(y.abs().to_numpy()))])


def draw_plane(figure: Figure, axes: Axes, cut: Axes, surface: pd.DataFrame, column: str, label: str) -> None:
    """One quantity as filled contours over the plane, and along the grid's line nearest to G and 1-S."""
    one_map = surface.groupby(["level", "seed"]).ngroups == 1
    points = surface[surface["point"] == "grid"]
    if not one_map or points.empty:
        raise FigureError("a surface table must hold the map of one run")
    values = points.pivot(index="y", columns="x", values=column)
    draw_map(figure, axes, values, label)
    axes.set_aspect("equal")
    axes.set_xlabel(f"x (G at 0, 1-S at 1; distance {surface['distance'].iloc[0]:.3g})")
    axes.set_ylabel("y (random, orthogonal)")
    x = values.columns.to_numpy()
    line = values.loc[nearest_line(surface)]
    cut.plot(line.index, line.to_numpy(), color="#333333", marker=".", markersize=3, linewidth=0.9)
    for point, strategy in (("G", GRADUAL), ("1-S", REWIND)):
        end = surface[surface["point"] == point]
        if len(end) != 1:
            raise FigureError(f"a surface table must have one row of the point {point}")
        value, at = float(end[column].iloc[0]), float(end["x"].iloc[0])
        colour = look_of(strategy, "").colour
        for where, height in ((axes, 0.0), (cut, value)):
            where.plot(
                at,
                height,
                marker="o" if point == "G" else "s",
                color=colour,
                markeredgecolor="white",
                clip_on=False,
            )
        axes.annotate(
            f"{point}: {_short(value)}",
            (at, 0.0),
            (0, 6),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=7,
            path_effects=OUTLINE,
        )
    cut_scale(cut, line)
    cut.set_xlim(x[0], x[-1])
    cut.set_xlabel("x")
    cut.set_ylabel(label.replace(" (", "\n("))


def draw_map(figure: Figure, axes: Axes, values: pd.DataFrame, label: str) -> None:
    """A table of y (down) and x (across) as filled contours, with its colours explained."""
    z = np.ma.masked_invalid(values.to_numpy(dtype=float))
    norm, levels, ticks = colour_scale(z)
    x, y = values.columns.to_numpy(), values.index.to_numpy()
    filled = axes.contourf(x, y, z, levels=levels, norm=norm, cmap="viridis")
    axes.contour(x, y, z, levels=levels, colors="white", linewidths=0.25, alpha=0.6)
    bar = figure.colorbar(filled, cax=axes.inset_axes((1.04, 0, 0.05, 1)), ticks=ticks)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(_decimals(ticks)))
    bar.ax.minorticks_off()
    bar.set_label(label)


def cut_scale(cut: Axes, line: pd.Series) -> None:
    """The scale of values along a line: logarithmic where they span much."""
    if line.min() > 0 and line.max() / line.min() > LOG_FROM:
        cut.set_yscale("log")
        plain_log_ticks(cut)
    else:
        cut.yaxis.set_major_locator(MaxNLocator(3))


def _short(value: float) -> str:
    return f"{value:.4g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.2e}"


def _decimals(ticks: list[float]) -> Callable[[float, Any], str]:
    """A formatter with as many decimals as tell evenly spaced ticks apart; else six significant digits."""
    steps = np.diff(ticks)
    if len(steps) == 0 or not np.allclose(steps, steps[0], rtol=1e-6):
        return lambda value, _: f"{value:g}"
    digits = next((d for d in range(9) if abs(round(steps[0], d) - steps[0]) < 1e-6 * steps[0]), 9)
    return lambda value, _: f"{value:.{digits}f}"

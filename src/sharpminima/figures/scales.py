"""Scales that fit their values: logarithmic where these spread widely, with ticks that a person reads."""

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from sharpminima.base.errors import FigureError

_LEVELS = 16  # contour levels at most
_LOG_STEPS = (
    (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9),
    (1, 1.5, 2, 3, 5, 7),
    (1, 2, 5),
    (1, 3),
    (1,),
)  # in a decade
LOG_FROM = 8.0  # ratio of the largest to the smallest value from which an axis is logarithmic


def scale_errors(axes: Axes, values: pd.Series) -> None:
    lowest = values[values > 0].min()  # NaN where there is none
    if not values.max() / lowest > LOG_FROM:
        axes.set_ylim(bottom=below(values, values.max()))
        return
    if values.min() > 0:
        axes.set_yscale("log")
        axes.set_ylim(lowest / 1.4, values.max() * 1.4)
    else:  # linear up to the lowest error that is not 0
        axes.set_yscale("symlog", linthresh=lowest)
        axes.set_ylim(0, values.max() * 1.4)
    plain_log_ticks(axes)


def below(values: pd.Series, top: float) -> float:
    """Where a linear axis up to ``top`` begins: a margin below the lowest error, if that is not below 0."""
    return max(0.0, values.min() - 0.15 * (top - values.min()))


def plain_log_ticks(axes: Axes) -> None:
    start, high = axes.get_ylim()
    scale: Any = axes.yaxis.get_transform()
    low = start or scale.linthresh
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 300 else (1,)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    axes.yaxis.set_major_locator(FixedLocator([*([] if start else [0.0]), *(t for t in ticks if low <= t <= high)]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def colour_scale(z: np.ma.MaskedArray) -> tuple[Normalize, list[float], list[float]]:
    """Colour scale, contour levels and ticks: logarithmic where all values are positive and spread widely."""
    if z.count() == 0:
        raise FigureError("no value of the map is finite")
    low, high = float(z.min()), float(z.max())
    if low > 0 and high / low > LOG_FROM:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        levels: list[float] = []
        for steps in _LOG_STEPS:
            every = [float(f"{step}e{decade}") for decade in decades for step in steps]
            levels = [
                level
                for level, after, before in zip(every, [*every[1:], math.inf], [0.0, *every], strict=False)
                if after > low and before < high
            ]
            if len(levels) <= _LEVELS:
                break
        ticks = [level for level in levels if f"{level:e}"[:3] in ("1.0", "2.0", "5.0")]
        if len(ticks) > 8:
            ticks = [level for level in ticks if f"{level:e}".startswith("1.0")]
        ticks = ticks[:: math.ceil(len(ticks) / 8)]
        return LogNorm(levels[0], levels[-1]), levels, ticks
    if low == high:
        low, high = low - 0.5, high + 0.5
    levels = [float(level) for level in MaxNLocator(_LEVELS - 2, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]
    return Normalize(levels[0], levels[-1]), levels, levels[:: max(1, round(len(levels) / 7))]


def log_scale(axes: Axes, which: str, values: pd.Series) -> None:
    """A logarithmic axis with plain numbers, where no value is 0."""
    if values.min() <= 0:
        return
    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter() if values.max() / values.min() > 5 else "{x:g}")
    axis.set_tick_params(which="minor", labelsize=6)


def fitted_log_scale(axes: Axes, which: str, values: pd.Series, size: float) -> None:
    """A logarithmic axis from the lowest to the highest value, with as many plain numbers as it has room for.

    Where a value is 0, or the highest not twice the lowest, it is linear. The axes stand in the figure already.

    Args:
        which: "x" or "y".
        size: of the numbers, points.
    """
    low, high = float(values.min()), float(values.max())
    axis = getattr(axes, f"{which}axis")
    if high <= 2 * low or low <= 0:
        margin = 0.05 * (high - low) or 0.1 * abs(high) or 1.0
        getattr(axes, f"set_{which}lim")(low - margin, high + margin)
        axis.set_major_locator(MaxNLocator(3))
        return
    margin = (high / low) ** 0.05
    low, high = low / margin, high * margin
    getattr(axes, f"set_{which}scale")("log")
    getattr(axes, f"set_{which}lim")(low, high)
    figure: Any = axes.get_figure()
    place = axes.get_position()
    points = 72 * (figure.get_figwidth() * place.width if which == "x" else figure.get_figheight() * place.height)
    needed = (2.2 if which == "x" else 1.2) * size / points * math.log(high / low)  # between two numbers
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for steps in _LOG_STEPS:
        every = (float(f"{step}e{decade}") for decade in decades for step in steps)
        ticks = [tick for tick in every if low <= tick <= high]
        if all(math.log(above / below) >= needed for below, above in itertools.pairwise(ticks)):
            break
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def eigenvalue_scale(axes: Axes, values: pd.Series) -> None:
    """The scale of eigenvalues: logarithmic, and around 0 linear where some are not above it."""
    if values.min() > 0:
        axes.set_yscale("log")
        if values.max() / values.min() < 1000:
            plain_log_ticks(axes)
    else:
        axes.set_yscale("symlog", linthresh=max(values.abs().max() / 1000, 1e-12))
        axes.axhline(0, color="#999999", linewidth=0.6)

"""The forest plot: every comparison behind the verdicts, in units of the smallest difference that matters."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from sharpminima.base.errors import FigureError
from sharpminima.figures.style import FULL_WIDTH, styled
from sharpminima.report.claims import JudgedClaim, Result, comparison_title, deciding_results

_ROW, _BELOW = 0.135, 0.8  # inches: of a line, and for the axis and the legend
_LEFT = 0.40  # share of the width for the sentences
_START = -_LEFT / (1 - _LEFT - 0.01)  # where they begin, in widths of the axes
_REACH = 300.0  # units beyond which a value stands at the edge
_COLOURS = {
    "reproduced": "#0072B2",
    "not reproduced": "#D55E00",
    "undecided": "#888888",
    "not in this study": "#888888",
}
_TICKS = (-100, -10, -1, 0, 1, 10, 100)


@dataclass(frozen=True)
class _Line:
    """A line of the plot: a claim's sentence, or one of its comparisons."""

    text: str
    verdict: str
    result: Result | None = None
    elsewhere: bool = False  # of a net that its claim does not name


def forest(claims: Sequence[JudgedClaim]) -> Figure:
    """Difference and 95 % interval of each comparison that decides a claim, in units of what matters to it.

    The unit is the smallest difference that matters; where a claim states a bound itself, that bound. The shaded part
    of a line is where its claim wants the whole interval. The axis is linear from -1 to 1, and logarithmic beyond.
    Hollow markers: nets that a claim does not name, of which the paper says at most that all carries over to them.

    Args:
        claims: as the numbers file of a study holds them.

    Raises:
        FigureError: no claim has a comparison.
    """
    lines = list(_lines(claims))
    if not any(line.result for line in lines):
        raise FigureError("no claim of the paper has a comparison in this study; leave the figure out")
    with styled():
        height = _ROW * len(lines) + _BELOW
        figure = Figure(figsize=(FULL_WIDTH, height))
        axes = figure.add_axes((_LEFT, _BELOW / height, 1 - _LEFT - 0.01, 1 - _BELOW / height))
        axes.axvspan(-1, 1, color="0.93", linewidth=0, zorder=0)
        axes.axvline(0, color="0.6", linewidth=0.6, zorder=1)
        axes.set_xscale("symlog", linthresh=1, linscale=0.7)
        axes.set_xlim(-_REACH, _REACH)
        axes.set_ylim(len(lines) - 0.4, -0.6)
        for y, line in enumerate(lines):
            _draw(axes, y, line)
        axes.xaxis.set_major_locator(FixedLocator(_TICKS))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("difference / smallest difference that matters, or the claim's own bound", x=0.4)
        figure.legend(handles=_legend(), loc="lower center", ncols=3)
    return figure


def _lines(claims: Sequence[JudgedClaim]) -> Iterator[_Line]:
    """The claims in their order, each with the nets that it names, and then with others."""
    own = {claim["id"]: [result for result in claim["results"] if not result["sensitivity"]] for claim in claims}
    carried = [result for results in own.values() for result in results if result["carried_from"]]
    for claim in claims:
        results = own[claim["id"]]
        if any(result["carried_from"] for result in results):
            yield _sentence(claim, "each net's own, hollow above")
            continue
        named = deciding_results(results)
        elsewhere = [result for result in carried if result["carried_from"] == claim["id"]]
        if not named:  # a study of other nets than the paper's
            elsewhere = [result for result in results if not result["stated"]]
        yield _sentence(claim)
        yield from (_Line(comparison_title(result), result["verdict"], result) for result in named)
        yield from (_Line(comparison_title(result), result["verdict"], result, elsewhere=True) for result in elsewhere)


def _sentence(claim: JudgedClaim, beside: str = "") -> _Line:
    return _Line(claim["says"], claim["verdict"] + (f" ({beside})" if beside else ""))


def _draw(axes: Axes, y: int, line: _Line) -> None:
    beside = axes.get_yaxis_transform()
    if line.result is None:
        axes.text(_START, y, line.text, transform=beside, va="center", fontsize=7, fontweight="bold")
        axes.text(
            1.0,
            y,
            line.verdict,
            transform=beside,
            va="center",
            ha="right",
            fontsize=7,
            color=_COLOURS.get(line.verdict.partition(" (")[0], "0.3"),
        )
        return
    axes.text(_START + 0.03, y, line.text, transform=beside, va="center", fontsize=7, color="0.25")
    result, colour = line.result, _COLOURS[line.verdict]
    unit = _unit(result)
    if result["interval"] is None or unit is None:
        axes.text(0.1, y, "by counting", va="center", ha="left", fontsize=6, color=colour)
        return
    low_end, high_end = _claimed(result, unit)
    axes.barh(y, high_end - low_end, 0.8, left=low_end, color="#009E73", alpha=0.13, linewidth=0, zorder=0.5)
    interval = result["interval"]
    mean, low, high = (
        None if value is None else value / unit for value in (interval["mean"], interval["low"], interval["high"])
    )
    assert mean is not None
    if low is not None and high is not None:
        axes.plot([max(low, -_REACH), min(high, _REACH)], [y, y], color=colour, linewidth=1.1, solid_capstyle="butt")
    face = "white" if line.elsewhere else colour
    axes.plot(
        min(max(mean, -_REACH), _REACH), y, "o", markersize=3.6, markerfacecolor=face, markeredgecolor=colour, zorder=3
    )


def _unit(result: Result) -> float | None:
    """What a comparison is measured in: the smallest difference that matters, or the claim's own bound."""
    return result["margin"] or (abs(result["bound"]) if result["bound"] else None)


def _claimed(result: Result, unit: float) -> tuple[float, float]:
    """Where a claim wants the whole interval."""
    bound = (result["bound"] or 0.0) / unit
    return {"above": (bound, _REACH), "below": (-_REACH, bound), "within": (-bound, bound)}[result["side"] or "within"]


def _legend() -> list[Any]:
    verdicts = [
        Line2D([], [], color=colour, marker="o", markersize=4, label=verdict)
        for verdict, colour in _COLOURS.items()
        if verdict != "not in this study"
    ]
    hollow = Line2D(
        [],
        [],
        color="0.3",
        marker="o",
        markersize=4,
        markerfacecolor="white",
        label="a net that the claim does not name",
    )
    return [
        *verdicts,
        hollow,
        Patch(color="#009E73", alpha=0.2, label="where the claim wants it"),
        Patch(color="0.93", label="too small to matter"),
    ]

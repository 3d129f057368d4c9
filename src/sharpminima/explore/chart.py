"""A chart of the page: Plotly's traces and layout, and the controls that choose among them.

A trace is drawn where each control that its ``meta`` names has the trace's value chosen. A list in ``meta``, as long as
the trace, chooses among its points instead. ``meta`` may also hold a ``layout`` (path of an attribute -> value), which
holds while the trace is drawn, and a ``note``, a sentence that then stands below the chart.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sharpminima.figures.style import Look

FONT = "STIX Two Text, STIXGeneral, Times New Roman, DejaVu Serif, serif"  # the figures', where a reader has it
INK, GRID = "#222222", "#e4e4e4"
SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "d": "diamond-tall",
    "v": "triangle-down",
    "": "star",
}
"""Marker of matplotlib -> the same of Plotly; dense nets, which figures draw as a line, have a star."""
_GLYPHS = {"o": "●○", "s": "■□", "^": "▲△", "D": "◆◇", "d": "♦♢", "v": "▼▽", "": "★★"}  # filled and hollow


@dataclass(frozen=True)
class Option:
    """What a control may choose."""

    value: str
    label: str
    colour: str | None = None  # of its mark
    mark: str = "●"


@dataclass(frozen=True)
class Control:
    """Chooses one or many of the values that traces have under its name."""

    name: str
    label: str
    options: Sequence[Option]
    choose: Literal["one", "many"] = "many"
    start: Sequence[str] | None = None  # chosen at first; None: the first of one, all of many
    shared: bool = False  # moves with the controls of its name in other charts


@dataclass(frozen=True)
class Chart:
    """A chart, for `sharpminima.explore.document`."""

    id: str  # of its element
    label: str  # read aloud in its place
    traces: Sequence[dict[str, Any]]
    layout: dict[str, Any]
    controls: Sequence[Control]
    kinds: dict[str, dict[str, Any]] = field(default_factory=dict)  # what traces that are ``like`` one share
    table: bool = False  # whether a table of what is drawn is offered
    turns: bool = False  # whether arrow keys turn it
    tall: bool = False
    scrolls: bool = False  # whether a narrow page moves it sideways, where squeezing makes it unreadable

    def as_json(self) -> dict[str, Any]:
        """What the page's script reads."""
        return asdict(self)


def base_layout(**layout: Any) -> dict[str, Any]:
    """The layout that all charts share, and more of it; axes have the look of the figures'."""
    full_layout: dict[str, Any] = {
        "font": {"family": FONT, "size": 14, "color": INK},
        "margin": {"l": 58, "r": 14, "t": 14, "b": 48},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {"align": "left", "bgcolor": "white", "font": {"family": FONT, "size": 13, "color": INK}},
        "uirevision": "kept",
        **layout,
    }
    for name, value in full_layout.items():
        if name.startswith(("xaxis", "yaxis")):
            full_layout[name] = {"gridcolor": GRID, "linecolor": INK, "zeroline": False, "ticks": "outside"} | value
    return full_layout


def option_of(value: str, look: Look) -> Option:
    """An option with the colour and the marker of its nets.

    >>> option_of("dense", Look("dense", "#444444", "")).mark
    '★'
    """
    return Option(value, look.title, look.colour, _GLYPHS[look.marker][not look.main])


def scale_of_axis(path: str, logarithmic: bool) -> dict[str, Any]:
    """The type of an axis, for a trace's ``layout``; ticks of a logarithmic one are at 1, 2 and 5.

    >>> scale_of_axis("yaxis", False)
    {'yaxis.type': 'linear'}
    """
    return {f"{path}.type": "log", f"{path}.dtick": "D2"} if logarithmic else {f"{path}.type": "linear"}


def options(pairs: Iterable[tuple[str, str]]) -> list[Option]:
    """Options out of values and labels, each value once.

    >>> options([("a", "A"), ("b", "B"), ("a", "A")])
    [Option(value='a', label='A', colour=None, mark='●'), Option(value='b', label='B', colour=None, mark='●')]
    """
    return [Option(value, label) for value, label in dict(pairs).items()]


def short(value: float | None, digits: int = 5) -> float | None:
    """A value with so many significant digits; None where it is not finite.

    >>> short(0.12345678), short(float("nan"))
    (0.12346, None)
    """
    return float(f"{value:.{digits}g}") if value is not None and math.isfinite(value) else None

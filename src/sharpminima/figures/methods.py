"""The figure that sets methods beside each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpminima.base.errors import FigureError
from sharpminima.base.names import level_name
from sharpminima.catalogue.methods import METHODS
from sharpminima.figures.scales import fitted_log_scale
from sharpminima.figures.style import FULL_WIDTH, PALETTE, styled
from sharpminima.report.tables import ranking
from sharpminima.report.titles import title_of_method, title_of_net
from sharpminima.study.paths import PUBLISHED_DATASET

_COLOURS = PALETTE[:-1]  # of the methods of a panel, in turns; grey is for what has no rank
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")  # of levels
_STAR: dict[str, Any] = {
    "marker": "*",
    "markersize": 6.5,
    "markeredgewidth": 0.7,
    "markerfacecolor": "white",
    "linestyle": "",
}
_TEXT = 8  # points, of names and of ticks
_ROW = _TEXT * 0.98 / 72  # inches a name takes
_FEW = 6  # a kind of fewer methods shares a panel with others
_BESIDE = 2  # nets in a row of panels
# Inches.
_LEFT, _FAN, _NAMES = 0.49, 0.18, 1.52  # of each panel: its errors' ticks, the lines to its names, the names
_TITLE, _LEAST, _GAP = 0.19, 0.66, 0.07  # of a family: its title, its height at least, and what stands below it
_HEAD, _FOOT, _LEGEND = 0.2, 0.42, 0.2  # of a row of panels: the nets' names, densities; a row of the legend


@dataclass(frozen=True)
class _Net:
    """A dataset and a net, and what its panels share."""

    rows: pd.DataFrame  # of the ranking
    published: pd.DataFrame  # of the methods shown
    levels: Sequence[float]
    epochs: bool  # whether names have them

    def values(self, quantity: str) -> pd.Series:
        """All of a quantity, on one scale; a bar may leave its panel, or one wide spread would push all together."""
        shown = self.rows[f"{quantity}_mean"], self.published[f"{quantity}_percent"]
        return pd.concat(shown, ignore_index=True).astype(float)


def methods_compared(results: pd.DataFrame, published: pd.DataFrame | None = None) -> Figure:
    """Test error against the share of parameters left, both in percent, of every method's own nets, by family and net.

    A line joins the levels of a method, and leads from the sparsest to its name, with the epochs of all trainings
    behind that net where methods differ in them; grey: the other families. Bars: one sample standard deviation over
    runs. Hollow: some run did not reach the level; cross: some net has collapsed (`sharpminima.report.tables.ranking`).
    Stars: what the method's authors have published.

    Args:
        results: a results table.
        published: a table of published errors (`PUBLISHED_ERROR_COLUMNS`), of nets on MNIST; None: none are drawn.

    Raises:
        FigureError: it holds no method's own nets.
    """
    ranked = ranking(results)
    if ranked.empty:
        raise FigureError("the results table has no pruned nets; the figure compares methods")
    levels = sorted(ranked["level"].unique())
    nets = [
        (title_of_net(model, dataset), _net(rows, published, dataset, model, levels))
        for (dataset, model), rows in ranked.groupby(["dataset", "model"], sort=False)
    ]
    blocks = [nets[start : start + _BESIDE] for start in range(0, len(nets), _BESIDE)]
    families = [_families({method for _, net in block for method in net.rows["method"]}) for block in blocks]
    heights = [[_height(methods) for _, methods in family] for family in families]
    handles = _entries([net for _, net in nets], levels)
    legend = _LEGEND * -(-len(handles) // 4)
    whole = sum(_HEAD + _FOOT + sum(height + _TITLE + _GAP for height in block) for block in heights) + legend
    width = FULL_WIDTH / len(blocks[0])
    with styled():
        figure = Figure(figsize=(FULL_WIDTH, whole))
        top = whole
        for block, family, inches in zip(blocks, families, heights, strict=True):
            for column, (title, _) in enumerate(block):
                figure.text((column * width + _LEFT) / FULL_WIDTH, (top - 0.13) / whole, title, fontsize=9)
            top -= _HEAD
            for number, ((name, methods), height) in enumerate(zip(family, inches, strict=True)):
                top -= _TITLE + height
                for column, (_, net) in enumerate(block):
                    left, across = column * width + _LEFT, width - _LEFT - _FAN - _NAMES
                    place = (left / FULL_WIDTH, top / whole, across / FULL_WIDTH, height / whole)
                    axes = figure.add_axes(place)
                    _panel(axes, net, methods, last=number == len(family) - 1)
                    axes.set_title(name, loc="left", fontsize=_TEXT, pad=3, style="italic")
                    if column == 0:
                        axes.set_ylabel("test error (%)", fontsize=_TEXT)
                        axes.yaxis.set_label_coords((0.12 - _LEFT) / across, 0.5)
                top -= _GAP
            top -= _FOOT
        figure.legend(handles=handles, loc="lower center", ncols=4, borderaxespad=0.1, handletextpad=0.2)
    return figure


def _net(rows: pd.DataFrame, published: pd.DataFrame | None, dataset: str, model: str, levels: Sequence[float]) -> _Net:
    shown = pd.DataFrame({"method": [], "density_percent": [], "error_percent": []})
    if published is not None and dataset == PUBLISHED_DATASET:
        known = published[(published["model"] == model) & published["method"].isin(rows["method"])]
        shown = known[known["error_percent"].notna()]
    return _Net(rows, shown, levels, rows["epochs_mean"].nunique() > 1)


def _families(methods: set[str]) -> list[tuple[str, list[str]]]:
    """Title and methods of each panel, in the catalogue's order; kinds of few methods are one family."""
    kinds: dict[str, list[str]] = {}
    for name in [*METHODS, *sorted(methods - METHODS.keys())]:
        if name in methods:
            kinds.setdefault(METHODS[name].kind if name in METHODS else "other", []).append(name)
    small = {kind: members for kind, members in kinds.items() if len(members) < _FEW}
    families = [(kind, members) for kind, members in kinds.items() if kind not in small]
    if small:
        families.insert(0, (", ".join(small), [name for members in small.values() for name in members]))
    return [(kind[0].upper() + kind[1:], members) for kind, members in families]


def _height(methods: Sequence[str]) -> float:
    return max(_LEAST, _ROW * len(methods))


def _panel(axes: Axes, net: _Net, methods: Sequence[str], *, last: bool) -> None:
    shown = net.rows["method"].isin(methods)
    rows, others = net.rows[shown], net.rows[~shown]
    axes.plot(others["density_mean"], others["error_mean"], ".", color="0.86", markersize=3, zorder=0)
    colours = {}
    for number, method in enumerate(methods):
        colours[method] = _COLOURS[number % len(_COLOURS)]
        nets = rows[rows["method"] == method].sort_values("level")
        axes.plot(nets["density_mean"], nets["error_mean"], "-", color=colours[method], linewidth=0.5, zorder=1)
        for row in nets.itertuples():
            axes.errorbar(
                row.density_mean,
                row.error_mean,
                xerr=_bar(row.density_sd),
                yerr=_bar(row.error_sd),
                **_look(row, net.levels, colours[method]),
            )
    for row in net.published[net.published["method"].isin(methods)].itertuples():
        axes.plot(row.density_percent, row.error_percent, color=colours[row.method], zorder=3, **_STAR)
    fitted_log_scale(axes, "x", net.values("density"), _TEXT)
    fitted_log_scale(axes, "y", net.values("error"), _TEXT)
    axes.invert_xaxis()
    axes.tick_params(labelsize=_TEXT, labelbottom=last)
    if last:
        axes.set_xlabel("parameters left (%)", fontsize=_TEXT)
    _name(axes, rows, colours, epochs=net.epochs)


def _name(axes: Axes, rows: pd.DataFrame, colours: dict[str, str], *, epochs: bool) -> None:
    """The methods' names on the right, each on a line of its own, as near to its sparsest nets as there is room."""
    sparsest = rows.sort_values("level").groupby("method").tail(1)
    places = axes.transAxes.inverted().transform(
        axes.transData.transform(sparsest[["density_mean", "error_mean"]].to_numpy(float))
    )[:, 1]
    size = axes.get_figure().get_size_inches()  # type: ignore[union-attr] # axes of a figure
    inches = axes.get_position().height * size[1], axes.get_position().width * size[0]
    named = sparsest.assign(place=_apart(places.tolist(), _ROW / inches[0]))
    for row in named.itertuples():
        text = title_of_method(row.method) + (f"  {row.epochs_mean:.0f}" if epochs else "")
        axes.annotate(
            text,
            (row.density_mean, row.error_mean),
            xytext=(1 + _FAN / inches[1], row.place),
            textcoords="axes fraction",
            fontsize=_TEXT,
            va="center",
            color=_dark(colours[row.method]) if row.reached and not row.collapsed else "0.55",
            arrowprops={
                "arrowstyle": "-",
                "color": colours[row.method],
                "linewidth": 0.4,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 1,
            },
            annotation_clip=False,
        )


def _apart(wanted: Sequence[float], step: float) -> list[float]:
    """Places between 0 and 1, in the order of those wanted and near them, at least a step apart if there is room.

    >>> [round(place, 2) for place in _apart([0.5, 0.0, 0.5], 0.2)]
    [0.5, 0.1, 0.7]
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    step = min(step, 1 / len(order))
    places: list[float] = []
    for rank, index in enumerate(order):
        least = places[-1] + step if places else step / 2
        most = 1 - step * (len(order) - rank - 0.5)  # those above it have room, too
        places.append(min(max(wanted[index], least), most))
    found = dict(zip(order, places, strict=True))
    return [found[index] for index in range(len(order))]


def _look(row: Any, levels: Sequence[float], colour: str) -> dict[str, Any]:
    return {
        "fmt": "x" if row.collapsed else _MARKERS[levels.index(row.level) % len(_MARKERS)],
        "markersize": 3.2,
        "color": colour,
        "markerfacecolor": colour if row.reached else "white",
        "markeredgewidth": 0.7,
        "elinewidth": 0.5,
        "zorder": 2,
    }


def _dark(colour: str) -> list[float]:
    """A colour that letters can have on white."""
    return [0.75 * part for part in to_rgb(colour)]


def _bar(spread: float) -> float | None:
    return None if math.isnan(spread) else spread


def _entries(nets: Sequence[_Net], levels: Sequence[float]) -> list[Line2D]:
    look: dict[str, Any] = {"linestyle": "", "color": "0.3", "markersize": 4}
    entries = [
        Line2D([], [], marker=_MARKERS[number % len(_MARKERS)], label=f"{level_name(level)} % removed", **look)
        for number, level in enumerate(levels)
    ]
    if not all(net.rows["reached"].all() for net in nets):
        entries.append(Line2D([], [], marker="o", markerfacecolor="white", label="level not reached", **look))
    if any(net.rows["collapsed"].any() for net in nets):
        entries.append(Line2D([], [], marker="x", label="collapsed", **look))
    if any(len(net.published) for net in nets):
        entries.append(Line2D([], [], color="0.3", label="published", **_STAR))
    if any(net.epochs for net in nets):
        entries.append(Line2D([], [], marker="", linestyle="", label="number: epochs in all"))
    return entries

"""Fig. 7: what PSP-entropy as a part of training does."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpminima.base.errors import FigureError
from sharpminima.base.names import DENSE
from sharpminima.figures.style import FULL_WIDTH, look_of, styled
from sharpminima.report.tables import ENDS
from sharpminima.report.titles import title_of_dataset, title_of_net
from sharpminima.report.ways import Known, Way, by_net

_NETS = {DENSE: DENSE, **ENDS}
_ORDERS: dict[str, tuple[str, Literal["-", "--"]]] = {
    "entropy_1_bits": ("first order", "-"),
    "entropy_2_joint_bits": ("second order", "--"),
}


def against_beta(numbers: Mapping[str, Any]) -> Figure:
    """Fig. 7: test error, measured PSP-entropy and test error of a linear probe elsewhere against beta, a row a net.

    Errors and entropies of G and 1-S are those at the highest level, of the runs that reached it, as in the claims.
    Dots: single runs; markers and bars: means and one sample standard deviation. Betas stand side by side, not to
    scale. Of a quantity that no run of a net has the panel says that it was not measured.

    Args:
        numbers: those of a study whose experiments train with PSP-entropy (`sharpminima.report.numbers`).
    """
    nets = {net: ways for net, ways in by_net(numbers["ways"]).items() if len(ways) > 1}
    if not nets:
        raise FigureError("no net is trained with several betas; give experiments of one net labels and psp_entropy")
    with styled():
        figure = Figure(figsize=(FULL_WIDTH, 0.5 + 2.1 * len(nets)), layout="constrained")
        grid = figure.subplots(len(nets), 3, squeeze=False)
        for row, ((dataset, model), ways) in zip(grid, nets.items(), strict=True):
            _errors(row[0], ways)
            _entropies(row[1], ways)
            _probes(row[2], ways)
            row[0].set_title(title_of_net(model, dataset), loc="left")
            for axes in row:
                if axes.has_data():
                    axes.set_xlabel("beta (nats per bit)")
                else:
                    axes.set_axis_off()
                    axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center")
                # Aslant, as those of many betas would run into each other.
                axes.set_xticks(range(len(ways)), [f"{way['beta']:g}" for way in ways], rotation=45)
                axes.set_xlim(-0.5, len(ways) - 0.5)
        handles: dict[str, Any] = {}
        for axes in figure.axes:
            for handle, label in zip(*_legend_of(axes), strict=True):
                handles.setdefault(label, handle)
        if any(axes.has_data() for axes in grid[:, 1]):
            orders = (Line2D([], [], color="0.4", linestyle=line, label=order) for order, line in _ORDERS.values())
            handles |= {str(line.get_label()): line for line in orders}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
    return figure


def _errors(axes: Axes, ways: Sequence[Way]) -> None:
    for net, title in _NETS.items():
        _series(axes, ways, net, "test_error_percent", title)
    axes.set_ylabel("test error (%)")


def _entropies(axes: Axes, ways: Sequence[Way]) -> None:
    for quantity, (_, line) in _ORDERS.items():
        for net, title in _NETS.items():
            _series(axes, ways, net, quantity, title, line)
    axes.set_ylabel("PSP-entropy (bits)")


def _probes(axes: Axes, ways: Sequence[Way]) -> None:
    for net, title in _NETS.items():
        _series(axes, ways, net, "probe_error_percent", title)
    to = {title_of_dataset(way["probed_on"]) for way in ways if way["probed_on"]}
    axes.set_ylabel(f"probe error (%)\non {to.pop() if len(to) == 1 else 'another dataset'}")


def _series(axes: Axes, ways: Sequence[Way], net: str, quantity: str, title: str, line: str = "-") -> None:
    """A line through the means; nothing where no run has the quantity."""
    found = enumerate(way["nets"].get(net, {}).get(quantity) for way in ways)
    shown: list[tuple[int, Known]] = [(place, known) for place, known in found if known]
    if not shown:
        return
    look = look_of(net, "lobster")
    for place, known in shown:
        values = list(known["by_seed"].values())
        # Beside the markers, and beside the dots of the other nets.
        beside = place + 0.12 + 0.07 * list(_NETS).index(net)
        axes.plot([beside] * len(values), values, ".", color=look.colour, alpha=0.4, markersize=3)
    axes.errorbar(
        [place for place, _ in shown],
        [known["mean"] for _, known in shown],
        yerr=[known["sd"] or 0.0 for _, known in shown],
        color=look.colour,
        marker=look.marker or "P",
        linestyle=line,
        markersize=4,
        capsize=2,
        elinewidth=0.8,
        label=title,
    )


def _legend_of(axes: Axes) -> tuple[list[Any], list[str]]:
    handles, labels = axes.get_legend_handles_labels()
    return handles, [str(label) for label in labels]

"""Fig. 7: what PSP-entropy as a part of training does."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpminima.base.errors import FigureError
from sharpminima.base.names import DENSE, GRADUAL, REWIND
from sharpminima.catalogue.columns import ALL
from sharpminima.catalogue.models import unlabelled
from sharpminima.figures.style import FULL_WIDTH, look_of, styled
from sharpminima.report.intervals import describe
from sharpminima.report.titles import title_of_dataset, title_of_net

_NETS = {DENSE: DENSE, GRADUAL: "G", REWIND: "1-S"}
_ORDERS = {"entropy_1_bits": ("first order", "-"), "entropy_2_joint_bits": ("second order", "--")}

Way = tuple[float, Mapping[str, Any]]
"""Beta, and what is summarised of the experiment."""


def against_beta(numbers: Mapping[str, Any]) -> Figure:
    """Fig. 7: test error, measured PSP-entropy and test error of a linear probe elsewhere against beta, a row a net.

    Errors and entropies of G and 1-S are those at the highest level, of the runs that reached it, as in the claims.
    Dots: single runs; markers and bars: means and one sample standard deviation. Betas stand side by side, whatever
    lies between them. Of a quantity that no run of a net has the panel says that it was not measured.

    Args:
        numbers: those of a study whose experiments train with PSP-entropy (`sharpminima.report.numbers`).
    """
    nets = {net: ways for net, ways in _ways(numbers).items() if len(ways) > 1}
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
                if not axes.has_data():
                    axes.set_axis_off()
                    axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center")
                # Aslant, as those of many betas would run into each other.
                axes.set_xticks(range(len(ways)), [f"{beta:g}" for beta, _ in ways], rotation=45)
                axes.set_xlim(-0.5, len(ways) - 0.5)
        for column in grid.T:
            drawn = [axes for axes in column if axes.axison]
            if drawn:
                drawn[-1].set_xlabel("beta (nats a bit)")
        handles = {label: handle for axes in figure.axes for handle, label in zip(*_legend_of(axes), strict=True)}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
    return figure


def _ways(numbers: Mapping[str, Any]) -> dict[tuple[str, str], list[Way]]:
    """Net without its label -> its ways by beta, ascending."""
    settings = {(e["dataset"], e["model"]): e.get("psp_entropy") for e in numbers["study"]["experiments"]}
    by_net: dict[tuple[str, str], list[Way]] = {}
    for experiment in numbers["experiments"]:
        key = (experiment["dataset"], experiment["model"])
        beta = (settings[key] or {"beta": 0.0})["beta"]
        by_net.setdefault((key[0], unlabelled(key[1])), []).append((beta, experiment))
    return {net: sorted(ways, key=lambda way: way[0]) for net, ways in by_net.items()}


def _errors(axes: Axes, ways: Sequence[Way]) -> None:
    def values(experiment: Mapping[str, Any], name: str) -> Mapping[str, float]:
        cells = {**experiment["levels"][-1]["strategies"], DENSE: experiment["dense"]}
        cell = cells.get(name)
        return _at_level(experiment, name, cell["by_seed"]["test_error_percent"]) if cell else {}

    for name, title in _NETS.items():
        _series(axes, [values(experiment, name) for _, experiment in ways], name, title)
    axes.set_ylabel("test error (%)")


def _entropies(axes: Axes, ways: Sequence[Way]) -> None:
    for quantity, (title, line) in _ORDERS.items():
        for name in _NETS:
            each = [_at_level(experiment, name, _reading(experiment, quantity, _NETS[name])) for _, experiment in ways]
            _series(axes, each, name, f"{_NETS[name]}, {title}", line)
    axes.set_ylabel("PSP-entropy (bits)")


def _at_level(experiment: Mapping[str, Any], name: str, by_run: Mapping[str, float]) -> Mapping[str, float]:
    """Without the runs whose pruned nets are denser than the highest level, and so better."""
    short = () if name == DENSE else experiment["levels"][-1]["short"]
    return {run: value for run, value in by_run.items() if run not in short}


def _reading(experiment: Mapping[str, Any], quantity: str, net: str) -> Mapping[str, float]:
    """Of each run, by the study's first part of the data and all layers together."""
    readings: Mapping[str, Mapping[str, Any]] = experiment["analysis"]["psp_readings"] if experiment["analysis"] else {}
    quantities = next(iter(readings.values()), {}).get(ALL, {})
    by_seed: Mapping[str, Mapping[str, float]] = quantities[quantity]["by_seed"] if quantity in quantities else {}
    return by_seed.get(net, {})


def _probes(axes: Axes, ways: Sequence[Way]) -> None:
    for name, title in _NETS.items():
        each = []
        for _, experiment in ways:
            moved: Mapping[str, Mapping[str, Any]] = experiment["transfer"]
            modes = next(iter(moved.values()), {})
            cell = modes.get("probe", {}).get(name)
            each.append(_at_level(experiment, name, cell["by_seed"]["test_error_percent"]) if cell else {})
        _series(axes, each, name, title)
    to = {title_of_dataset(name) for _, experiment in ways for name in experiment["transfer"]}
    axes.set_ylabel(f"probe on {to.pop()} (%)" if len(to) == 1 else "linear probe elsewhere (%)")


def _series(axes: Axes, each: Sequence[Mapping[str, float]], strategy: str, title: str, line: str = "-") -> None:
    """A line through the means; nothing where no run has the quantity."""
    look = look_of(strategy, "lobster")
    shown = list(_summaries(each))
    if not shown:
        return
    for place, values, _, _ in shown:
        axes.plot([place + 0.15] * len(values), values, ".", color=look.colour, alpha=0.4, markersize=3)
    places, _, means, spreads = zip(*shown, strict=True)
    axes.errorbar(
        places,
        means,
        yerr=spreads,
        color=look.colour,
        marker=look.marker or "P",
        linestyle=line,
        markersize=4,
        capsize=2,
        elinewidth=0.8,
        label=title,
    )


def _summaries(each: Sequence[Mapping[str, float]]) -> Iterator[tuple[int, list[float], float, float]]:
    """(place, values, mean, standard deviation) of each beta that has runs."""
    for place, by_run in enumerate(each):
        if by_run:
            values = list(by_run.values())
            summary = describe(values)
            yield place, values, summary["mean"], summary["sd"] or 0.0


def _legend_of(axes: Axes) -> tuple[list[Any], list[str]]:
    handles, labels = axes.get_legend_handles_labels()
    return handles, [str(label) for label in labels]

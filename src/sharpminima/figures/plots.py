"""The figures: tables in, matplotlib figures out; nothing is computed here that is not drawn."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from sharpminima.base.errors import FigureError
from sharpminima.base.names import DENSE, GRADUAL, REWIND, level_name
from sharpminima.catalogue.columns import ALL
from sharpminima.figures.style import COLUMN_WIDTH, FULL_WIDTH, GRADUAL_COLOUR, OUTLINE, look_of, styled
from sharpminima.report.intervals import describe
from sharpminima.report.tables import ENDS, EXPERIMENT, errors, panels, unreached

_TICKS = (0, 50, 80, 90, 95, 98, 99, 99.5, 99.8, 99.9, 99.95, 99.98, 99.99)  # percent removed
_LEVELS = 16  # contour levels at most
_LOG_STEPS = (
    (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9),
    (1, 1.5, 2, 3, 5, 7),
    (1, 2, 5),
    (1, 3),
    (1,),
)  # in a decade
_LOG_FROM = 8.0  # ratio of the largest to the smallest value from which an axis is logarithmic
_SPACES = {"all": ("o", "-", -0.06), "surviving": ("^", "--", 0.06)}  # marker, line, shift


# Fig. 1 --------------------------------------------------------------------------------------------------


def error_against_removed(results: pd.DataFrame) -> Figure:
    """Fig. 1: test error, %, against the share of prunable parameters removed, %.

    Lines: means over runs and replicas at one level; bars: one sample standard deviation; dots: single nets.
    The removed share spreads its high end (it is the logarithm of the share left). Levels not reached are
    crosses on the axis. Where some nets fail and G and 1-S do not, a panel is broken in two: below the errors that
    are to be compared, above, on a logarithmic scale, those of the nets that fail.

    Args:
        results: a results table.
    """
    found = panels(results)
    if not found:
        raise FigureError("the results table has dense nets only; Fig. 1 shows pruned ones")
    columns = min(2, len(found))
    rows = math.ceil(len(found) / columns)
    with styled():
        width = FULL_WIDTH if columns > 1 else 4.2
        together = ConstrainedLayoutEngine(h_pad=0.02)  # inches: the halves of a broken panel belong together
        figure = Figure(figsize=(width, 2.9 * rows + 0.75), layout=together)
        grid = figure.add_gridspec(rows, columns)
        entries: dict[str, Line2D] = {}
        counts: dict[str, set[int]] = {}
        methods = len({key[2] for key, _ in found})
        for index, (key, nets) in enumerate(found):
            summary, missed = errors(nets), unreached(results, key)
            parts = _error_panel(figure, grid[divmod(index, columns)], key[2], nets, summary, missed, entries)
            for strategy, cells in summary.groupby("strategy"):
                counts.setdefault(look_of(str(strategy), key[2]).title, set()).update(map(int, cells["error_n"]))
            method = f", {key[2]}" if methods > 1 else ""
            parts[0].set_title(f"({chr(ord('a') + index)}) {key[1]} / {key[0]}{method}", loc="left")
            if index % columns == 0:
                parts[-1].set_ylabel("test error (%)")
            if index + columns >= len(found):
                parts[-1].set_xlabel("prunable parameters removed (%)")
        labels = [f"{name}, {_span(counts[name])}" for name in entries]
        figure.legend(list(entries.values()), labels, loc="outside lower center", ncols=min(2, columns))
    return figure


def _error_panel(
    figure: Figure,
    place: SubplotSpec,
    method: str,
    nets: pd.DataFrame,
    summary: pd.DataFrame,
    missed: list[tuple[float, int, float]],
    entries: dict[str, Line2D],
) -> list[Axes]:
    """The axes of a panel, from the top; two where it is broken."""
    cut = _break_at(nets)
    if cut is None:
        parts = [figure.add_subplot(place)]
    else:
        halves = place.subgridspec(2, 1, height_ratios=(1, 2), hspace=0.03)
        parts = [figure.add_subplot(halves[row]) for row in range(2)]
    pruned = summary[summary["strategy"] != DENSE]
    left = 100 - pruned["removed_mean"]
    lowest = min([left.min(), *(100 * (1 - level) for level, _, _ in missed)])
    highest = max(left.max(), *(100 * (1 - level) for level, _, _ in missed), lowest)
    spans = [(0.0, math.inf)] if cut is None else [(cut, math.inf), (0.0, cut)]
    for axes, span in zip(parts, spans, strict=True):
        axes.set_xscale("log")
        axes.set_xlim(min(100.0, highest * 1.35), max(lowest, 0.005) / 1.35)
        axes.xaxis.set_major_locator(FixedLocator(_readable_ticks(*axes.get_xlim())))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 - value:.6g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        _draw_errors(axes, method, summary, nets, entries, span)
    if cut is None:
        _scale_errors(parts[0], nets["test_error_percent"])
    else:
        upper, lower = parts
        _scale_broken(upper, lower, nets["test_error_percent"], cut)
    _mark_missed(parts[-1], missed)
    return parts


def _break_at(nets: pd.DataFrame) -> float | None:
    """The test error, %, at which a panel is broken; None where one scale shows all."""
    values = nets["test_error_percent"]
    near = values[nets["strategy"].isin((DENSE, GRADUAL, REWIND)) & (values > 0)]
    if near.empty or near.max() / near.min() > _LOG_FROM or values.max() / near.min() <= _LOG_FROM:
        return None
    # Most of the height is for what is to be compared, however low errors stay that rise to those of failing nets.
    room = max(1.5 * (near.max() - values.min()), 0.1 * near.max())
    return float(values[values <= near.max() + room].max() + 0.1 * room)


def _draw_errors(
    axes: Axes,
    method: str,
    summary: pd.DataFrame,
    nets: pd.DataFrame,
    entries: dict[str, Line2D],
    span: tuple[float, float],
) -> None:
    """Draw what lies in ``span``, test errors in %; a marker beyond it would show its half across the break."""
    for strategy, rows in summary.groupby("strategy", sort=False):
        look = look_of(str(strategy), method)
        if strategy == DENSE:
            mean, spread = rows["error_mean"].iloc[0], rows["error_sd"].fillna(0).iloc[0]
            axes.axhspan(mean - spread, mean + spread, color=look.colour, alpha=0.12, linewidth=0)
            entries[look.title] = axes.axhline(mean, color=look.colour, linestyle="--", linewidth=0.9)
            continue
        rows = rows.sort_values("removed_mean")
        inside = rows["error_mean"].between(*span).to_list()
        single = nets[(nets["strategy"] == strategy) & nets["test_error_percent"].between(*span)]
        axes.plot(
            100 * (1 - single["sparsity"]),
            single["test_error_percent"],
            linestyle="none",
            marker=".",
            markersize=4,
            markeredgewidth=0,
            color=look.colour,
            alpha=0.4,
        )
        bars = axes.errorbar(
            100 - rows["removed_mean"],
            rows["error_mean"],
            yerr=rows["error_sd"].fillna(0),
            color=look.colour,
            marker=look.marker,
            markevery=inside,
            markerfacecolor=look.colour if look.main else "white",
            markeredgewidth=0.8,
            linestyle="-" if look.main else ":",
            linewidth=1.2 if look.main else 0.8,
            elinewidth=0.8,
            capsize=2,
            alpha=1 if look.main else 0.8,
        )
        entries[look.title] = bars.lines[0]


def _scale_errors(axes: Axes, values: pd.Series) -> None:
    lowest = values[values > 0].min()  # NaN where there is none
    if not values.max() / lowest > _LOG_FROM:
        axes.set_ylim(bottom=_below(values, values.max()))
        return
    if values.min() > 0:
        axes.set_yscale("log")
        axes.set_ylim(lowest / 1.4, values.max() * 1.4)
    else:  # linear up to the lowest error that is not 0
        axes.set_yscale("symlog", linthresh=lowest)
        axes.set_ylim(0, values.max() * 1.4)
    _plain_log_ticks(axes)


def _below(values: pd.Series, top: float) -> float:
    """Where a linear axis up to ``top`` begins: a margin below the lowest error, if that is not below 0."""
    return max(0.0, values.min() - 0.15 * (top - values.min()))


def _scale_broken(upper: Axes, lower: Axes, values: pd.Series, cut: float) -> None:
    upper.set_yscale("log")
    upper.set_ylim(cut, values.max() * 1.4)
    _plain_log_ticks(upper)
    upper.spines["bottom"].set_visible(False)
    upper.tick_params(bottom=False, labelbottom=False)
    lower.set_ylim(_below(values, cut), cut)
    # Strokes across the axis on both sides of the break.
    for axes, height in ((upper, 0), (lower, 1)):
        axes.plot(
            0,
            height,
            marker=[(-1, -0.5), (1, 0.5)],
            markersize=7,
            color="black",
            markeredgewidth=0.6,
            clip_on=False,
            transform=axes.transAxes,
        )


def _mark_missed(axes: Axes, missed: list[tuple[float, int, float]]) -> None:
    for row, (level, runs, best) in enumerate(missed):
        axes.plot(
            100 * (1 - level),
            0,
            marker="x",
            color=GRADUAL_COLOUR,
            markersize=5,
            clip_on=False,
            transform=axes.get_xaxis_transform(),
            zorder=5,
        )
        times = f"{runs} run{'s' if runs > 1 else ''}"
        note = f"× {level_name(level)} % not reached in {times} (at most {100 * best:.2f} %)"
        axes.text(
            0.02,
            0.98 - 0.075 * row,
            note,
            transform=axes.transAxes,
            va="top",
            fontsize=7,
            path_effects=OUTLINE,
        )


def _readable_ticks(left: float, right: float) -> list[float]:
    """Shares left, in percent, of the ticks inside the axis; neighbours at least 8 % of it apart."""
    length = math.log(left / right)
    chosen: list[float] = []
    for removed in _TICKS:
        share = 100 - removed
        near = chosen and math.log(chosen[-1] / share) < 0.08 * length
        if right <= share <= left * 1.000001 and not near:
            chosen.append(share)
    return chosen


def _plain_log_ticks(axes: Axes) -> None:
    start, high = axes.get_ylim()
    scale: Any = axes.yaxis.get_transform()
    low = start or scale.linthresh
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 300 else (1,)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    axes.yaxis.set_major_locator(FixedLocator([*([] if start else [0.0]), *(t for t in ticks if low <= t <= high)]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _span(counts: set[int]) -> str:
    low, high = min(counts), max(counts)
    return f"n = {low}" if low == high else f"n = {low}–{high}"


# Fig. 2-4 ------------------------------------------------------------------------------------------------


def loss_plane(surface: pd.DataFrame, hessian: pd.DataFrame, line: pd.DataFrame) -> Figure:
    """Fig. 2: (a) loss, nats, over the plane and (c) along the line through G and 1-S; top eigenvalues.

    Args:
        surface: the surface table of one run.
        hessian: the Hessian tables of all runs, drawn as (b): means as lines, single runs as small markers,
            hollow where the residual test failed.
        line: the line tables of all runs, drawn as (d): means of each rank as lines, the largest of single runs
            as small markers.

    Eigenvalues that are of other images than the loss say of how many.
    """
    with styled():
        figure = Figure(figsize=(FULL_WIDTH, 5.2), layout="constrained")
        figure.suptitle(_caption(surface))
        grid = figure.add_gridspec(2, 2, height_ratios=(2, 1.1), width_ratios=(1.12, 1))
        plane, cut = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[1, 0])
        _plane(figure, plane, cut, surface, "loss_nats", "loss (nats)")
        ends, along = figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, 1])
        _spectrum(ends, hessian)
        _spectrum_along(along, line)
        ends.set_title(f"(b) Hessian, {_runs(hessian)}{_other_images(hessian, surface)}", loc="left")
        ranks = line["index"].nunique()
        along.set_title(f"(d) top {ranks} along the line{_other_images(line, surface)}", loc="left")
        plane.set_title("(a) loss", loc="left")
        cut.set_title(f"(c) loss along y = {_nearest_line(surface):.2g}", loc="left")
    return figure


def norm_plane(surface: pd.DataFrame) -> Figure:
    """Fig. 3: the PSP norm (mean z^2 of a hidden layer, mean over layers), drawn like Fig. 2 (a) and (c)."""
    with styled():
        figure = Figure(figsize=(COLUMN_WIDTH + 0.3, 4.5), layout="constrained")
        figure.suptitle(_caption(surface, lines=3))
        plane, cut = figure.subplots(2, 1, height_ratios=(3, 1.1))
        _plane(figure, plane, cut, surface, "psp_norm", "PSP norm (mean z²)")
    return figure


def entropy_plane(surface: pd.DataFrame) -> Figure:
    """Fig. 4: PSP-entropy, bits, of (a) first and (b) second order over the plane and along its line."""
    definition = surface["definition"].iloc[0]
    with styled():
        figure = Figure(figsize=(FULL_WIDTH, 4.3), layout="constrained")
        figure.suptitle(_caption(surface))
        grid = figure.subplots(2, 2, height_ratios=(3, 1.1))
        _plane(figure, grid[0, 0], grid[1, 0], surface, "psp_entropy_1_bits", "first order (bits)")
        _plane(figure, grid[0, 1], grid[1, 1], surface, "psp_entropy_2_bits", "second order (bits)")
        grid[0, 0].set_title("(a) first-order PSP-entropy", loc="left")
        grid[0, 1].set_title(f"(b) second order, {definition}", loc="left")
    return figure


# Fig. 5 --------------------------------------------------------------------------------------------------


def class_entropies(psp: pd.DataFrame, neurons: pd.DataFrame) -> Figure:
    """Fig. 5: the first-order PSP-entropy, bits, of neurons (across) within classes (down), by layer.

    Neurons whose state is the same on all images of each class have no entropy and are left out; the others stand by
    their sum over classes, the highest first.

    Args:
        psp: the PSP table of one run; of its parts of the data, that of the neurons is meant.
        neurons: the table of its neurons.
    """
    psp = psp[psp["part"] == (neurons["part"].iloc[0] if len(neurons) else psp["part"].iloc[0])]
    if psp.groupby(["level", "seed"]).ngroups != 1:
        raise FigureError("a PSP table must hold one run")
    known = psp.astype({"layer": str, "class": str})
    layers = known[(known["layer"] != ALL) & (known["class"] == ALL)].set_index(["strategy", "layer"])["neurons"]
    names = list(dict.fromkeys(layer for _, layer in layers.index))
    classes = list(dict.fromkeys(known.loc[known["class"] != ALL, "class"]))
    with styled():
        figure = Figure(figsize=(FULL_WIDTH, 0.9 + 1.35 * len(names)), layout="constrained")
        figure.suptitle(_caption(psp))
        grid = figure.subplots(len(names), len(ENDS), squeeze=False)
        norm = Normalize(0, 1)  # a state has one bit at most
        for row, layer in enumerate(names):
            for axes, (strategy, net) in zip(grid[row], ENDS.items(), strict=True):
                chosen = neurons[(neurons["strategy"] == strategy) & (neurons["layer"].astype(str) == layer)]
                drawn = _class_panel(axes, chosen["entropy_1_bits_by_class"], classes, norm)
                axes.set_title(f"{net}, {layer}: {drawn:,} of {layers[strategy, layer]:,} neurons", loc="left")
        for axes in grid[:, 0]:
            axes.set_ylabel("class")
        for axes in grid[-1]:
            axes.set_xlabel("neuron, by its entropy")
        colours = ScalarMappable(norm, "viridis")
        figure.colorbar(colours, ax=grid, label="PSP-entropy within the class (bits)", fraction=0.03, pad=0.02)
    return figure


def _class_panel(axes: Axes, entropies: pd.Series, classes: list[str], norm: Normalize) -> int:
    """Draw one net's layer; the number of neurons."""
    table = np.array([text.split() for text in entropies.astype(str)], dtype=float)
    count = len(table)
    if count:
        if table.shape[1] != len(classes):
            raise FigureError(
                f"the neurons have entropies within {table.shape[1]} classes, the PSP table {len(classes)}"
            )
        order = np.argsort(-table.sum(axis=1), kind="stable")
        extent = (0.5, count + 0.5, len(classes) - 0.5, -0.5)
        axes.imshow(table[order].T, norm=norm, cmap="viridis", aspect="auto", interpolation="none", extent=extent)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, prune="lower"))
    else:
        note = "every state is constant within its class"
        axes.text(0.5, 0.5, note, transform=axes.transAxes, ha="center", fontsize=7)
        axes.set_xticks([])
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.set_yticks(range(len(classes)), [name if number % 3 == 0 else "" for number, name in enumerate(classes)])
    return count


# Fig. 6 --------------------------------------------------------------------------------------------------

_MODES = {"probe": "linear probe", "finetune": "fine-tuned"}


def transfer_errors(transfer: pd.DataFrame) -> Figure:
    """Fig. 6: test error, %, of trained nets on another dataset, by what is trained there.

    Dots: single nets; large markers and bars: means and one sample standard deviation.

    Args:
        transfer: the transfer tables of a study.
    """
    if transfer.empty:
        raise FigureError("there is no transfer table; give an experiment of the study a transfer")
    dense = transfer["method"] == DENSE
    keys = list(dict.fromkeys(map(tuple, transfer.loc[~dense, [*EXPERIMENT, "to"]].to_numpy())))
    modes = [mode for mode in _MODES if (transfer["mode"] == mode).any()]
    with styled():
        figure = Figure(figsize=(FULL_WIDTH, 0.4 + 2.2 * len(keys)), layout="constrained")
        grid = figure.subplots(len(keys), len(modes), squeeze=False, sharey="row")
        for row, (dataset, model, method, to) in enumerate(keys):
            same = (transfer["dataset"] == dataset) & (transfer["model"] == model) & (transfer["to"] == to)
            nets = transfer[same & ((transfer["method"] == method) | dense)]
            removed = 100 * nets.loc[nets["method"] == method, "sparsity"].mean()
            for axes, mode in zip(grid[row], modes, strict=True):
                _transfer_panel(axes, nets[nets["mode"] == mode], method)
                letter = chr(ord("a") + row * len(modes) + modes.index(mode))
                where = f"{model}, {removed:.1f} % removed: {dataset} to {to}"
                axes.set_title(f"({letter}) {where}\n{_MODES[mode]}", loc="left")
            # Once all of the row is drawn: limits that are set end the growing of a shared axis.
            _scale_errors(grid[row, 0], nets["test_error_percent"])
            grid[row, 0].set_ylabel("test error (%)")
    return figure


def _transfer_panel(axes: Axes, nets: pd.DataFrame, method: str) -> None:
    names = {DENSE: DENSE, **ENDS}
    shown = list(dict.fromkeys(nets["strategy"]))
    for place, strategy in enumerate(shown):
        errors_of, look = nets.loc[nets["strategy"] == strategy, "test_error_percent"], look_of(strategy, method)
        found = describe(errors_of)
        marker: dict[str, Any] = {"color": look.colour, "marker": look.marker or "P", "linestyle": "none"}
        axes.plot([place - 0.18] * len(errors_of), errors_of, ".", color=look.colour, alpha=0.5, markersize=4)
        axes.errorbar(place, found["mean"], yerr=found["sd"] or 0, capsize=2, elinewidth=0.8, markersize=5, **marker)
    counts = nets["strategy"].value_counts()
    labels = [f"{names.get(s, s).replace('-', chr(10) + '-', s not in names)}\nn = {counts[s]}" for s in shown]
    axes.set_xticks(range(len(shown)), labels)
    axes.set_xlim(-0.5, len(shown) - 0.5)


def _caption(surface: pd.DataFrame, *, lines: int = 2) -> str:
    """What a map shows: its level may be lower than the one asked for."""
    row = surface.iloc[0]
    net = f"{row['model']} / {row['dataset']}, {row['method']}, seed {row['seed']}"
    level = f"level {level_name(row['level'])} %, {100 * row['sparsity']:.2f} % removed"
    data = f"{row['images']:,} images ({row['part']})"
    return f"{net}\n{level}; {data}" if lines == 2 else f"{net}\n{level}\n{data}"


def _runs(rows: pd.DataFrame) -> str:
    seeds = rows["seed"].nunique()
    return f"{seeds} run{'s' if seeds > 1 else ''}"


def _other_images(rows: pd.DataFrame, surface: pd.DataFrame) -> str:
    """Their number of images, for a title, where it is not the map's."""
    found = sorted(rows["images"].unique())
    return "" if found == sorted(surface["images"].unique()) else f", {' and '.join(f'{n:,}' for n in found)} images"


def _nearest_line(surface: pd.DataFrame) -> float:
    """The grid's y closest to 0."""
    y = surface.loc[surface["point"] == "grid", "y"]
    return float(y.iloc[int(np.argmin(y.abs().to_numpy()))])


def _plane(figure: Figure, axes: Axes, cut: Axes, surface: pd.DataFrame, column: str, label: str) -> None:
    """One quantity as filled contours over the plane, and along the grid's line nearest to G and 1-S."""
    one_map = surface.groupby(["level", "seed"]).ngroups == 1
    points = surface[surface["point"] == "grid"]
    if not one_map or points.empty:
        raise FigureError("a surface table must hold the map of one run")
    values = points.pivot(index="y", columns="x", values=column)
    z = np.ma.masked_invalid(values.to_numpy(dtype=float))
    norm, levels, ticks = _scale(z)
    x, y = values.columns.to_numpy(), values.index.to_numpy()
    filled = axes.contourf(x, y, z, levels=levels, norm=norm, cmap="viridis")
    axes.contour(x, y, z, levels=levels, colors="white", linewidths=0.25, alpha=0.6)
    bar = figure.colorbar(filled, cax=axes.inset_axes((1.04, 0, 0.05, 1)), ticks=ticks)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(_decimals(ticks)))
    bar.ax.minorticks_off()
    bar.set_label(label)
    axes.set_aspect("equal")
    axes.set_xlabel(f"x (G at 0, 1-S at 1; distance {surface['distance'].iloc[0]:.3g})")
    axes.set_ylabel("y (random, orthogonal)")
    line = values.loc[_nearest_line(surface)]
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
            f"{point}\n{_short(value)}",
            (at, 0.0),
            (0, 5),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8,
            linespacing=0.95,
            path_effects=OUTLINE,
        )
    if line.min() > 0 and line.max() / line.min() > _LOG_FROM:
        cut.set_yscale("log")
        _plain_log_ticks(cut)
    else:
        cut.yaxis.set_major_locator(MaxNLocator(3))
    cut.set_xlim(x[0], x[-1])
    cut.set_xlabel("x")
    cut.set_ylabel(label.replace(" (", "\n("))


def _short(value: float) -> str:
    return f"{value:.4g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.2e}"


def _decimals(ticks: list[float]) -> Callable[[float, Any], str]:
    """A formatter with as many decimals as tell evenly spaced ticks apart; else six significant digits."""
    steps = np.diff(ticks)
    if len(steps) == 0 or not np.allclose(steps, steps[0], rtol=1e-6):
        return lambda value, _: f"{value:g}"
    digits = next((d for d in range(9) if abs(round(steps[0], d) - steps[0]) < 1e-6 * steps[0]), 9)
    return lambda value, _: f"{value:.{digits}f}"


def _scale(z: np.ma.MaskedArray) -> tuple[Normalize, list[float], list[float]]:
    """Colour scale, contour levels and ticks: logarithmic where all values are positive and spread widely."""
    if z.count() == 0:
        raise FigureError("no value of the map is finite")
    low, high = float(z.min()), float(z.max())
    if low > 0 and high / low > _LOG_FROM:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found: list[float] = []
        for steps in _LOG_STEPS:
            every = [float(f"{step}e{decade}") for decade in decades for step in steps]
            found = [
                level
                for level, after, before in zip(every, [*every[1:], math.inf], [0.0, *every], strict=False)
                if after > low and before < high
            ]
            if len(found) <= _LEVELS:
                break
        ticks = [level for level in found if f"{level:e}"[:3] in ("1.0", "2.0", "5.0")]
        if len(ticks) > 8:
            ticks = [level for level in ticks if f"{level:e}".startswith("1.0")]
        ticks = ticks[:: math.ceil(len(ticks) / 8)]
        return LogNorm(found[0], found[-1]), found, ticks
    if low == high:
        low, high = low - 0.5, high + 0.5
    levels = [float(level) for level in MaxNLocator(_LEVELS - 2, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]
    return Normalize(levels[0], levels[-1]), levels, levels[:: max(1, round(len(levels) / 7))]


def _spectrum_along(axes: Axes, line: pd.DataFrame) -> None:
    """Top eigenvalues along the line from G to 1-S: ranks by shade, spaces by line."""
    colours = colormaps["plasma"]
    ranks = sorted(line["index"].unique())
    for space, (_, dashes, _) in _SPACES.items():
        rows = line[line["space"] == space]
        for number, rank in enumerate(ranks):
            mean = rows[rows["index"] == rank].groupby("x")["eigenvalue"].mean()
            colour = colours(0.8 * number / max(1, len(ranks) - 1))
            axes.plot(mean.index, mean, linestyle=dashes, color=colour, linewidth=1.0 if rank == 1 else 0.7)
        first = rows[rows["index"] == 1]
        if first["seed"].nunique() > 1:
            axes.plot(first["x"], first["eigenvalue"], ".", color=colours(0.0), markersize=2.5, markeredgewidth=0)
    _eigenvalue_scale(axes, line["eigenvalue"])
    axes.set_xlabel("x (G at 0, 1-S at 1)")
    axes.set_ylabel("eigenvalue (nats)")


def _eigenvalue_scale(axes: Axes, values: pd.Series) -> None:
    if values.min() > 0:
        axes.set_yscale("log")
        if values.max() / values.min() < 1000:
            _plain_log_ticks(axes)
    else:
        axes.set_yscale("symlog", linthresh=max(values.abs().max() / 1000, 1e-12))
        axes.axhline(0, color="#999999", linewidth=0.6)


def _spectrum(axes: Axes, hessian: pd.DataFrame) -> None:
    """Top eigenvalues by rank: nets apart by colour, spaces by marker and line."""
    offsets = {GRADUAL: -0.12, REWIND: 0.12}
    for strategy, net in ENDS.items():
        for space, (marker, dashes, shift) in _SPACES.items():
            rows = hessian[(hessian["strategy"] == strategy) & (hessian["space"] == space)]
            if rows.empty:
                continue
            colour, at = look_of(strategy, "").colour, offsets[strategy] + shift
            mean = rows.groupby("index")["eigenvalue"].mean()
            axes.plot(mean.index + at, mean, linestyle=dashes, color=colour, linewidth=1.0)
            for converged, group in rows.groupby(rows["converged"].astype(bool)):
                axes.plot(
                    group["index"] + at,
                    group["eigenvalue"],
                    linestyle="none",
                    marker=marker,
                    markersize=3.5,
                    markeredgewidth=0.7,
                    color=colour,
                    markerfacecolor=colour if converged else "white",
                    alpha=0.75,
                )
            axes.plot([], [], linestyle=dashes, marker=marker, markersize=3.5, color=colour, label=f"{net}, {space}")
    if not hessian["converged"].astype(bool).all():
        hollow: dict[str, Any] = {"marker": "o", "markersize": 3.5, "markerfacecolor": "white", "color": "#444444"}
        axes.plot([], [], linestyle="none", label="not converged", **hollow)
    _eigenvalue_scale(axes, hessian["eigenvalue"])
    axes.xaxis.set_major_locator(FixedLocator(sorted(hessian["index"].unique())))
    axes.set_xlabel("rank of the eigenvalue")
    axes.set_ylabel("eigenvalue (nats)")
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "ncols": 2}
    axes.legend(title="net, parameter space", title_fontsize=8, **below)

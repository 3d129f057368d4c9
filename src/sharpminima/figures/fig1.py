"""Fig. 1: test error against the share removed."""

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from sharpminima.base.errors import FigureError
from sharpminima.base.names import DENSE, GRADUAL, REWIND, level_name
from sharpminima.figures.scales import LOG_FROM, below, plain_log_ticks, scale_errors
from sharpminima.figures.style import FULL_WIDTH, GRADUAL_COLOUR, OUTLINE, look_of, styled
from sharpminima.report.tables import errors, panels, unreached
from sharpminima.report.titles import title_of_net

TICKS = (0, 50, 80, 90, 95, 98, 99, 99.5, 99.8, 99.9, 99.95, 99.98, 99.99)  # percent removed


def error_against_removed(results: pd.DataFrame) -> Figure:
    """Fig. 1: test error, %, against the share of prunable parameters removed, %.

    Lines: means over runs and replicas at one level; bars: one sample standard deviation; dots: single nets; dashed
    with a grey band: mean and one standard deviation of dense nets.
    The removed share spreads its high end (it is the logarithm of the share left). Levels not reached are
    crosses on the axis. Where some nets fail and G and 1-S do not, a panel is broken in two: below the errors that
    are to be compared, above, on a logarithmic scale, those of the nets that fail.

    Args:
        results: a results table.
    """
    experiments = panels(results)
    if not experiments:
        raise FigureError("the results table has dense nets only; Fig. 1 shows pruned ones")
    columns = min(2, len(experiments))
    rows = math.ceil(len(experiments) / columns)
    with styled():
        width = FULL_WIDTH if columns > 1 else 4.2
        together = ConstrainedLayoutEngine(h_pad=0.02)  # inches: the halves of a broken panel belong together
        figure = Figure(figsize=(width, 2.9 * rows + 0.75), layout=together)
        grid = figure.add_gridspec(rows, columns)
        entries: dict[str, Line2D] = {}
        counts: dict[str, set[int]] = {}
        methods = len({key[2] for key, _ in experiments})
        for index, (key, nets) in enumerate(experiments):
            summary, missed = errors(nets), unreached(results, key)
            parts = _error_panel(figure, grid[divmod(index, columns)], key[2], nets, summary, missed, entries)
            for strategy, cells in summary.groupby("strategy"):
                counts.setdefault(look_of(str(strategy), key[2]).title, set()).update(map(int, cells["error_n"]))
            method = f", {key[2]}" if methods > 1 else ""
            parts[0].set_title(f"({chr(ord('a') + index)}) {title_of_net(key[1], key[0])}{method}", loc="left")
            if index % columns == 0:
                parts[-1].set_ylabel("test error (%)")
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
        scale_errors(parts[0], nets["test_error_percent"])
    else:
        upper, lower = parts
        _scale_broken(upper, lower, nets["test_error_percent"], cut)
    _mark_missed(parts[-1], missed)
    return parts


def _break_at(nets: pd.DataFrame) -> float | None:
    """The test error, %, at which a panel is broken; None where one scale shows all."""
    values = nets["test_error_percent"]
    near = values[nets["strategy"].isin((DENSE, GRADUAL, REWIND)) & (values > 0)]
    if near.empty or near.max() / near.min() > LOG_FROM or values.max() / near.min() <= LOG_FROM:
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
            # Across the break a bar would look like a line from edge to edge.
            yerr=rows["error_sd"].fillna(0).where(inside),
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


def _scale_broken(upper: Axes, lower: Axes, values: pd.Series, cut: float) -> None:
    upper.set_yscale("log")
    upper.set_ylim(cut, values.max() * 1.4)
    plain_log_ticks(upper)
    upper.spines["bottom"].set_visible(False)
    upper.tick_params(bottom=False, labelbottom=False)
    lower.set_ylim(below(values, cut), cut)
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
    for removed in TICKS:
        share = 100 - removed
        near = chosen and math.log(chosen[-1] / share) < 0.08 * length
        if right <= share <= left * 1.000001 and not near:
            chosen.append(share)
    return chosen


def _span(counts: set[int]) -> str:
    low, high = min(counts), max(counts)
    return f"n = {low}" if low == high else f"n = {low}–{high}"

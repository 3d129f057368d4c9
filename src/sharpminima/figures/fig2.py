"""Fig. 2: the loss over the plane through G and 1-S, and the largest eigenvalues there."""

from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from sharpminima.base.names import GRADUAL, REWIND
from sharpminima.figures.planes import caption, draw_plane, nearest_line
from sharpminima.figures.scales import eigenvalue_scale
from sharpminima.figures.style import FULL_WIDTH, look_of, styled
from sharpminima.report.tables import ENDS

_SPACES = {"all": ("o", "-", -0.06), "surviving": ("^", "--", 0.06)}  # marker, line, shift


def loss_plane(surface: pd.DataFrame, hessian: pd.DataFrame, line: pd.DataFrame) -> Figure:
    """Fig. 2: (a) loss, nats, over the plane and (c) along the line through G and 1-S; top eigenvalues.

    Args:
        surface: the surface table of one run.
        hessian: the Hessian tables of all runs, drawn as (b): means as lines, single runs as small markers,
            hollow where the residual test failed.
        line: the line tables of the runs that have a map, drawn as (d): means of each rank as lines, the largest of
            single runs as small markers.

    Eigenvalues that are of other images than the loss say of how many.
    """
    with styled():
        figure = Figure(figsize=(FULL_WIDTH, 5.2), layout="constrained")
        figure.suptitle(caption(surface))
        grid = figure.add_gridspec(2, 2, height_ratios=(2, 1.1), width_ratios=(1.12, 1))
        plane, cut = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[1, 0])
        draw_plane(figure, plane, cut, surface, "loss_nats", "loss (nats)")
        ends, along = figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, 1])
        _spectrum(ends, hessian)
        _spectrum_along(along, line)
        ends.set_title(f"(b) Hessian, {_runs(hessian)}{_other_images(hessian, surface)}", loc="left")
        ranks = line["index"].nunique()
        along.set_title(f"(d) line: top {ranks}, {_runs(line)}{_other_images(line, surface)}", loc="left")
        plane.set_title("(a) loss", loc="left")
        cut.set_title(f"(c) loss along y = {nearest_line(surface):.2g}", loc="left")
    return figure


def _runs(rows: pd.DataFrame) -> str:
    seeds = rows["seed"].nunique()
    return f"{seeds} run{'s' if seeds > 1 else ''}"


def _other_images(rows: pd.DataFrame, surface: pd.DataFrame) -> str:
    """Their number of images, for a title, where it is not the map's."""
    counts = sorted(rows["images"].unique())
    return "" if counts == sorted(surface["images"].unique()) else f", {' and '.join(f'{n:,}' for n in counts)} images"


def _spectrum(axes: Axes, hessian: pd.DataFrame) -> None:
    """Top eigenvalues of G and 1-S by rank: nets apart by colour, spaces by marker and line."""
    hessian = hessian[hessian["strategy"].isin(ENDS)]
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
    eigenvalue_scale(axes, hessian["eigenvalue"])
    axes.xaxis.set_major_locator(FixedLocator(sorted(hessian["index"].unique())))
    axes.set_xlabel("rank of the eigenvalue")
    axes.set_ylabel("eigenvalue (nats)")
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "ncols": 2}
    axes.legend(title="net, parameter space", title_fontsize=8, **below)


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
    eigenvalue_scale(axes, line["eigenvalue"])
    axes.set_xlabel("x (G at 0, 1-S at 1)")
    axes.set_ylabel("eigenvalue (nats)")

"""The result of a single analysis, of any net, as a figure: what `plot` of a result calls."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sharpminima.figures.planes import cut_scale, draw_map
from sharpminima.figures.scales import eigenvalue_scale
from sharpminima.figures.style import COLUMN_WIDTH, FULL_WIDTH, PALETTE, styled

_UNITS = {"error": "error (%)", "psp_norm": "PSP norm"}
_PLANE = ("x", "y")


def eigenvalues(frame: pd.DataFrame, title: str) -> Figure:
    """Largest eigenvalues by rank, hollow where they did not converge, with their residuals as bars."""
    with styled():
        figure, axes = _single(title)
        axes.plot(frame["rank"], frame["eigenvalue"], color=PALETTE[0], linewidth=0.8)
        for converged, rows in frame.groupby(frame["converged"].astype(bool)):
            axes.errorbar(
                rows["rank"],
                rows["eigenvalue"],
                yerr=rows["residual"],
                linestyle="none",
                marker="o",
                color=PALETTE[0],
                markerfacecolor=PALETTE[0] if converged else "white",
                label="converged" if converged else "not converged",
            )
        eigenvalue_scale(axes, frame["eigenvalue"])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("rank of the eigenvalue")
        axes.set_ylabel(f"eigenvalue ({_unit(frame)})")
        axes.legend()
    return figure


def trace(frame: pd.DataFrame, title: str) -> Figure:
    """A trace with its standard error, and the part that is known without one."""
    with styled():
        figure, axes = _single(title)
        row = frame.iloc[0]
        axes.bar(["trace", "of it captured"], [row["trace"], row["captured"]], color=PALETTE[:2], width=0.6)
        axes.errorbar(["trace"], [row["trace"]], yerr=[row["standard_error"]], color="black", capsize=4)
        axes.axhline(0, color="#999999", linewidth=0.6)
        axes.set_ylabel(_unit(frame))
    return figure


def density(frame: pd.DataFrame, title: str) -> Figure:
    """A spectral density on its grid, with its standard error as a band."""
    with styled():
        figure, axes = _single(title)
        axes.plot(frame["eigenvalue"], frame["density"], color=PALETTE[0])
        low, high = (frame["density"] + sign * frame["standard_error"] for sign in (-1, 1))
        axes.fill_between(frame["eigenvalue"], low.clip(lower=0), high, color=PALETTE[0], alpha=0.25, linewidth=0)
        axes.set_yscale("symlog", linthresh=max(frame["density"].max() * 1e-4, 1e-300))
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f"eigenvalue ({_unit(frame)})")
        axes.set_ylabel("share of the eigenvalues per " + ("nat" if _unit(frame) == "nats" else "unit of the loss"))
    return figure


def entropies(frame: pd.DataFrame, title: str) -> Figure:
    """The PSP-entropy of each layer, with its standard error where tuples were sampled."""
    with styled():
        figure, axes = _single(title, height=0.9 + 0.22 * len(frame))
        places = range(len(frame))
        axes.barh(places, frame["entropy_bits"], xerr=frame["standard_error_bits"], color=PALETTE[0], height=0.7)
        axes.set_yticks(places, frame["layer"])
        axes.invert_yaxis()
        axes.set_xlabel("PSP-entropy (bits)")
    return figure


def diagonal(frame: pd.DataFrame, title: str) -> Figure:
    """The entries of each parameter: their median, the middle half, and the range that holds nine tenths of them."""
    shares = frame.groupby("parameter", sort=False)["diagonal"].quantile([0.05, 0.25, 0.5, 0.75, 0.95]).unstack()
    with styled():
        figure, axes = _single(title, height=0.9 + 0.22 * len(shares))
        places = range(len(shares))
        axes.hlines(places, shares[0.05], shares[0.95], color=PALETTE[0], linewidth=0.8)
        axes.hlines(places, shares[0.25], shares[0.75], color=PALETTE[0], linewidth=4)
        axes.plot(shares[0.5], places, linestyle="none", marker="|", color="black")
        axes.axvline(0, color="#999999", linewidth=0.6)
        axes.set_yticks(places, shares.index)
        axes.invert_yaxis()
        axes.set_xlabel(f"entries of the diagonal ({_unit(frame)})")
    return figure


def states(frame: pd.DataFrame, title: str) -> Figure:
    """The share of each layer's neurons that are live, on for all images, and off for all."""
    with styled():
        figure, axes = _single(title, height=1.2 + 0.22 * len(frame))
        places, start = range(len(frame)), 0 * frame["live"]
        shares = {"live": frame["live"] / frame["neurons"], "always on": frame["always_on"]}
        for number, (label, share) in enumerate((shares | {"always off": frame["always_off"]}).items()):
            axes.barh(places, share, left=start, color=PALETTE[number], height=0.7, label=label)
            start = start + share
        axes.set_yticks(places, frame["layer"])
        axes.invert_yaxis()
        axes.set_xlabel("share of the layer's neurons")
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def surface(frame: pd.DataFrame, title: str) -> Figure:
    """Each measure of a surface as filled contours over the plane, or along its line."""
    measures = [name for name in frame.columns if name not in _PLANE]
    with styled():
        plane = frame["y"].nunique() > 1 and frame["x"].nunique() > 1
        figure = Figure(figsize=(FULL_WIDTH, 2.9 * -(-len(measures) // 2)), layout="constrained")
        figure.suptitle(title)
        panels = figure.subplots(-(-len(measures) // 2), 2, squeeze=False).flatten()
        for axes, name in zip(panels, measures, strict=False):
            label = f"loss ({_unit(frame)})" if name == "loss" else _UNITS.get(name, f"{name.replace('_', ' ')} (bits)")
            axes.set_xlabel("x")
            if plane:
                draw_map(figure, axes, frame.pivot(index="y", columns="x", values=name), label)
                axes.set_ylabel("y")
            else:
                along = "x" if frame["x"].nunique() > 1 else "y"
                axes.plot(frame[along], frame[name], color="#333333", marker=".", markersize=3, linewidth=0.9)
                cut_scale(axes, frame[name])
                axes.set_xlabel(along)
                axes.set_ylabel(label)
        for axes in panels[len(measures) :]:
            axes.remove()
    return figure


def barrier(frame: pd.DataFrame, title: str) -> Figure:
    """Loss and error along a line, above the straight line between the ends'."""
    with styled():
        figure = Figure(figsize=(FULL_WIDTH, 2.6), layout="constrained")
        figure.suptitle(title)
        units = {"loss": _unit(frame), "error": "%"}
        names = [name for name in units if frame[name].notna().any()]  # losses of one's own have no errors
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            axes.plot(frame["x"], frame[name], color=PALETTE[0], marker=".", markersize=3)
            axes.plot(frame["x"], frame[name] - frame[f"{name}_excess"], color="#999999", linestyle="--", linewidth=0.8)
            axes.set_xlabel("x")
            axes.set_ylabel(f"{name} ({units[name]})")
    return figure


def line(frame: pd.DataFrame, title: str) -> Figure:
    """Largest eigenvalues along a line, a curve a rank."""
    with styled():
        figure, axes = _single(title)
        for number, (rank, rows) in enumerate(frame.groupby("rank")):
            axes.plot(rows["x"], rows["eigenvalue"], color=PALETTE[number % len(PALETTE)], label=f"rank {rank}")
        eigenvalue_scale(axes, frame["eigenvalue"])
        axes.set_xlabel("x")
        axes.set_ylabel(f"eigenvalue ({_unit(frame)})")
        axes.legend(fontsize=7, ncols=2)
    return figure


def _unit(frame: pd.DataFrame) -> str:
    """Of the loss."""
    return str(frame.attrs.get("unit", "nats"))


def _single(title: str, height: float = 2.6) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(1.35 * COLUMN_WIDTH, height), layout="constrained")
    figure.suptitle(title)
    return figure, figure.subplots()

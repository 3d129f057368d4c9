"""Fig. 5: the PSP-entropy of neurons within classes."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sharpminima.base.errors import FigureError
from sharpminima.catalogue.columns import ALL
from sharpminima.figures.planes import caption
from sharpminima.figures.style import FULL_WIDTH, styled
from sharpminima.report.tables import ENDS


def class_entropies(psp: pd.DataFrame, neurons: pd.DataFrame) -> Figure:
    """Fig. 5: the first-order PSP-entropy, bits, of neurons (across) within classes (down), by layer.

    Neurons whose state is the same on all images of each class have no entropy and are left out; the others stand by
    their sum over classes, the highest first.

    Args:
        psp: the PSP table of one run; of its parts of the data, that of the neurons is meant.
        neurons: the table of its neurons.
    """
    psp = psp[psp["strategy"].isin(ENDS)]
    psp = psp[psp["part"] == (neurons["part"].iloc[0] if len(neurons) else psp["part"].iloc[0])]
    if psp.groupby(["level", "seed"]).ngroups != 1:
        raise FigureError("a PSP table must hold one run")
    known = psp.astype({"layer": str, "class": str})
    layers = known[(known["layer"] != ALL) & (known["class"] == ALL)].set_index(["strategy", "layer"])["neurons"]
    names = list(dict.fromkeys(layer for _, layer in layers.index))
    classes = list(dict.fromkeys(known.loc[known["class"] != ALL, "class"]))
    with styled():
        figure = Figure(figsize=(FULL_WIDTH, 0.9 + 1.35 * len(names)), layout="constrained")
        figure.suptitle(caption(psp))
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

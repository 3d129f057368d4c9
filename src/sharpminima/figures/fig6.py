"""Fig. 6: what nets are worth on another dataset."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpminima.base.errors import FigureError
from sharpminima.base.names import DENSE, GRADUAL
from sharpminima.figures.scales import scale_errors
from sharpminima.figures.style import FULL_WIDTH, look_of, styled
from sharpminima.report.tables import ENDS, EXPERIMENT, shown_draws
from sharpminima.report.titles import title_of_dataset, title_of_model

_MODES = {"probe": "linear probe", "finetune": "fine-tuned"}


def transfer_errors(transfer: pd.DataFrame) -> Figure:
    """Fig. 6: test error, %, of trained nets on another dataset, by what is trained there.

    Dots: single nets; large markers: medians of those that are summarised together (`shown_draws`); bars: from their
    lower to their upper quartile. Some nets fail, and lie too far above the others for a mean and its deviation.

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
            pruned = nets[nets["method"] == method]
            gradual = pruned[pruned["strategy"] == GRADUAL]
            removed = 100 * (pruned if gradual.empty else gradual)["sparsity"].mean()
            for axes, mode in zip(grid[row], modes, strict=True):
                _transfer_panel(axes, nets[nets["mode"] == mode], method)
                letter = chr(ord("a") + row * len(modes) + modes.index(mode))
                data = f"{title_of_dataset(dataset)} to {title_of_dataset(to)}"
                net = f"{title_of_model(model)}, {removed:.1f} % removed"
                axes.set_title(f"({letter}) {net}\n{data}, {_MODES[mode]}", loc="left")
            # Once all of the row is drawn: limits that are set end the growing of a shared axis.
            scale_errors(grid[row, 0], nets["test_error_percent"])
            grid[row, 0].set_ylabel("test error (%)")
    return figure


def _transfer_panel(axes: Axes, nets: pd.DataFrame, method: str) -> None:
    names = {DENSE: DENSE, **ENDS}
    shown = list(dict.fromkeys(nets["strategy"]))
    labels = []
    for place, strategy in enumerate(shown):
        its, look = nets[nets["strategy"] == strategy], look_of(strategy, method)
        errors_of, shown_errors = its["test_error_percent"], shown_draws(its)["test_error_percent"]
        labels.append(f"{names.get(strategy, strategy.replace('-', chr(10), 1))}\nn = {len(shown_errors)}")
        marker: dict[str, Any] = {"color": look.colour, "marker": look.marker or "P", "linestyle": "none"}
        axes.plot([place - 0.18] * len(errors_of), errors_of, ".", color=look.colour, alpha=0.5, markersize=4)
        axes.vlines(place, *shown_errors.quantile([0.25, 0.75]), color=look.colour, linewidth=1)
        axes.plot(place, shown_errors.median(), markersize=5, **marker)
    axes.set_xticks(range(len(shown)), labels)
    axes.set_xlim(-0.5, len(shown) - 0.5)

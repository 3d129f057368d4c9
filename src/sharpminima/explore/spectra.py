"""The largest eigenvalues of the Hessian at G and 1-S, and along the line between them, to look through."""

from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_hex

from sharpminima.catalogue.columns import RELATIVE
from sharpminima.explore.chart import Chart, Control, Option, base_layout, options, scale_of_axis, short
from sharpminima.explore.names import experiment_name
from sharpminima.figures.style import look_of
from sharpminima.report.tables import ENDS, EXPERIMENT

SPACES = {
    "all": ("all parameters", "circle", "solid"),
    "surviving": ("surviving parameters", "triangle-up", "dash"),
    RELATIVE: ("relative changes of surviving ones", "diamond", "dot"),
}
"""Space -> what it is, symbol, line."""
_RUN = "run %{customdata[0]}, rank %{customdata[1]}<br>eigenvalue %{y:.4~g} nats<br>residual %{customdata[2]:.2~g}, "


def spectrum_chart(hessian: pd.DataFrame) -> Chart:
    """Eigenvalues, nats, by rank: points are runs, hollow where the residual test failed; lines are means.

    Args:
        hessian: the Hessian tables of all runs.
    """
    traces = []
    hessian = hessian[hessian["strategy"].isin(ENDS)]
    for key, of_net in hessian.groupby(EXPERIMENT, sort=False):
        for (strategy, space), rows in of_net.groupby(["strategy", "space"], sort=False):
            title, symbol, dash = SPACES[str(space)]
            colour, net = look_of(str(strategy), "").colour, ENDS[str(strategy)]
            meta = {
                "net": "/".join(map(str, key)),
                "strategy": strategy,
                "space": space,
                "title": f"{net}, {title}",
                "layout": scale_of_axis("yaxis", of_net["eigenvalue"].min() > 0),
            }
            traces.append(_runs(rows, rows["index"], meta, colour, symbol))
            traces.append(_mean(rows, "index", meta, colour, dash))
    ends = [Option(strategy, net, look_of(strategy, "").colour) for strategy, net in ENDS.items()]
    return Chart(
        id="spectrum",
        label="Largest eigenvalues of the Hessian at G and 1-S, by rank",
        traces=traces,
        layout=base_layout(
            xaxis={"title": {"text": "rank of the eigenvalue"}, "dtick": 1},
            yaxis={"title": {"text": "eigenvalue (nats)"}, "tickformat": "~g"},
        ),
        controls=[_nets(hessian), Control("strategy", "Ends", ends), _spaces(hessian)],
        table=True,
    )


def line_chart(line: pd.DataFrame) -> Chart:
    """Eigenvalues, nats, along the line from G to 1-S: a line of means a rank, points are runs.

    Args:
        line: the line tables of all runs that have one.
    """
    ranks = sorted(line["index"].unique())
    shades = [to_hex(colormaps["plasma"](0.8 * place / max(1, len(ranks) - 1))) for place in range(len(ranks))]
    colours = dict(zip(ranks, shades, strict=True))
    traces = []
    for key, of_net in line.groupby(EXPERIMENT, sort=False):
        for (space, rank), rows in of_net.groupby(["space", "index"], sort=False):
            title, symbol, dash = SPACES[str(space)]
            meta = {
                "net": "/".join(map(str, key)),
                "space": space,
                "rank": str(rank),
                "title": f"rank {rank}, {title}",
                "layout": scale_of_axis("yaxis", of_net["eigenvalue"].min() > 0),
            }
            traces.append(_runs(rows, rows["x"], meta, colours[rank], symbol))
            traces.append(_mean(rows, "x", meta, colours[rank], dash))
    chosen = [Option(str(rank), str(rank), colours[rank]) for rank in ranks]
    return Chart(
        id="line",
        label="Largest eigenvalues of the Hessian along the line from G to 1-S",
        traces=traces,
        layout=base_layout(
            xaxis={"title": {"text": "x (G at 0, 1-S at 1)"}},
            yaxis={"title": {"text": "eigenvalue (nats)"}, "tickformat": "~g"},
        ),
        controls=[_nets(line), _spaces(line), Control("rank", "Ranks", chosen)],
        table=True,
    )


def _nets(rows: pd.DataFrame) -> Control:
    methods = list(rows["method"].unique())
    keys = rows[EXPERIMENT].drop_duplicates().itertuples(index=False)
    return Control(
        "net", "Net", options(("/".join(k), experiment_name(k[1], k[0], k[2], methods)) for k in keys), "one"
    )


def _spaces(rows: pd.DataFrame) -> Control:
    shown = [Option(space, title) for space, (title, *_) in SPACES.items() if (rows["space"] == space).any()]
    start = [option.value for option in shown if option.value != RELATIVE]  # what Fig. 2 has
    return Control("space", "Parameter space", shown, start=start or None)


def _runs(rows: pd.DataFrame, at: pd.Series, meta: dict[str, Any], colour: str, symbol: str) -> dict[str, Any]:
    met = rows["converged"].astype(bool).tolist()
    return {
        "type": "scatter",
        "mode": "markers",
        "x": at.tolist(),
        "y": rows["eigenvalue"].tolist(),
        "customdata": [
            [seed, rank, short(residual), "converged" if fine else "not converged"]
            for seed, rank, residual, fine in zip(
                rows["seed"].tolist(), rows["index"].tolist(), rows["residual"].tolist(), met, strict=True
            )
        ],
        "hovertemplate": f"<b>%{{meta.title}}</b>, {_RUN}%{{customdata[3]}}<extra></extra>",
        "marker": {"color": colour, "size": 7, "symbol": [symbol if fine else f"{symbol}-open" for fine in met]},
        "meta": meta,
    }


def _mean(rows: pd.DataFrame, column: str, meta: dict[str, Any], colour: str, dash: str) -> dict[str, Any]:
    mean = rows.groupby(column)["eigenvalue"].mean()
    return {
        "type": "scatter",
        "mode": "lines",
        "x": mean.index.tolist(),
        "y": mean.tolist(),
        "hoverinfo": "skip",
        "line": {"color": colour, "width": 1.4, "dash": dash},
        "meta": meta,
    }

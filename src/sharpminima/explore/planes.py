"""Fig. 2 to 4 to turn: loss and PSP quantities over the plane through G and 1-S."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sharpminima.base.names import level_name
from sharpminima.explore.chart import FONT, GRID, INK, Chart, Control, base_layout, options, scale_of_axis, short
from sharpminima.explore.names import experiment_name
from sharpminima.figures.scales import LOG_FROM
from sharpminima.figures.style import look_of
from sharpminima.report.tables import ENDS, EXPERIMENT

LOSS = {"loss_nats": "loss (nats)"}
"""Column of the surface tables -> its axis."""
PSP = {
    "psp_norm": "PSP norm (mean z²)",
    "psp_entropy_1_bits": "first-order PSP-entropy (bits)",
    "psp_entropy_2_bits": "second-order PSP-entropy (bits)",
    "error_percent": "error (%)",
}
"""The same of what is shown beside the loss."""
_AXIS = {"backgroundcolor": "white", "gridcolor": GRID, "color": INK, "showspikes": False}


def plane_chart(id: str, label: str, surfaces: Sequence[pd.DataFrame], quantities: Mapping[str, str]) -> Chart:
    """Quantities over the planes of runs, each a surface, with G and 1-S marked on it.

    Heights are those of the tables to five digits, at the same x and y; colours are logarithmic with the height.

    Args:
        id, label: of the chart.
        surfaces: surface tables, one a run.
        quantities: column -> title of its axis.
    """
    methods = [table["method"].iloc[0] for table in surfaces]
    traces: list[dict[str, Any]] = []
    names: list[tuple[str, str]] = []
    for table in surfaces:
        row = table.iloc[0]
        key = "/".join(str(row[name]) for name in (*EXPERIMENT, "seed"))
        names.append(
            (key, f"{experiment_name(row['model'], row['dataset'], row['method'], methods)}, run {row['seed']}")
        )
        for column, axis in quantities.items():
            meta = {"map": key, "quantity": column, "axis": axis}
            traces += [_surface(table, column, meta), *_ends(table, column, {"map": key, "quantity": column})]
    many = [Control("quantity", "Quantity", options(quantities.items()), "one")] if len(quantities) > 1 else []
    return Chart(
        id=id,
        label=label,
        traces=traces,
        layout=base_layout(
            margin={"l": 0, "r": 0, "t": 0, "b": 0},
            scene={
                "xaxis": {**_AXIS, "title": {"text": "x (G at 0, 1-S at 1)"}},
                "yaxis": {**_AXIS, "title": {"text": "y (random, orthogonal)"}},
                "zaxis": {**_AXIS, "tickformat": "~g"},
                "camera": {"eye": {"x": -1.15, "y": -1.6, "z": 1.15}, "center": {"x": 0, "y": 0, "z": -0.2}},
                "aspectmode": "manual",
                "aspectratio": {"x": 1, "y": 1, "z": 0.75},
            },
        ),
        controls=[Control("map", "Net and run", options(names), "one", shared=True), *many],
        turns=True,
        tall=True,
    )


def _surface(table: pd.DataFrame, column: str, meta: dict[str, Any]) -> dict[str, Any]:
    grid = table[table["point"] == "grid"].pivot(index="y", columns="x", values=column)
    row = table.iloc[0]
    values = table[column].dropna()
    logarithmic = bool(values.min() > 0 and values.max() / values.min() > LOG_FROM)
    note = (
        f"At level {level_name(row['level'])} %: {100 * row['sparsity']:.2f} % removed; measured on {row['images']:,} "
        f"images ({row['part']}); G and 1-S are {row['distance']:.3g} apart."
    )
    return {
        "type": "surface",
        "x": grid.columns.tolist(),
        "y": grid.index.tolist(),
        "z": [[short(value) for value in line] for line in grid.to_numpy().tolist()],
        "colorscale": "Viridis",
        "showscale": False,
        "contours": {"z": {"show": False, "highlight": False}},
        "hovertemplate": "x %{x:.3~g}, y %{y:.3~g}<br>%{meta.axis}: %{z:.4~g}<extra></extra>",
        "meta": {
            **meta,
            "logarithmic": logarithmic,
            "note": note,
            "layout": {
                **scale_of_axis("scene.zaxis", logarithmic),
                "scene.zaxis.title.text": meta["axis"],
            },
        },
    }


def _ends(table: pd.DataFrame, column: str, meta: dict[str, Any]) -> list[dict[str, Any]]:
    """G and 1-S, where they lie, each with a pole that stands out of the surface and bears its name."""
    traces, top = [], short(float(table[column].max()))
    for strategy, point in ENDS.items():
        rows = table[table["point"] == point]
        look = look_of(strategy, table["method"].iloc[0])
        traces.append(
            {
                "type": "scatter3d",
                "mode": "lines+markers+text",
                "x": rows["x"].tolist() * 2,
                "y": rows["y"].tolist() * 2,
                "z": [short(rows[column].iloc[0]), top],
                "customdata": [short(rows[column].iloc[0])] * 2,
                "text": ["", point],
                "line": {"color": look.colour, "width": 3},
                "textposition": "top center",
                "textfont": {"family": FONT, "size": 16, "color": INK},
                "marker": {
                    "color": [look.colour, "rgba(0,0,0,0)"],
                    "size": 6,
                    "symbol": "circle" if point == "G" else "square",
                    "line": {"width": 0},
                },
                "hovertemplate": f"<b>{point}</b>: {look.title}<br>%{{customdata:.4~g}}<extra></extra>",
                "meta": dict(meta),
            }
        )
    return traces

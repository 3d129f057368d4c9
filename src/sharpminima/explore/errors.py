"""Fig. 1 to look through: every net a point."""

from typing import Any

import pandas as pd

from sharpminima.base.names import CHECKPOINT, DENSE, GRADUAL, level_name
from sharpminima.explore.chart import SYMBOLS, Chart, Control, Option, base_layout, option_of, options, scale_of_axis
from sharpminima.explore.names import look_among, title_among
from sharpminima.figures.fig1 import TICKS
from sharpminima.figures.scales import LOG_FROM
from sharpminima.report.tables import errors, panels, unreached
from sharpminima.report.titles import title_of_net
from sharpminima.study.jobs import Layout

_POINT = (
    "<b>%{meta.title}</b>, run %{customdata[0]}, draw %{customdata[1]}<br>"
    "level %{customdata[2]} %: %{customdata[3]:.2f} % removed, %{customdata[4]:,} parameters left<br>"
    "test error %{y:.2f} %<br>"
    "loss (nats): training %{customdata[5]:.4~g}, validation %{customdata[6]:.4~g}, test %{customdata[7]:.4~g}<br>"
    "best epoch %{customdata[8]} of %{customdata[9]}<br>"
    "%{customdata[10]}<br>%{customdata[11]}<extra></extra>"
)
_MEAN = (
    "<b>%{meta.title}</b>, mean of %{customdata[0]} nets<br>"
    "level %{customdata[1]} %: %{customdata[2]:.2f} % removed<br>"
    "test error %{y:.2f} ± %{error_y.array:.2f} %<extra></extra>"
)


def errors_chart(results: pd.DataFrame, layout: Layout) -> Chart:
    """Test error, %, against the share of prunable parameters left, %, on a logarithmic axis: one sees what is removed.

    Small points are nets, in the words of the results table; large ones and bars are means and sample standard
    deviations over runs and draws, as `sharpminima.report.tables.errors` has them.

    Args:
        results: the results table of the study.
        layout: of the study, for the checkpoints' paths.
    """
    experiments = panels(results)
    traces: list[dict[str, Any]] = []
    seen: set[tuple[str, str]] = set()
    looks: dict[str, Option] = {}
    methods = {key[2]: None for key, _ in experiments}
    for key, nets in experiments:
        dataset, model, method = key
        for strategy, rows in nets.groupby("strategy", sort=False):
            name = str(strategy)
            if name == DENSE and (dataset, model) in seen:  # methods share them
                continue
            look = look_among(name, method, methods)
            title = title_among(name, method, methods)
            shared = title != look.title  # by methods, each with a colour of its own
            looks.setdefault(name, Option(name, title) if shared else option_of(name, look))
            meta: dict[str, Any] = {"net": f"{model}/{dataset}", "strategy": name, "title": look.title}
            if name != DENSE:
                meta["method"] = method
            symbol = SYMBOLS[look.marker] + ("" if look.main else "-open")
            traces.append(_points(rows, meta, layout, look.colour, symbol))
            traces.append(_means(errors(rows), meta, look.colour, symbol, solid=look.main))
        seen.add((dataset, model))
        note = _missed(method, unreached(results, key))
        for trace in traces:
            if note and (trace["meta"]["net"], trace["meta"].get("method")) == (f"{model}/{dataset}", method):
                trace["meta"]["note"] = note
    for trace in traces:
        trace["meta"]["layout"] = scale_of_axis("yaxis", _spreads(results, trace["meta"]["net"]))
    levels = sorted({float(level) for level in results.loc[results["strategy"] != DENSE, "level"]})
    return Chart(
        id="errors",
        label="Test error against the share of parameters removed",
        traces=[trace for trace in traces if trace["x"]],
        layout=base_layout(
            xaxis={
                "type": "log",
                "autorange": "reversed",
                "title": {"text": "prunable parameters removed (%)"},
                "tickvals": [round(100 - tick, 6) for tick in TICKS],
                "ticktext": [f"{tick:g}" for tick in TICKS],
            },
            yaxis={"title": {"text": "test error (%)"}, "tickformat": "~g", "minor": {"showgrid": False}},
        ),
        controls=[
            Control("net", "Net", options((f"{k[1]}/{k[0]}", title_of_net(k[1], k[0])) for k, _ in experiments), "one"),
            Control("strategy", "Strategies", list(looks.values())),
            Control("level", "Levels", [Option(level_name(level), f"{level_name(level)} %") for level in levels]),
            *([_of_methods(list(methods))] if len(methods) > 1 else []),
        ],
        table=True,
    )


def _of_methods(methods: list[str]) -> Control:
    return Control("method", "Methods", [Option(m, m, look_among(GRADUAL, m, methods).colour) for m in methods])


def _points(rows: pd.DataFrame, meta: dict[str, Any], layout: Layout, colour: str, symbol: str) -> dict[str, Any]:
    """The nets of one strategy."""
    level_names = [level_name(level) for level in rows["level"]]
    facts = zip(
        rows["seed"],
        rows["replica"],
        level_names,
        100 * rows["sparsity"],
        rows["nonzero"],
        rows["training_loss_nats"],
        rows["validation_loss_nats"],
        rows["test_loss_nats"],
        rows["best_epoch"],
        rows["epochs"],
        *_paths(rows, layout),
        strict=True,
    )
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [100 * (1 - share) for share in rows["sparsity"].tolist()],
        "y": rows["test_error_percent"].tolist(),
        "customdata": [[_plain(value) for value in row] for row in facts],
        "hovertemplate": _POINT,
        "marker": {"color": colour, "size": 6, "opacity": 0.55, "symbol": symbol},
        "meta": _with_levels(meta, level_names) | {"kind": "net"},
    }


def _means(summary: pd.DataFrame, meta: dict[str, Any], colour: str, symbol: str, *, solid: bool) -> dict[str, Any]:
    """The means of one strategy, a line over levels."""
    summary = summary.sort_values("removed_mean")
    level_names = [level_name(level) for level in summary["level"]]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [100 - removed for removed in summary["removed_mean"].tolist()],
        "y": summary["error_mean"].tolist(),
        "error_y": {"array": summary["error_sd"].fillna(0).tolist(), "thickness": 1, "width": 3},
        "customdata": [
            [_plain(n), name, removed]
            for n, name, removed in zip(summary["error_n"], level_names, summary["removed_mean"].tolist(), strict=True)
        ],
        "hovertemplate": _MEAN,
        "line": {"color": colour, "width": 1.6 if solid else 1, "dash": "solid" if solid else "dot"},
        "marker": {"color": colour, "size": 10, "symbol": symbol},
        "meta": _with_levels(meta, level_names) | {"kind": "mean"},
    }


def _with_levels(meta: dict[str, Any], level_names: list[str]) -> dict[str, Any]:
    """Dense nets have no level that could be switched off."""
    return dict(meta) if meta["strategy"] == DENSE else {**meta, "level": level_names}


def _paths(rows: pd.DataFrame, layout: Layout) -> tuple[list[str], list[str]]:
    """The folder and the rest of each net's checkpoint, two lines for a narrow page."""
    heads, tails = [], []
    for row in rows.to_dict("records"):
        key = {name: row[name] for name in ("dataset", "model", "method", "strategy", "seed")}
        of_dense = row["strategy"] == DENSE
        path = layout.dense(CHECKPOINT, **key) if of_dense else layout.cell(**key, level=level_name(row["level"]))
        folder = f"{layout.runs_folder}/{row['dataset']}/{row['model']}/"
        heads.append(folder)
        tails.append(path.removeprefix(folder))
    return heads, tails


def _plain(value: Any) -> Any:
    """A value of a table as JSON has it."""
    plain = value.item() if hasattr(value, "item") else value
    return None if plain != plain else plain


def _missed(method: str, missed: list[tuple[float, int, float]]) -> str:
    said = [
        f"{level_name(level)} % in {runs} run{'s' if runs > 1 else ''} (at most {100 * best:.2f} %)"
        for level, runs, best in missed
    ]
    return f"Levels that {method} did not reach: {', '.join(said)}." if said else ""


def _spreads(results: pd.DataFrame, net: str) -> bool:
    """Whether the errors of a net want a logarithmic axis, as in the figure."""
    values = results.loc[results["model"] + "/" + results["dataset"] == net, "test_error_percent"]
    return bool(values.min() > 0 and values.max() / values.min() > LOG_FROM)

"""Tables of methods as a page shows them: their ranking, their sizes, and what stands beside published errors."""

import math
from typing import Any

import pandas as pd

from sharpminima.base.names import GRADUAL, level_name
from sharpminima.catalogue.columns import AS_ASKED
from sharpminima.report.rounding import fixed
from sharpminima.report.titles import title_of_model, title_of_net

UNREACHED, COLLAPSED = "†", "‡"
"""Behind an error: some run did not reach the level; some net computes a constant."""


def as_markdown(ranked: pd.DataFrame) -> str:
    """A row a method, a column a net and level: test error, %, mean ± standard deviation over runs, and its marks.

    Where nets are sparser or denser than their level by more than 5 % of what it leaves, what is left is said; then the
    epochs of all trainings behind the nets of the highest level, net by net. Methods stand in the order of their mean
    rank; a place without a rank counts as the last.

    Args:
        ranked: `sharpminima.report.tables.ranking`.
    """
    nets = list(dict.fromkeys(zip(ranked["dataset"], ranked["model"], strict=True)))
    columns = list(dict.fromkeys(zip(ranked["dataset"], ranked["model"], ranked["level"], strict=True)))
    cells = ranked.set_index(["dataset", "model", "level", "method"])
    last = ranked["method"].nunique() + 1
    ranks = ranked.assign(rank=ranked["rank"].fillna(last)).groupby("method")["rank"].mean()
    heads = [f"{title_of_net(model, dataset)}, {level_name(1 - level)} %" for dataset, model, level in columns]
    lines = [["method", *heads, "epochs"], ["---"] * (len(columns) + 2)]
    for method in sorted(ranks.index, key=lambda name: (ranks[name], name)):
        row = [f"`{method}`"]
        row += [_cell(cells.loc[key]) if (key := (*column, method)) in cells.index else "–" for column in columns]
        epochs = [_epochs(ranked, method, *net) for net in nets]
        lines.append([*row, ", ".join(filter(None, epochs))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def sizes_as_markdown(measures: pd.DataFrame) -> str:
    """A row a method, of each net its own nets at the highest level, means over runs: what they take, what they cost.

    kB: of the net as what it is (``stored_bytes``). FLOPs: of effective weights, in percent of the dense net's. CPU
    seconds: of all that a run of the method needed, searches, trainings and measuring, whatever the levels; MB: the
    peak of its jobs. A dash stands where it was not recorded, or paths through the net are not known.

    Args:
        measures: a table of measures (`MEASURE_COLUMNS`).
    """
    own = measures[measures["strategy"] == GRADUAL]
    nets = list(dict.fromkeys(zip(own["dataset"], own["model"], strict=True)))
    lines = [["method"], ["---"]]
    for dataset, model in nets:
        lines[0] += [f"{title_of_net(model, dataset)}: kB", "FLOPs, %", "CPU seconds", "MB"]
        lines[1] += ["---"] * 4
    for method in dict.fromkeys(own["method"]):
        row = [f"`{method}`"]
        for dataset, model in nets:
            chosen = (own["method"] == method) & (own["dataset"] == dataset) & (own["model"] == model)
            row += _sizes(own[chosen])
        lines.append(row)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _sizes(rows: pd.DataFrame) -> list[str]:
    if rows.empty:
        return ["–"] * 4
    top = rows[rows["level"] == rows["level"].max()]
    seconds = rows.groupby("seed")["job_cpu_s"].first()  # all levels of a run are one job
    flops = 100 * top["flops_effective"] / top["flops_dense"]
    return [
        _or_dash(top["stored_bytes"].mean() / 1000, ".3g"),
        _or_dash(flops.mean(), ".2g"),
        _or_dash(seconds.mean(), ".0f"),
        _or_dash(rows["peak_mb"].max(), ".0f"),
    ]


def published_as_markdown(rows: pd.DataFrame) -> str:
    """A row a published error: method, net, source, the error and what was left, ours, runs and the outcome.

    Args:
        rows: `sharpminima.report.published.beside_published`.
    """
    heads = ["method", "published, %", "left, %", "ours, %", "left, %", "runs", "outcome"]
    lines = [heads, ["---"] * len(heads)]
    for row in rows.to_dict("records"):
        named = f"`{row['method']}`, {title_of_model(row['model'])}"
        theirs = [_or_dash(row["published_error_percent"], ".2f"), _or_dash(row["published_density_percent"], ".3g")]
        source = "" if pd.isna(row["source"]) else f" ({row['source']})"
        ours = [_error(row), f"{row['density_mean']:.3g}", f"{row['error_n']}"]
        lines.append([named + source, *theirs, *ours, row["outcome"]])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _or_dash(value: float, form: str) -> str:
    return "–" if math.isnan(value) else f"{value:{form}}"


def _cell(row: Any) -> str:
    left = "" if row["left"] == AS_ASKED else f" ({row['density_mean']:.2g} % left)"
    marks = f" {COLLAPSED}" * bool(row["collapsed"]) + f" {UNREACHED}" * (not row["reached"])
    return f"{_error(row)}{left}{marks}"


def _error(row: Any) -> str:
    """Test error, %, and its standard deviation over runs where there are several."""
    spread = "" if math.isnan(row["error_sd"]) else f" ± {fixed(row['error_sd'], 2)}"
    return f"{fixed(row['error_mean'], 2)}{spread}"


def _epochs(ranked: pd.DataFrame, method: str, dataset: str, model: str) -> str:
    rows = ranked[(ranked["method"] == method) & (ranked["dataset"] == dataset) & (ranked["model"] == model)]
    return "" if rows.empty else f"{rows.sort_values('level')['epochs_mean'].iloc[-1]:.0f}"

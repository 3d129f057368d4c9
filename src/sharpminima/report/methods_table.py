"""The ranking of methods as a table that a page shows."""

import math
from typing import Any

import pandas as pd

from sharpminima.base.names import level_name
from sharpminima.catalogue.columns import AS_ASKED
from sharpminima.report.titles import title_of_net

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


def _cell(row: Any) -> str:
    spread = "" if math.isnan(row["error_sd"]) else f" ± {row['error_sd']:.2f}"
    left = "" if row["left"] == AS_ASKED else f" ({row['density_mean']:.2g} % left)"
    marks = f" {COLLAPSED}" * bool(row["collapsed"]) + f" {UNREACHED}" * (not row["reached"])
    return f"{row['error_mean']:.2f}{spread}{left}{marks}"


def _epochs(ranked: pd.DataFrame, method: str, dataset: str, model: str) -> str:
    rows = ranked[(ranked["method"] == method) & (ranked["dataset"] == dataset) & (ranked["model"] == model)]
    return "" if rows.empty else f"{rows.sort_values('level')['epochs_mean'].iloc[-1]:.0f}"

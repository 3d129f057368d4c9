"""What methods came to here, beside what their authors have published for the same net."""

import math
from typing import Any

import pandas as pd

from sharpminima.catalogue.columns import BESIDE_PUBLISHED_COLUMNS
from sharpminima.report.tables import ranking
from sharpminima.study.paths import PUBLISHED_DATASET

NEAR_POINTS = 0.3  # of error, within which an error is the published one
_DENSITY = 1.1  # times the published density; what keeps more is not compared
_LEAST = 1e-6  # percent left; a net without a weight has a distance, too


def beside_published(results: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """One row a published error of a method that the results have, beside the method's nets at the nearest density.

    Columns: `BESIDE_PUBLISHED_COLUMNS`. ``density_*`` and ``error_*`` in percent, over runs; difference_points: ours
    less the published. outcome: "within .3 points", "lower" or "higher" than the published error; "sparser", where ours
    is higher but less than nine tenths as many weights are left; "denser", "not reached", "collapsed" or "no error
    published", where errors are not compared. Of a method for which nothing is published its sparsest nets:
    "not published".

    Args:
        results: a results table; only nets of MNIST are looked at.
        published: a table of published errors (`PUBLISHED_ERROR_COLUMNS`).
    """
    ranked = ranking(results[results["dataset"] == PUBLISHED_DATASET])
    rows: list[dict[str, Any]] = []
    for (model, method), nets in ranked.groupby(["model", "method"], sort=False):
        theirs = published[(published["model"] == model) & (published["method"] == method)]
        for row in theirs.sort_values("density_percent", ascending=False).itertuples():
            share = nets["density_mean"].clip(lower=_LEAST) / row.density_percent
            distance = share.map(math.log).abs()
            known = {name: getattr(row, name) for name in ("source", "certainty")}
            known |= {f"published_{name}": getattr(row, name) for name in ("density_percent", "error_percent")}
            rows.append({"model": model, "method": method, **known, **_compared(nets.loc[distance.idxmin()], row)})
        if theirs.empty:
            sparsest = nets.loc[nets["density_mean"].idxmin()]
            rows.append({"model": model, "method": method, **_ours(sparsest), "outcome": "not published"})
    return pd.DataFrame(rows, columns=BESIDE_PUBLISHED_COLUMNS)


def _ours(net: pd.Series) -> dict[str, Any]:
    return {name: net[name] for name in ("level", "density_mean", "error_mean", "error_sd", "error_n")}


def _compared(net: pd.Series, theirs: Any) -> dict[str, Any]:
    difference = net["error_mean"] - theirs.error_percent
    return {**_ours(net), "difference_points": difference, "outcome": _outcome(net, theirs, difference)}


def _outcome(net: pd.Series, theirs: Any, difference: float) -> str:
    share = net["density_mean"] / theirs.density_percent
    if net["collapsed"]:
        return "collapsed"
    if not net["reached"]:
        return "not reached"
    if math.isnan(difference):
        return "no error published"
    if share > _DENSITY:
        return "denser"
    if abs(difference) <= NEAR_POINTS + 1e-9:  # two decimals are published
        return f"within {NEAR_POINTS:g} points"
    if difference < 0:
        return "lower"
    return "sparser" if share < 2 - _DENSITY else "higher"

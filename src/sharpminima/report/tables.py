"""The pipeline's tables as figures and numbers read them: checked, and summarised in one way everywhere."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sharpminima.base.errors import FigureError
from sharpminima.base.files import read_json
from sharpminima.base.names import DENSE, GRADUAL, REWIND
from sharpminima.base.sums import check_sum
from sharpminima.catalogue.analyses import ANALYSES
from sharpminima.catalogue.columns import (
    ALL,
    AS_ASKED,
    DENSER,
    MEASURE_COLUMNS,
    PUBLISHED_COLUMNS,
    PUBLISHED_ERROR_COLUMNS,
    RANKING_COLUMNS,
    RESULT_COLUMNS,
    SPARSER,
    TRANSFER_COLUMNS,
)
from sharpminima.report.intervals import describe, paired

_COLUMNS = {
    "results": RESULT_COLUMNS,
    "measures": MEASURE_COLUMNS,
    "transfer": TRANSFER_COLUMNS,
    "published": PUBLISHED_COLUMNS,
    "published_errors": PUBLISHED_ERROR_COLUMNS,
}
EXPERIMENT = ["dataset", "model", "method"]
_NEAR = 0.05  # how far what is left may be from what was asked for, relative
ENDS = {GRADUAL: "G", REWIND: "1-S"}
"""Strategy -> the paper's name of the net."""


def columns_of(kind: str) -> list[str]:
    """The columns of a table: ``results``, ``measures``, ``transfer``, ``published``, ``published_errors``, or of an
    analysis."""
    return _COLUMNS[kind] if kind in _COLUMNS else ANALYSES[kind].columns


def read_table(kind: str, paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> pd.DataFrame:
    """One or several tables of a kind, one below the other.

    Raises:
        FigureError: a table is missing, empty, or lacks columns.
        SharpminimaError: a table was cut off or edited after it was made.
    """
    paths = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    wanted = columns_of(kind)
    frames = []
    for path in paths:
        check_sum(path)
        try:
            frame = pd.read_csv(Path(path))
        except (OSError, EOFError, ValueError) as error:
            raise FigureError(f"{path}: cannot be read as a table ({error})") from error
        missing = [column for column in wanted if column not in frame]
        if missing or frame.empty:
            fault = f"lacks the columns {', '.join(missing)}" if missing else "has no rows"
            raise FigureError(f"{path}: {fault}; remove it, so that it is made again")
        frames.append(frame[wanted])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=wanted)


def distinct(results: pd.DataFrame) -> pd.DataFrame:
    """The nets of a results table, each once: a state that stands for several levels at the highest."""
    return results[(results["strategy"] == DENSE) | (results["level"] == results["represented_by_level"])]


def panels(results: pd.DataFrame) -> list[tuple[tuple[str, str, str], pd.DataFrame]]:
    """(dataset, model, method) and its distinct nets, in the table's order; dense nets belong to each."""
    nets = distinct(results)
    pruned = nets[nets["strategy"] != DENSE]
    experiments = []
    for key, rows in pruned.groupby(EXPERIMENT, sort=False):
        same_net = (nets["dataset"] == key[0]) & (nets["model"] == key[1]) & (nets["strategy"] == DENSE)
        experiments.append((key, pd.concat([nets[same_net], rows], ignore_index=True)))
    return experiments


def at_levels(results: pd.DataFrame, key: Sequence[str]) -> pd.DataFrame:
    """The pruned nets of an experiment at every level asked for: a state that stands for several, at each of them.

    `distinct` has it, and what was retrained at its mask, once; statistics of a level want each run's net.
    """
    rows = results[(results[EXPERIMENT] == list(key)).all(axis=1) & (results["strategy"] != DENSE)]
    gradual, retrained = rows[rows["strategy"] == GRADUAL], rows[rows["strategy"] != GRADUAL]
    asked = gradual[["seed", "level", "represented_by_level"]]
    retrained = asked.merge(retrained.drop(columns="level"), on=["seed", "represented_by_level"])
    return pd.concat([gradual, retrained[rows.columns]], ignore_index=True)


def shown_draws(nets: pd.DataFrame) -> pd.DataFrame:
    """The nets of one strategy and level that are summarised together.

    Where some run has several draws at its mask, the single draws of other runs, which are there to be compared in
    pairs, are left out.
    """
    several = nets.groupby("seed")["replica"].transform("max") > 0
    return nets[several] if several.any() else nets


def errors(nets: pd.DataFrame) -> pd.DataFrame:
    """One row a strategy and level of one experiment's distinct nets: removed share and test error.

    Columns: strategy, level, ``removed_*`` and ``error_*`` (percent) with mean, sd and n; sd of one net: NaN.
    """
    rows = []
    for (strategy, level), all_nets in nets.groupby(["strategy", "level"], sort=False):
        group = shown_draws(all_nets)
        removed, error = describe(100 * group["sparsity"]), describe(group["test_error_percent"])
        rows.append(
            {
                "strategy": strategy,
                "level": level,
                **{f"removed_{name}": removed[name] for name in ("mean", "sd")},
                **{f"error_{name}": error[name] for name in ("mean", "sd", "n")},
            }
        )
    return pd.DataFrame(rows).astype({"removed_sd": float, "error_sd": float})


def path(events: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> pd.DataFrame:
    """The path of DessiLBI, a row a run, epoch and parameter tensor: run, epoch, parameter, density (in [0, 1]).

    Args:
        events: what each run has recorded, ``events.json``.

    Raises:
        FigureError: a file is no such record.
    """
    rows = []
    for run, file in enumerate([events] if isinstance(events, str | os.PathLike) else events):
        check_sum(file)
        recorded = read_json(file)
        try:
            for event in recorded:
                rows.append({"run": run, "epoch": event["epoch"], "parameter": ALL, "density": 1 - event["sparsity"]})
                for name, density in event["density_per_layer"].items():
                    rows.append({"run": run, "epoch": event["epoch"], "parameter": name, "density": density})
        except (KeyError, TypeError) as error:
            raise FigureError(f"{file}: is no path of DessiLBI; give the events.json of such a run") from error
    return pd.DataFrame(rows, columns=["run", "epoch", "parameter", "density"])


def ranking(results: pd.DataFrame) -> pd.DataFrame:
    """One row a dataset, model, level and method: the method's own nets, over runs, the best mean error first.

    Columns: `RANKING_COLUMNS`. reached: by all runs. left: whether that is what the level asks for, to within 5 %
    of it, or the nets are sparser or denser. collapsed: in some run nothing leads from input to output, and the net is
    a constant. What was not reached, or collapsed, has no rank and stands below what has one. ``error_*`` and
    ``density_*`` (of the prunable parameters) in percent, ``epochs_*`` of all trainings behind the level, with mean, sd
    (of one net NaN) and n; ``error_low`` and ``error_high``: the 95 % interval of the mean error by Student's t over
    the runs, NaN for one run.
    """
    rows = []
    nets = results[results["strategy"] == GRADUAL]
    for key, group in nets.groupby(["dataset", "model", "level", "method"], sort=False):
        row: dict[str, Any] = dict(zip(("dataset", "model", "level", "method"), key, strict=True))
        row["reached"] = bool(group["reached"].astype(bool).all())
        row["collapsed"] = bool(group["collapsed"].eq(True).any())  # of some nets it may be unknown
        for name, values in (
            ("error", group["test_error_percent"]),
            ("density", 100 * (1 - group["sparsity"])),
            ("epochs", group["epochs"]),
        ):
            row |= {f"{name}_{part}": value for part, value in describe(values).items()}
        row["left"] = _left(row["density_mean"] / (100 * (1 - row["level"])), reached=row["reached"])
        error = paired(describe(group["test_error_percent"]))
        rows.append(row | {"error_low": error["low"], "error_high": error["high"], "rank": None})
    place = ["dataset", "model", "level"]
    ranked = pd.DataFrame(rows, columns=RANKING_COLUMNS)
    ranked["unranked"] = ~ranked["reached"].astype(bool) | ranked["collapsed"].astype(bool)
    ranked = ranked.sort_values([*place, "unranked", "error_mean", "method"], ignore_index=True)
    ranked["rank"] = (ranked.groupby(place).cumcount() + 1).astype("Int64").mask(ranked["unranked"])
    spreads = [column for column in RANKING_COLUMNS if column.endswith(("_sd", "_low", "_high"))]
    return ranked[RANKING_COLUMNS].astype(dict.fromkeys(spreads, float))


def _left(share: float, *, reached: bool) -> str:
    """What of the share asked for is left, in words."""
    if not reached or share > 1 + _NEAR:
        return DENSER
    return SPARSER if share < 1 - _NEAR else AS_ASKED


def unreached(results: pd.DataFrame, key: Sequence[str]) -> list[tuple[float, int, float]]:
    """Levels that some runs of an experiment did not reach: (level, runs, highest share they removed)."""
    rows = results[(results[EXPERIMENT] == list(key)).all(axis=1)]
    return [(float(level), len(group), float(group["sparsity"].max())) for level, group in short(rows).groupby("level")]


def short(results: pd.DataFrame) -> pd.DataFrame:
    """The nets of the gradual methods that did not reach their level."""
    return results[(results["strategy"] == GRADUAL) & ~results["reached"].astype(bool)]

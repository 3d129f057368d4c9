"""The numbers of the paper's text and tables, as one JSON file; rounding is left to the paper's source."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sharpminima.base.errors import FigureError
from sharpminima.base.files import write_json
from sharpminima.base.names import DENSE, GRADUAL
from sharpminima.catalogue.columns import ALL
from sharpminima.report.claims import VERDICTS, Ledger, judge, read_ledger
from sharpminima.report.compute import compute_used
from sharpminima.report.experiments import (
    Analysis,
    Cell,
    Ends,
    Experiment,
    Level,
    Line,
    Lower,
    Map,
    Quantity,
    Spectrum,
    Trained,
    TransferCell,
)
from sharpminima.report.intervals import describe
from sharpminima.report.tables import ENDS, EXPERIMENT, at_levels, panels, read_table, shown_draws, unreached
from sharpminima.report.titles import title_of

_Path = str | os.PathLike[str]
PSP_QUANTITIES = {
    "psp_norm": "mean z²",
    "psp_norm_with_output": "mean z²",
    "entropy_1_bits": "bits",
    "entropy_1_live_bits": "bits",
    "entropy_2_joint_bits": "bits",
    "entropy_2_joint_live_bits": "bits",
    "entropy_2_agreement_bits": "bits",
}
"""Column of the PSP tables -> unit."""
SURFACE_QUANTITIES = ("loss_nats", "error_percent", "psp_norm", "psp_entropy_1_bits", "psp_entropy_2_bits")


def summarise(
    results: _Path,
    psp: Iterable[_Path],
    hessian: Iterable[_Path],
    surface: Iterable[_Path],
    claims: _Path,
    study: Mapping[str, Any],
    out: _Path,
    *,
    barrier: Iterable[_Path] = (),
    line: Iterable[_Path] = (),
    transfer: Iterable[_Path] = (),
) -> None:
    """Write ``out``: means, standard deviations and counts, and the verdicts on the paper's claims.

    Args:
        results: the study's table of results.
        psp, hessian: tables of every run that was analysed.
        surface: tables of maps; the first of an experiment is the one that figures show.
        claims: the claims ledger.
        study: the study as its file says it; copied.
        barrier: loss and error between G and 1-S, of every run that was analysed.
        line: eigenvalues between G and 1-S, of the runs that have them.
        transfer: the errors of every run's nets on other datasets.

    Raises:
        ConfigError: the ledger has faults.
        FigureError: a table is missing or holds what cannot be summarised.
    """
    psp_rows = read_table("psp", psp).astype({"layer": str, "class": str})
    tables = {
        "results": read_table("results", results),
        "psp": psp_rows[psp_rows["class"] == ALL],
        "hessian": read_table("hessian", hessian),
        "transfer": read_table("transfer", transfer),
        "barrier": read_table("barrier", barrier),
        "line": read_table("line", line),
    }
    maps = [read_table("surface", path) for path in surface]
    experiments = _experiments(tables, maps, study)
    ledger = read_ledger(claims)
    judged = judge(ledger, experiments, _new_runs(ledger, tables, maps, study))
    verdicts = [claim["verdict"] for claim in judged]
    numbers = {
        "study": dict(study),
        "experiments": experiments,
        "claims": judged,
        "margins": ledger.margins.model_dump(mode="json") if ledger.margins else None,
        "new_runs_from": ledger.new_runs_from,
        "amendments": [amendment.model_dump(mode="json") for amendment in ledger.amendments],
        "verdicts": {verdict: verdicts.count(verdict) for verdict in VERDICTS},
    }
    try:
        write_json(Path(out), numbers)
    except ValueError as error:
        raise FigureError(f"{out}: the tables hold a value that is not finite ({error})") from error


def _experiments(
    tables: Mapping[str, pd.DataFrame], maps: Sequence[pd.DataFrame], study: Mapping[str, Any]
) -> list[Experiment]:
    nets = tables["results"]
    return [
        {
            "dataset": key[0],
            "model": key[1],
            "method": key[2],
            **_trained(rows, nets, key),
            "analysis": _analysis(_of(tables["psp"], key), _of(tables["hessian"], key)),
            "barrier": _barrier(_of(tables["barrier"], key)),
            "line": _line(_of(tables["line"], key)),
            "transfer": _transfer(tables["transfer"], key),
            "compute": compute_used(rows, study),
            "maps": [_map(table) for table in maps if tuple(table[EXPERIMENT].iloc[0]) == key],
        }
        for key, rows in panels(nets)
    ]


def _new_runs(
    ledger: Ledger, tables: Mapping[str, pd.DataFrame], maps: Sequence[pd.DataFrame], study: Mapping[str, Any]
) -> list[Experiment]:
    """The experiments by the new runs alone, which the ledger names by their first seed; empty without any."""
    first = ledger.new_runs_from
    if first is None:
        return []
    new = {name: table[table["seed"] >= first] for name, table in tables.items()}
    # Without older runs there is nothing to set beside them.
    if new["results"].empty or len(new["results"]) == len(tables["results"]):
        return []
    return _experiments(new, [table for table in maps if int(table["seed"].iloc[0]) >= first], study)


def _of(table: pd.DataFrame, key: tuple[str, str, str]) -> pd.DataFrame:
    return table[(table[EXPERIMENT] == list(key)).all(axis=1)]


def _by_seed(rows: pd.DataFrame, column: str) -> dict[str, float]:
    """Value of each run, for a strategy without replicas; runs are named by their seed."""
    return _named_by_seed(rows.set_index("seed")[column])


def _named_by_seed(values: pd.Series) -> dict[str, float]:
    return {str(seed): float(value) for seed, value in values.items()}


def _cell(strategy: str, method: str, nets: pd.DataFrame) -> Cell:
    """Statistics of the nets that are shown together."""
    rows = shown_draws(nets)
    runs = rows["seed"].unique()
    return {
        "title": title_of(strategy, method),
        "removed_percent": describe(100 * rows["sparsity"]),
        "test_error_percent": describe(rows["test_error_percent"]),
        "training_loss_nats": describe(rows["training_loss_nats"]),
        "best_epoch": describe(rows["best_epoch"]),
        "epochs": describe(rows["epochs"]),
        "nonzero": describe(rows["nonzero"]),
        "compression": describe(rows["compression"]),
        "drawn_at": str(runs[0]) if len(runs) == 1 else None,
        "by_seed": {
            column: _by_seed(nets[nets["replica"] == 0], column)
            for column in ("test_error_percent", "training_loss_nats", "best_epoch", "epochs")
        },
    }


def _trained(nets: pd.DataFrame, results: pd.DataFrame, key: tuple[str, str, str]) -> Trained:
    pruned = at_levels(results, key)
    levels: list[Level] = [
        {
            "level": float(level),
            "strategies": {
                str(strategy): _cell(str(strategy), key[2], cell)
                for strategy, cell in rows.groupby("strategy", sort=False)
            },
        }
        for level, rows in pruned.groupby("level")
    ]
    dense = nets[nets["strategy"] == DENSE]
    missed = unreached(results, key)
    highest = pruned[(pruned["strategy"] == GRADUAL) & (pruned["level"] == pruned["level"].max())]
    return {
        "parameters": int(nets["parameters"].iloc[0]),
        "test_images": int(nets["test_images"].iloc[0]),
        "nets": len(nets),
        "dense": _cell(DENSE, key[2], dense) if len(dense) else None,
        "levels": levels,
        "unreached": [{"level": level, "runs": runs, "removed": best} for level, runs, best in missed],
        "highest": {
            "level": float(pruned["level"].max()),
            "runs": len(highest),
            "runs_that_reached": int(highest["reached"].astype(bool).sum()),
            "removed_percent": describe(100 * highest["sparsity"]) if len(highest) else None,
        },
    }


def _ends(rows: pd.DataFrame, column: str) -> Ends:
    values = {net: _by_seed(rows[rows["strategy"] == strategy], column) for strategy, net in ENDS.items()}
    pairs = [values["G"][seed] - values["1-S"][seed] for seed in values["G"] if seed in values["1-S"]]
    return {
        "G": describe(values["G"].values()),
        "1-S": describe(values["1-S"].values()),
        "by_seed": values,
        "difference": {**describe(pairs), "positive": sum(pair > 0 for pair in pairs)},
    }


def _analysis(psp: pd.DataFrame, hessian: pd.DataFrame) -> Analysis | None:
    if psp.empty and hessian.empty:
        return None
    readings = {
        str(part): {str(layer): _psp(at) for layer, at in rows.groupby("layer", sort=False)}
        for part, rows in psp.groupby("part", sort=False)
    }
    psp = psp[(psp["layer"] == ALL) & (psp["part"] == next(iter(readings), None))]
    common = (psp if len(psp) else hessian).drop_duplicates(["strategy", "seed"])
    spaces: dict[str, Spectrum] = {}
    for space, rows in hessian.groupby("space", sort=False):
        ranks = [_ends(group, "eigenvalue") for _, group in rows.groupby("index")]
        spaces[str(space)] = {
            "ranks": ranks,
            "dimension": describe(rows.drop_duplicates(["strategy", "seed"])["dimension"]),
            "values": len(rows),
            "converged": int(rows["converged"].astype(bool).sum()),
            "positive": int((rows["eigenvalue"] > 0).sum()),
        }
    return {
        "level": float(common["level"].iloc[0]),
        "part": str(common["part"].iloc[0]),
        "images": int(common["images"].iloc[0]),
        "runs": int(common["seed"].nunique()),
        "removed_percent": describe(100 * common[common["strategy"] == GRADUAL]["sparsity"]),
        "psp": _psp(psp),
        "psp_readings": readings,
        "live_share": _ends(psp.assign(share=psp["live_neurons"] / psp["neurons"]), "share") if len(psp) else None,
        "hessian": spaces,
    }


def _psp(rows: pd.DataFrame) -> dict[str, Quantity]:
    """The quantities of a net, or of a layer, which lacks some."""
    known = {column: unit for column, unit in PSP_QUANTITIES.items() if rows[column].notna().any()}
    return {column: {"unit": unit, **_ends(rows, column)} for column, unit in known.items()}


def _barrier(rows: pd.DataFrame) -> dict[str, Any]:
    """By part of the data: how far loss and error rise above the line between those of G and of 1-S, over runs."""
    found: dict[str, Any] = {}
    for part, its_rows in rows.groupby("part", sort=False):
        highest = its_rows.groupby("seed")[["loss_excess_nats", "error_excess_percent"]].max()
        found[str(part)] = {str(column): describe(values) for column, values in highest.items()}
        found[str(part)]["by_seed"] = {str(column): _named_by_seed(values) for column, values in highest.items()}
    return found


def _transfer(rows: pd.DataFrame, key: tuple[str, str, str]) -> dict[str, dict[str, dict[str, TransferCell]]]:
    """By dataset that the nets went to, mode and strategy: their test error there."""
    dataset, model, method = key
    here = rows[(rows["dataset"] == dataset) & (rows["model"] == model) & rows["method"].isin([method, DENSE])]
    found: dict[str, dict[str, dict[str, TransferCell]]] = {}
    for (to, mode, strategy), nets in here.groupby(["to", "mode", "strategy"], sort=False):
        found.setdefault(str(to), {}).setdefault(str(mode), {})[str(strategy)] = {
            "title": title_of(str(strategy), method),
            "live_features": describe(shown_draws(nets)["live_features"]),
            "test_error_percent": describe(shown_draws(nets)["test_error_percent"]),
            "by_seed": {"test_error_percent": _by_seed(nets[nets["replica"] == 0], "test_error_percent")},
        }
    return found


def _line(rows: pd.DataFrame) -> dict[str, Line]:
    """By space, over the runs: the largest eigenvalue at G and at 1-S, and the highest of those at points between."""
    found: dict[str, Line] = {}
    for space, points in rows[rows["index"] == 1].groupby("space"):
        at_g, at_1s = points[points["x"] == 0], points[points["x"] == 1]
        between = points[(points["x"] > 0) & (points["x"] < 1)]
        found[space] = {
            "images": int(points["images"].max()),
            "points": int(between["x"].nunique()),
            "G": describe(at_g["eigenvalue"]),
            "1-S": describe(at_1s["eigenvalue"]),
            "between": describe(between.groupby("seed")["eigenvalue"].max()) if len(between) else None,
        }
    return found


def _map(table: pd.DataFrame) -> Map:
    """The ends of a map, and of each quantity the points of the map where it is lower than at G."""
    row, grid = table.iloc[0], table[table["point"] == "grid"]
    ends = {net: table[table["point"] == net].iloc[0] for net in ENDS.values()}
    at = {net: {column: float(end[column]) for column in SURFACE_QUANTITIES} for net, end in ends.items()}
    lower: dict[str, Lower] = {}
    for column in ("psp_norm", "psp_entropy_1_bits", "psp_entropy_2_bits"):
        loss = grid.loc[grid[column] < ends["G"][column], "loss_nats"].dropna()
        lower[column] = {
            "points": len(loss),
            "lowest_loss_nats": float(loss.min()) if len(loss) else None,
        }
    return {
        "seed": int(row["seed"]),
        "level": float(row["level"]),
        "removed_percent": 100 * float(row["sparsity"]),
        "part": str(row["part"]),
        "images": int(row["images"]),
        "definition": str(row["definition"]),
        "distance": float(row["distance"]),
        "points": len(grid),
        "G": at["G"],
        "1-S": at["1-S"],
        "lower_than_at_G": lower,
    }

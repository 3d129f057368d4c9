"""What the numbers of a study say of each analysis.

An analysis names its function here, or a plug-in's own, as its ``summary``: it takes the rows of one experiment, all
its runs, and returns what the experiment gains in the numbers file. G is the gradual method's net and 1-S its rewound
one.
"""

from typing import Any

import pandas as pd

from sharpminima.base.names import DENSE, GRADUAL
from sharpminima.catalogue.columns import ALL
from sharpminima.report.experiments import BySeed, Counted, Ends, Line, Lower, Map, Quantity, Spectrum
from sharpminima.report.intervals import describe
from sharpminima.report.tables import ENDS

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


def by_seed(rows: pd.DataFrame, column: str) -> BySeed:
    """Value of each run, for a strategy without replicas; runs are named by their seed."""
    return named_by_seed(rows.set_index("seed")[column])


def named_by_seed(values: pd.Series) -> BySeed:
    """The same of a series whose index is the seed."""
    return {str(seed): float(value) for seed, value in values.items()}


def psp(rows: pd.DataFrame) -> dict[str, Any]:
    """PSP norm and entropies of the nets: of the first part of the data, and by part and layer."""
    rows = rows.astype({"layer": str, "class": str})
    rows = rows[rows["class"] == ALL]
    readings = {
        str(part): {str(layer): _quantities(at) for layer, at in its_rows.groupby("layer", sort=False)}
        for part, its_rows in rows.groupby("part", sort=False)
    }
    whole = rows[(rows["layer"] == ALL) & (rows["part"] == next(iter(readings)))]
    live_share = _ends(whole.assign(share=whole["live_neurons"] / whole["neurons"]), "share")
    return {
        "analysis": {
            **_conditions(whole),
            "psp": _quantities(whole),
            "psp_readings": readings,
            "live_share": live_share,
        }
    }


def hessian(rows: pd.DataFrame) -> dict[str, Any]:
    """The largest eigenvalues of the nets, by the space in which they are taken."""
    spaces: dict[str, Spectrum] = {}
    for space, of_nets in rows.groupby("space", sort=False):
        ranks = [_ends(group, "eigenvalue") for _, group in of_nets.groupby("index")]
        its_rows = of_nets[of_nets["strategy"].isin(ENDS)]
        counted = _counted(its_rows)
        spaces[str(space)] = {
            "images": int(its_rows["images"].iloc[0]),
            "part": str(its_rows["part"].iloc[0]),
            "ranks": ranks,
            "dimension": describe(its_rows.drop_duplicates(["strategy", "seed"])["dimension"]),
            "values": counted["values"],
            "converged": counted["converged"],
            "positive": int((its_rows["eigenvalue"] > 0).sum()),
        }
        if (of_dense := of_nets[of_nets["strategy"] == DENSE]).size:
            spaces[str(space)]["dense"] = _counted(of_dense)
    return {"analysis": {**_conditions(rows), "hessian": spaces}}


def _counted(rows: pd.DataFrame) -> Counted:
    return {"values": len(rows), "converged": int(rows["converged"].astype(bool).sum())}


def barrier(rows: pd.DataFrame) -> dict[str, Any]:
    """By part of the data: how far loss and error rise above the line between those of G and of 1-S, over runs."""
    parts: dict[str, Any] = {}
    for part, its_rows in rows.groupby("part", sort=False):
        highest = its_rows.groupby("seed")[["loss_excess_nats", "error_excess_percent"]].max()
        parts[str(part)] = {str(column): describe(values) for column, values in highest.items()}
        parts[str(part)]["by_seed"] = {str(column): named_by_seed(values) for column, values in highest.items()}
    return {"barrier": parts}


def line(rows: pd.DataFrame) -> dict[str, Any]:
    """By space, over the runs: the largest eigenvalue at G and at 1-S, and the highest of those at points between."""
    spaces: dict[str, Line] = {}
    for space, points in rows[rows["index"] == 1].groupby("space"):
        at_g, at_1s = points[points["x"] == 0], points[points["x"] == 1]
        between = points[(points["x"] > 0) & (points["x"] < 1)]
        spaces[str(space)] = {
            "images": int(points["images"].max()),
            "points": int(between["x"].nunique()),
            "G": describe(at_g["eigenvalue"]),
            "1-S": describe(at_1s["eigenvalue"]),
            "between": describe(between.groupby("seed")["eigenvalue"].max()) if len(between) else None,
        }
    return {"line": spaces}


def surface(rows: pd.DataFrame) -> dict[str, Any]:
    """The maps of an experiment, a run each; the first is the one that figures show."""
    return {"maps": [_map(table) for _, table in rows.groupby("seed", sort=False)]}


def _conditions(rows: pd.DataFrame) -> dict[str, Any]:
    """At what level, on which images and of how many runs something was measured."""
    nets = rows.drop_duplicates(["strategy", "seed"])
    gradual = nets[nets["strategy"] == GRADUAL]
    return {
        "level": float(gradual["level"].iloc[0]),
        "part": str(nets["part"].iloc[0]),
        "images": int(nets["images"].iloc[0]),
        "runs": int(nets["seed"].nunique()),
        "removed_percent": describe(100 * gradual["sparsity"]),
    }


def _ends(rows: pd.DataFrame, column: str) -> Ends:
    values = {net: by_seed(rows[rows["strategy"] == strategy], column) for strategy, net in ENDS.items()}
    dense = by_seed(rows[rows["strategy"] == DENSE], column)
    pairs = [values["G"][seed] - values["1-S"][seed] for seed in values["G"] if seed in values["1-S"]]
    ends: Ends = {
        "G": describe(values["G"].values()),
        "1-S": describe(values["1-S"].values()),
        "by_seed": values,
        "difference": {**describe(pairs), "positive": sum(pair > 0 for pair in pairs)},
    }
    if dense:
        ends["dense"], values[DENSE] = describe(dense.values()), dense
    return ends


def _quantities(rows: pd.DataFrame) -> dict[str, Quantity]:
    """The quantities of a net, or of a layer, which lacks some."""
    known = {column: unit for column, unit in PSP_QUANTITIES.items() if rows[column].notna().any()}
    return {column: {"unit": unit, **_ends(rows, column)} for column, unit in known.items()}


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

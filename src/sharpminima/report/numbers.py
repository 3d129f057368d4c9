"""The numbers of the paper's text and tables, as one JSON file; rounding is left to the paper's source."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import pandas as pd

from sharpminima.base.errors import ConfigError, FigureError
from sharpminima.base.files import write_json
from sharpminima.base.names import DENSE, GRADUAL, REWIND
from sharpminima.catalogue.analyses import ANALYSES
from sharpminima.catalogue.brought import running
from sharpminima.catalogue.registry import loaded
from sharpminima.catalogue.strategies import STRATEGIES
from sharpminima.report.claims import VERDICTS, Ledger, judge, judge_settings, read_ledger
from sharpminima.report.compute import compute_used
from sharpminima.report.experiments import Cell, Experiment, Level, Measured, Trained, TransferCell
from sharpminima.report.intervals import Interval, describe, paired
from sharpminima.report.outcome import outcome
from sharpminima.report.summaries import by_seed
from sharpminima.report.tables import EXPERIMENT, at_levels, panels, read_table, short, shown_draws, unreached
from sharpminima.report.titles import short_title_of, title_of, title_of_dataset, title_of_model, title_of_net
from sharpminima.report.ways import ways

_Path = str | os.PathLike[str]


def summarise(
    results: _Path,
    measured: Mapping[str, Iterable[_Path]],
    claims: _Path,
    study: Mapping[str, Any],
    out: _Path,
    *,
    transfer: Iterable[_Path] = (),
) -> None:
    """Write ``out``: means, standard deviations and counts, and the verdicts on the paper's claims.

    Args:
        results: the study's table of results.
        measured: analysis -> its tables, of every run that has one; of maps, first the one that figures show.
        claims: the claims ledger.
        study: the study as its file says it; copied.
        transfer: the errors of every run's nets on other datasets.

    Raises:
        ConfigError: the ledger has faults.
        FigureError: a table is missing or holds what cannot be summarised.
    """
    tables = {
        "results": read_table("results", results),
        "transfer": read_table("transfer", transfer),
        **{name: read_table(name, paths) for name, paths in measured.items()},
    }
    experiments = _experiments(tables, study)
    ledger = read_ledger(claims)
    judged = judge(ledger, experiments, _new_runs(ledger, tables, study))
    verdicts = [claim["verdict"] for claim in judged]
    numbers = {
        "study": dict(study),
        "experiments": experiments,
        "ways": ways(experiments, study),
        "titles": _titles(tables, ledger),
        "outcome": outcome(judged, of_paper="ledger" not in study),
        "claims": judged,
        "by_settings": judge_settings(ledger, experiments),
        "margins": ledger.margins.model_dump(mode="json") if ledger.margins else None,
        "new_runs_from": ledger.new_runs_from,
        "amendments": [amendment.model_dump(mode="json") for amendment in ledger.amendments],
        "verdicts": {verdict: verdicts.count(verdict) for verdict in VERDICTS},
    }
    try:
        write_json(Path(out), numbers)
    except ValueError as error:
        raise FigureError(f"{out}: the tables hold a value that is not finite ({error})") from error


def tables_by_name(given: Iterable[str]) -> dict[str, list[str]]:
    """Analysis -> its tables, in the order given.

    Args:
        given: ``analysis=path`` each, as on a command line.

    Raises:
        ConfigError: one is not of this form, or no analysis has its name.

    >>> tables_by_name(["psp=a.csv", "line=b.csv", "psp=c.csv"])
    {'psp': ['a.csv', 'c.csv'], 'line': ['b.csv']}
    """
    tables: dict[str, list[str]] = {}
    for item in given:
        name, equals, path = item.partition("=")
        if not (name in ANALYSES and equals and path):
            raise ConfigError(f"--table {item}: ANALYSIS=PATH is needed, with one of {', '.join(ANALYSES)}")
        tables.setdefault(name, []).append(path)
    return tables


def _experiments(tables: Mapping[str, pd.DataFrame], study: Mapping[str, Any]) -> list[Experiment]:
    return [
        {
            "dataset": key[0],
            "model": key[1],
            "method": key[2],
            "title": title_of_net(key[1], key[0]),
            **_trained(rows, tables["results"], key),
            "transfer": _transfer(tables["transfer"], key),
            "compute": compute_used(rows, study),
            **_measured(tables, key),
        }
        for key, rows in panels(tables["results"])
    ]


def _titles(tables: Mapping[str, pd.DataFrame], ledger: Ledger) -> dict[str, dict[str, str]]:
    """The names of datasets, those that margins name too, of models and of strategies, as a person writes them."""
    of_margins = set(ledger.margins.test_error) - {"others"} if ledger.margins else set()
    datasets = {*tables["results"]["dataset"], *tables["transfer"]["to"], *of_margins}
    return {
        "datasets": {name: title_of_dataset(name) for name in sorted(datasets)},
        "models": {name: title_of_model(name) for name in sorted({*tables["results"]["model"]})},
        "strategies": {name: short_title_of(name) for name in (GRADUAL, DENSE, *STRATEGIES)},
    }


def _measured(tables: Mapping[str, pd.DataFrame], key: tuple[str, str, str]) -> Measured:
    """What the analyses of an experiment say; each has its own key, but for PSP and Hessian, which share one."""
    said: Measured = {"analysis": None, "barrier": {}, "line": {}, "maps": []}
    gained: dict[str, Any] = {}
    for name, analysis in ANALYSES.items():
        rows = _of(tables[name], key) if name in tables else pd.DataFrame()
        if analysis.summary and not rows.empty:
            with running("analysis", name, "its summary takes the rows of an experiment and returns a dictionary"):
                summary = dict(loaded(analysis.summary)(rows))
            for entry, value in summary.items():
                gained[entry] = value | gained[entry] if isinstance(gained.get(entry), dict) else value
    if "analysis" in gained:
        gained["analysis"] = {"psp": {}, "psp_readings": {}, "live_share": None, "hessian": {}} | gained["analysis"]
    return cast("Measured", said | gained)


def _new_runs(ledger: Ledger, tables: Mapping[str, pd.DataFrame], study: Mapping[str, Any]) -> list[Experiment]:
    """The experiments by the new runs alone, which the ledger names by first seed and label; empty without any."""
    first = ledger.new_runs_from
    if first is None:
        return []
    whole = tuple(f"@{label}" for label in ledger.new_labels)
    new = {
        name: table[(table["seed"] >= first) | table["model"].astype(str).str.endswith(whole)]
        for name, table in tables.items()
    }
    # Without older runs there is nothing to set beside them.
    if new["results"].empty or len(new["results"]) == len(tables["results"]):
        return []
    return _experiments(new, study)


def _of(table: pd.DataFrame, key: tuple[str, str, str]) -> pd.DataFrame:
    return table[(table[EXPERIMENT] == list(key)).all(axis=1)]


def _cell(strategy: str, method: str, nets: pd.DataFrame) -> Cell:
    """Statistics of the nets that are shown together."""
    rows = shown_draws(nets)
    own = nets[nets["replica"] == 0].assign(removed_percent=lambda table: 100 * table["sparsity"])
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
        "over_masks": describe(own["test_error_percent"]) if own["seed"].nunique() > 1 else None,
        "by_seed": {
            column: by_seed(own, column)
            for column in ("removed_percent", "test_error_percent", "training_loss_nats", "best_epoch", "epochs")
        },
    }


def _gap(rows: pd.DataFrame) -> Interval | None:
    """Test error of 1-S less that of the gradual net at one level, percentage points, in pairs by run."""
    gradual, rewound = (by_seed(rows[rows["strategy"] == name], "test_error_percent") for name in (GRADUAL, REWIND))
    both = [seed for seed in gradual if seed in rewound]
    return paired(describe(rewound[seed] - gradual[seed] for seed in both)) if both else None


def _trained(nets: pd.DataFrame, results: pd.DataFrame, key: tuple[str, str, str]) -> Trained:
    pruned = at_levels(results, key)
    levels: list[Level] = [
        {
            "level": float(level),
            "strategies": {
                str(strategy): _cell(str(strategy), key[2], cell)
                for strategy, cell in rows.groupby("strategy", sort=False)
            },
            "gap": _gap(rows),
            "short": [str(seed) for seed in short(rows)["seed"]],
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


def _transfer(rows: pd.DataFrame, key: tuple[str, str, str]) -> dict[str, dict[str, dict[str, TransferCell]]]:
    """By dataset that the nets went to, mode and strategy: their test error there."""
    dataset, model, method = key
    here = rows[(rows["dataset"] == dataset) & (rows["model"] == model) & rows["method"].isin([method, DENSE])]
    cells: dict[str, dict[str, dict[str, TransferCell]]] = {}
    for (to, mode, strategy), nets in here.groupby(["to", "mode", "strategy"], sort=False):
        cells.setdefault(str(to), {}).setdefault(str(mode), {})[str(strategy)] = {
            "title": title_of(str(strategy), method),
            "live_features": describe(shown_draws(nets)["live_features"]),
            "test_error_percent": describe(shown_draws(nets)["test_error_percent"]),
            "by_seed": {"test_error_percent": by_seed(nets[nets["replica"] == 0], "test_error_percent")},
        }
    return cells

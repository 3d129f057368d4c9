"""Trials of a method's free settings, compared on the validation split alone."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from sharpminima.base.errors import ConfigError
from sharpminima.base.files import write_csv
from sharpminima.base.names import CELL, CHECKPOINT, GRADUAL, level_name
from sharpminima.base.settings import PositiveInt, Settings
from sharpminima.catalogue.methods import METHODS
from sharpminima.data import load_prepared
from sharpminima.nets.checkpoint import read_metadata
from sharpminima.nets.initial import read_initial
from sharpminima.steps.job import Runtime
from sharpminima.steps.prune import prune
from sharpminima.steps.trial_record import inputs_of, run_once
from sharpminima.study.read import parse_settings
from sharpminima.study.schema import MethodChoice, MethodSettings

_KEY = ["dataset", "model", "method", "seed"]
_MEASURED = [
    "reached",
    "collapsed",
    "sparsity",
    "validation_error_percent",
    "validation_loss_nats",
    "best_epoch",
    "epochs",
    "fault",
]


def trials(base: MethodSettings, grid: Mapping[str, Sequence[Any]]) -> Iterator[tuple[dict[str, Any], MethodSettings]]:
    """Each combination of the grid's values, and the method's settings with them.

    Raises:
        ConfigError: the grid is empty, its values are no lists, or a combination is not allowed.
    """
    if not grid or not all(isinstance(values, list) and values for values in grid.values()):
        raise ConfigError("--grid: give at least one setting with a list of values, e.g. '{twt: [0.05, 0.5]}'")
    settings = base.model_dump(mode="json", by_alias=True)
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        yield chosen, parse_settings(MethodChoice, json.dumps(settings | chosen), "--grid").root


class PlannedMethod(Settings):
    """A method and the values of its free settings that are tried."""

    method: MethodSettings
    grid: dict[str, list[Any]]


class TuningPlan(Settings):
    """A comparison in which each method has the same number of trials."""

    trials: PositiveInt = Field(description="of each method")
    methods: Annotated[tuple[PlannedMethod, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _fair(self) -> "TuningPlan":
        for planned in self.methods:
            count = math.prod(len(values) for values in planned.grid.values())
            if count != self.trials:
                raise ValueError(
                    f"{planned.method.name} has {count} trials, {self.trials} are planned for each method; "
                    "a fair comparison gives all the same number"
                )
        return self


@dataclass(frozen=True)
class Tuning:
    """Trials from one W0, each at all ``levels``, in folders under ``out``; none looks at the test split.

    A trial that has ended is not run again: its ``trial.json`` holds all that it depends on, and another value of any
    of them makes it anew. One that diverges says so under ``fault``. Take a W0 whose seed is not among the study's.
    """

    data: Path
    w0: Path
    levels: Sequence[float]
    out: Path
    runtime: Runtime

    def one(self, base: MethodSettings, grid: Mapping[str, Sequence[Any]]) -> None:
        """Run a method once for each combination of the grid; ``out/trials.csv`` has a row a trial and level.

        Raises:
            ConfigError: the grid is empty, its values are no lists, or a combination is not allowed.
        """
        rows: list[dict[str, Any]] = []
        for chosen, at_levels in self._run(base, grid, self.out):
            rows += [{**row, **chosen} for row in at_levels]
            write_csv(self.out / "trials.csv", rows, [*_KEY, *grid, "level", *_MEASURED])

    def all(self, plan: TuningPlan) -> None:
        """The trials of all methods of a plan; ``out/trials.csv`` has a row a method, trial and level.

        ``chosen`` marks, for a method with a density dial, the trial of the lowest mean validation error over the
        levels; for one without, at each level the trial of the lowest validation error among those that reached it,
        or, where none did, the sparsest. A net that has collapsed is a constant: it is not chosen, whatever it reached.
        """
        rows: list[dict[str, Any]] = []
        for planned in plan.methods:
            name = planned.method.name
            mine: list[dict[str, Any]] = []
            trials = self._run(planned.method, planned.grid, self.out / name)
            for number, (chosen, at_levels) in enumerate(trials, start=1):
                tried = {"trial": number, "tried": json.dumps(chosen, sort_keys=True)}
                mine += [{**row, **tried} for row in at_levels]
            best = _best_overall(mine) if METHODS[name].dial != "none" else _best_of_each_level(mine)
            rows += [{**row, "chosen": (row["trial"], row["level"]) in best} for row in mine]
            write_csv(self.out / "trials.csv", rows, [*_KEY, "trial", "tried", "level", *_MEASURED, "chosen"])

    def _run(
        self, base: MethodSettings, grid: Mapping[str, Sequence[Any]], out: Path
    ) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """What is tried, and a row a level, of each trial."""
        known = read_initial(self.w0)
        seed = known["seed"]
        inputs = inputs_of("prune", self.data, self.w0, self.runtime, method=base.name)
        for chosen, settings in trials(base, grid):
            folder = out / ",".join(f"{name}={value}" for name, value in chosen.items())
            cells = {
                level: folder / CELL.format(level=level_name(level), strategy=GRADUAL, seed=seed) / CHECKPOINT
                for level in self.levels
            }
            facts = {
                "settings": settings.model_dump(mode="json", by_alias=True),
                "levels": list(self.levels),
                **inputs,
            }
            run = partial(prune, self.data, self.w0, settings, self.levels, folder, self.runtime)
            fault = run_once(folder, facts, cells.values(), run)
            if fault is None:
                yield chosen, [_measured(path, level) for level, path in cells.items()]
            else:
                key = {"dataset": load_prepared(self.data).name, "model": known["model"], "seed": seed}
                nothing = {"method": base.name} | dict.fromkeys(_MEASURED) | {"fault": fault}
                yield chosen, [{**key, "level": level, **nothing} for level in self.levels]


def _able(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of the trials that neither failed nor collapsed at any level."""
    unable = {row["trial"] for row in rows if row["fault"] is not None or row["collapsed"]}
    return [row for row in rows if row["trial"] not in unable]


def _best_overall(rows: Sequence[Mapping[str, Any]]) -> set[tuple[int | None, float]]:
    errors: dict[int, float] = {}
    for row in _able(rows):
        errors[row["trial"]] = errors.get(row["trial"], 0.0) + row["validation_error_percent"]
    best = min(errors, key=errors.__getitem__, default=None)
    return {(best, row["level"]) for row in rows}


def _best_of_each_level(rows: Sequence[Mapping[str, Any]]) -> set[tuple[int, float]]:
    best = set()
    for level in {row["level"] for row in rows}:
        candidates = [row for row in _able(rows) if row["level"] == level]
        reached = [row for row in candidates if row["reached"]]
        if reached:
            winner = min(reached, key=lambda row: row["validation_error_percent"])
        elif candidates:
            winner = max(candidates, key=lambda row: row["sparsity"])
        else:
            continue
        best.add((winner["trial"], level))
    return best


def _measured(path: Path, level: float) -> dict[str, Any]:
    metadata = read_metadata(path)
    (metrics,) = metadata["metrics"]
    return {
        **{key: metadata[key] for key in ("dataset", "model", "method", "seed", "reached")},
        "level": level,
        "collapsed": metrics["measures"]["flops_effective"] == 0,  # nothing leads from input to output
        "sparsity": metrics["sparsity"],
        "validation_error_percent": 100.0 * metrics["validation_wrong"] / metrics["validation_images"],
        "validation_loss_nats": metrics["validation_loss"],
        "best_epoch": metrics["epoch"],
        "epochs": metrics["epochs"],
        "fault": None,
    }

"""Trials of a method's free settings, compared on the validation split alone."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sharpminima.checkpoint import read_metadata
from sharpminima.config import MethodChoice, MethodSettings, parse_settings
from sharpminima.errors import ConfigError
from sharpminima.files import write_csv
from sharpminima.layout import CELL, CHECKPOINT, GRADUAL, level_name
from sharpminima.steps.training import Runtime, prune

_MEASURED = ["reached", "sparsity", "validation_error_percent", "validation_loss_nats", "best_epoch", "epochs"]


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


def tune(
    data: Path,
    start: Path,
    base: MethodSettings,
    grid: Mapping[str, Sequence[Any]],
    levels: Sequence[float],
    out: Path,
    runtime: Runtime,
) -> None:
    """Run the method once for each combination of the grid; ``out/trials.csv`` has a row a trial and level.

    The table holds nothing of the test split, so that a choice made by it cannot look there. A trial that is done
    is not run again. Take a W0 whose seed is not among the study's.
    """
    rows = []
    for chosen, settings in trials(base, grid):
        folder = out / ",".join(f"{name}={value}" for name, value in chosen.items())
        seed = read_metadata(start)["seed"]
        cells = {
            level: folder / CELL.format(level=level_name(level), strategy=GRADUAL, seed=seed) / CHECKPOINT
            for level in levels
        }
        if not all(path.exists() for path in cells.values()):
            prune(data, start, settings, levels, folder, runtime)
        for level, path in cells.items():
            rows.append({**_facts(path, level), **chosen})
        write_csv(out / "trials.csv", rows, ["dataset", "model", "method", "seed", *grid, "level", *_MEASURED])


def _facts(path: Path, level: float) -> dict[str, Any]:
    metadata = read_metadata(path)
    (metrics,) = metadata["metrics"]
    return {
        **{key: metadata[key] for key in ("dataset", "model", "method", "seed", "reached")},
        "level": level,
        "sparsity": metrics["sparsity"],
        "validation_error_percent": 100.0 * metrics["validation_wrong"] / metrics["validation_images"],
        "validation_loss_nats": metrics["validation_loss"],
        "best_epoch": metrics["epoch"],
        "epochs": metrics["epochs"],
    }

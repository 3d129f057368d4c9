"""Trials of PSP-entropy in dense training, compared on the validation split alone."""

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from sharpminima.analysis.psp.measure import psp_entropy
from sharpminima.base.files import write_csv
from sharpminima.base.names import CHECKPOINT
from sharpminima.base.settings import Distinct, Settings
from sharpminima.catalogue.recipes import PspEntropySettings, RecipeSettings
from sharpminima.data import load_prepared
from sharpminima.nets.checkpoint import load_checkpoint
from sharpminima.nets.models import build_recorded
from sharpminima.steps.dense import dense
from sharpminima.steps.job import Runtime
from sharpminima.steps.trial_record import inputs_of, run_once

_KEY = ["dataset", "model", "seed"]
_MEASURED = ["validation_error_percent", "validation_loss_nats", "entropy_1_bits", "best_epoch", "epochs", "fault"]


class EntropyGrid(Settings):
    """The values that are tried, each with each."""

    beta: Annotated[tuple[float, ...], Field(min_length=1), Distinct]
    tau: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1), Distinct] = (1.0,)


def entropy_trials(
    data: Path, start: Path, recipe: RecipeSettings, grid: EntropyGrid, out: Path, runtime: Runtime
) -> None:
    """Train a dense net with each combination from one W0, in folders under ``out``; ``out/trials.csv`` compares them.

    ``chosen`` marks the lowest validation loss among those whose beta is not 0: the loss, as an error of a few thousand
    images tells less apart; not 0, as that is what the chosen one is compared with. The entropy is that of
    `sharpminima.psp_entropy` on the validation images. A trial that has ended is not run again: its ``trial.json``
    holds all that it depends on, and another value of any of them makes it anew. One that diverges says so under
    ``fault``. Take a W0 whose seed is not among the study's.
    """
    rows: list[dict[str, Any]] = []
    inputs = inputs_of("dense", data, start, runtime)
    for beta, tau in itertools.product(grid.beta, grid.tau):
        settings = PspEntropySettings(beta=beta, tau=tau)
        folder = out / f"beta={beta:g},tau={tau:g}"
        facts = {
            "settings": recipe.model_dump(mode="json"),
            "psp_entropy": settings.model_dump(mode="json"),
            **inputs,
        }
        run = partial(dense, data, start, recipe, folder, runtime, psp_entropy=settings)
        fault = run_once(folder, facts, [folder / CHECKPOINT], run)
        found = _measured(data, folder) if fault is None else dict.fromkeys([*_KEY, *_MEASURED]) | {"fault": fault}
        rows.append({"beta": beta, "tau": tau, **found})
        best = chosen_trial(rows)
        rows = [{**row, "chosen": row is best} for row in rows]
        write_csv(out / "trials.csv", rows, [*_KEY, "beta", "tau", *_MEASURED, "chosen"])


def chosen_trial(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The trial of the lowest validation loss among those whose beta is not 0; None where all have failed.

    >>> losses = {0.0: 0.06, 0.1: 0.08, -0.1: 0.07}
    >>> chosen_trial([{"beta": b, "validation_loss_nats": v, "fault": None} for b, v in losses.items()])["beta"]
    -0.1
    """
    able = [row for row in rows if row["beta"] and not row["fault"]]
    return min(able, key=lambda row: row["validation_loss_nats"], default=None)


def _measured(data: Path, folder: Path) -> dict[str, Any]:
    """What a trial has come to, from the net in its folder."""
    net = load_checkpoint(folder / CHECKPOINT)
    (metrics,) = net.metadata["metrics"]
    prepared = load_prepared(data)
    model = net.load_into(build_recorded(net.metadata, num_classes=prepared.num_classes))
    validation = prepared.split("validation")
    return {
        **{key: net.metadata[key] for key in _KEY},
        "validation_error_percent": 100.0 * metrics["validation_wrong"] / metrics["validation_images"],
        "validation_loss_nats": metrics["validation_loss"],
        "entropy_1_bits": psp_entropy(model, validation.images, validation.labels).mean,
        "best_epoch": metrics["epoch"],
        "epochs": metrics["epochs"],
        "fault": None,
    }

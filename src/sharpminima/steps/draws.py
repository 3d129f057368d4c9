"""The draws of a cell that was trained before with fewer or more of them: taken over, not trained again.

A draw is known by its seed and its place alone, so that one net trained by itself is the same beside any number of
others. Snakemake removes the outputs of a job before it runs it; so the cell's files are linked to other names first
(`sharpminima.tracking.set_aside`).
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sharpminima.base.errors import CheckpointError
from sharpminima.base.names import CHECKPOINT, HISTORY, aside
from sharpminima.nets.checkpoint import Checkpoint, load_checkpoint
from sharpminima.nets.masks import Masks
from sharpminima.steps.job import TrainingJob

_OF_THE_WHOLE = {"trained", "metrics", "replicas", "format", "version", "content_sha256"}
"""What a checkpoint says beside the facts that a draw is trained by."""


@dataclass(frozen=True)
class Draw:
    """A net of a cell as the cell's files hold it."""

    metrics: dict[str, Any]
    history: list[dict[str, Any]]  # a row an epoch
    state: dict[str, Tensor] | None  # None: its weights are not kept
    predictions: Tensor | None  # then: the class that it gives to each test image, uint8 [images]


def earlier_draws(
    folder: Path, job: TrainingJob, masks: Sequence[Masks], inputs: Sequence[Path], *, kept: int | None
) -> list[Draw]:
    """The first draws of the cell that was here before, as far as they are those that would be trained now.

    They are where the cell is younger than all that it is made of, states the same facts and masks, and had another
    number of draws: one with as many is made again for another reason, such as ``--forcerun``, which is to train.

    Args:
        folder: of the cell.
        masks: those of the draws that the cell is to have.
        inputs: the files that the cell is made of.
        kept: how many draws keep their weights, the first; None: all.
    """
    checkpoint, history = folder / aside(CHECKPOINT), folder / aside(HISTORY)
    if not checkpoint.is_file() or not history.is_file():
        return []
    made = checkpoint.stat().st_mtime_ns
    if any(path.stat().st_mtime_ns > made for path in inputs):
        return []
    try:
        cell = load_checkpoint(checkpoint)
        rows = _rows(history)
    except (CheckpointError, OSError, KeyError, ValueError, csv.Error):  # damaged: all are trained
        return []
    if not _states_the_same(cell, job) or cell.masks is None or cell.replicas == len(masks):
        return []
    draws: list[Draw] = []
    for place, (known, wanted) in enumerate(zip(cell.masks, masks, strict=False)):
        keeps = kept is None or place < kept
        whole = len(rows.get(place, ())) == cell.metadata["metrics"][place]["epochs"]
        if not whole or not _equal(known, wanted) or (keeps and place >= len(cell.states)):
            break
        draws.append(_draw(cell, place, rows[place], job, keeps=keeps))
    return draws


def forget_earlier(folder: Path) -> None:
    """Remove what was set aside of a cell that is made again."""
    for name in (CHECKPOINT, HISTORY):
        (folder / aside(name)).unlink(missing_ok=True)


def _rows(history: Path) -> dict[int, list[dict[str, Any]]]:
    """Place of a draw -> its rows, as text: the digits that it was written with."""
    rows: dict[int, list[dict[str, Any]]] = {}
    with history.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            rows.setdefault(int(row.pop("replica")), []).append(row)
    return rows


def _states_the_same(cell: Checkpoint, job: TrainingJob) -> bool:
    """Whether a cell was trained by a job's facts, but for the number of draws."""
    facts = json.loads(json.dumps({name: fact for name, fact in job.facts.items() if name not in _OF_THE_WHOLE}))
    recorded = {name: fact for name, fact in cell.metadata.items() if name not in _OF_THE_WHOLE}
    return bool(cell.metadata.get("trained")) and recorded == facts


def _equal(known: Masks, wanted: Masks) -> bool:
    return known.keys() == wanted.keys() and all(
        bool((known[name] == mask.cpu()).all()) for name, mask in wanted.items()
    )


def _draw(cell: Checkpoint, place: int, rows: list[dict[str, Any]], job: TrainingJob, *, keeps: bool) -> Draw:
    metrics = cell.metadata["metrics"][place]
    state = cell.states[place] if place < len(cell.states) else None
    if keeps:
        return Draw(metrics, rows, state, None)
    if state is not None:
        return Draw(metrics, rows, None, job.predictions([state])[0])
    assert cell.predictions is not None  # a draw has weights or them
    return Draw(metrics, rows, None, cell.predictions[place - len(cell.states)])

"""Training with the dense recipe, and the folder of the nets that it makes."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sharpminima.base.files import write_csv
from sharpminima.base.names import CHECKPOINT, HISTORY
from sharpminima.base.progress import Progress
from sharpminima.catalogue.recipes import PspEntropySettings, RecipeSettings
from sharpminima.nets.checkpoint import save_checkpoint
from sharpminima.nets.masks import Masks
from sharpminima.nets.resume import ResumeFile
from sharpminima.runtime.rng import generator
from sharpminima.steps.draws import Draw
from sharpminima.steps.job import TrainingJob
from sharpminima.training import HISTORY_COLUMNS, FlatModel, FlatReplicas, RecipePolicy, train_replicas

KEPT = {"all": None, "first": 1, "none": 0}
"""Of which replicas a cell keeps the weights -> how many; None: all."""
Trained = tuple[dict[str, Tensor], dict[str, Any], list[dict[str, Any]]]
"""State dict, facts (epoch, epochs), history."""


def untrained(model: nn.Module) -> Trained:
    """A net as it is, before the first epoch."""
    return model.state_dict(), {"epoch": 0, "epochs": 0}, []


def fit(
    job: TrainingJob,
    model: nn.Module,
    masks: Masks | None,
    settings: RecipeSettings,
    role: tuple[str, int],
    seed: int,
    progress: Progress,
    resume: ResumeFile,
    psp_entropy: PspEntropySettings | None = None,
) -> Trained:
    """Train one net with the recipe; the best-validation state, its facts, and the history."""
    flat = FlatModel(model.to(job.device), compaction=job.runtime.compaction)
    if masks is not None:
        flat.set_masks(masks)
    (trained,) = _train_recipe(job, flat, settings, [role], seed, progress, resume, psp_entropy)
    return trained


def fit_batch(
    job: TrainingJob,
    nets: Sequence[tuple[nn.Module, Masks]],
    settings: RecipeSettings,
    strategy_name: str,
    seed: int,
    progress: Progress,
    resume: ResumeFile,
    psp_entropy: PspEntropySettings | None = None,
) -> list[Trained]:
    """As `fit`, all replicas of a cell as one model."""
    flat = FlatReplicas([model.to(job.device) for model, _ in nets], compaction=job.runtime.compaction)
    flat.set_masks([masks for _, masks in nets])
    roles = [(strategy_name, replica) for replica in range(len(nets))]
    return _train_recipe(job, flat, settings, roles, seed, progress, resume, psp_entropy)


def _train_recipe(
    job: TrainingJob,
    flat: FlatModel,
    settings: RecipeSettings,
    roles: Sequence[tuple[str, int]],
    seed: int,
    progress: Progress,
    resume: ResumeFile,
    psp_entropy: PspEntropySettings | None = None,
) -> list[Trained]:
    policies = [RecipePolicy(settings) for _ in roles]
    histories = train_replicas(
        flat,
        job.training,
        job.validation,
        policies,
        batch_size=settings.batch_size,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        streams=[partial(_order, seed, role) for role in roles],
        augment=job.augment,
        psp_entropy=psp_entropy,
        progress=progress,
        resume=resume,
    )
    trained = []
    for policy, history in zip(policies, histories, strict=True):
        assert policy.best.snapshot is not None  # the engine raises before it returns without a finite loss
        facts = {"epoch": policy.best.epoch, "epochs": len(history)}
        trained.append((flat.state_dict(policy.best.snapshot), facts, history))
    return trained


def _order(seed: int, role: tuple[str, int], epoch: int) -> torch.Generator:
    return generator(seed, *role, "order", epoch)


def write_cell(
    job: TrainingJob,
    out: Path,
    trained: Sequence[Trained],
    masks: Sequence[Masks] | None,
    facts: dict[str, Any],
    kept: int | None = None,
    earlier: Sequence[Draw] = (),
) -> None:
    """Write ``checkpoint.safetensors`` and ``history.csv`` of one cell, or of a dense net.

    Args:
        masks: of each net; None: they are dense.
        facts: what the checkpoint says of the cell, beside those of the job.
        kept: how many nets keep their weights, the first; of the others the classes given to the test images are.
        earlier: the nets before those that were trained now.
    """
    draws = [*earlier]
    for state, measured, history in trained:
        place = len(draws)
        metrics = {**job.metrics(state, masks[place] if masks else None), **measured}
        keeps = kept is None or place < kept
        draws.append(Draw(metrics, history, state if keeps else None, None if keeps else job.predictions([state])[0]))
    write_csv(out / HISTORY, _history(draws), ["replica", *HISTORY_COLUMNS])
    metadata = {**job.facts, **facts, "metrics": [draw.metrics for draw in draws]}
    states = [draw.state for draw in draws if draw.state is not None]
    predicted = [draw.predictions for draw in draws if draw.predictions is not None]
    predictions = torch.stack(predicted) if predicted else None
    save_checkpoint(out / CHECKPOINT, states, masks=masks, metadata=metadata, predictions=predictions)


def _history(draws: Sequence[Draw]) -> Iterator[dict[str, Any]]:
    for replica, draw in enumerate(draws):
        for row in draw.history:
            yield {"replica": replica, **row}

"""Steps that make checkpoints: init, dense, prune, retrain."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sharpminima.base.errors import CheckpointError
from sharpminima.base.files import write_csv, write_json
from sharpminima.base.names import CELL, CHECKPOINT, GRADUAL, RUN, level_name
from sharpminima.base.progress import Progress
from sharpminima.catalogue.datasets import DATASETS
from sharpminima.catalogue.methods import METHODS
from sharpminima.catalogue.models import MODELS
from sharpminima.catalogue.recipes import BatchNormSettings, RecipeSettings
from sharpminima.catalogue.strategies import STRATEGIES
from sharpminima.data import ImageDataset, Split, load_prepared
from sharpminima.nets.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sharpminima.nets.counts import measure
from sharpminima.nets.evaluation import evaluate, predict
from sharpminima.nets.initial import load_initial, save_initial
from sharpminima.nets.masks import Masks, prunable_parameters, sparsity
from sharpminima.nets.models import build_recorded, set_batchnorm
from sharpminima.nets.resume import FinishedParts, ResumeFile
from sharpminima.pruning import Run, strategies
from sharpminima.runtime.device import configure
from sharpminima.runtime.rng import generator
from sharpminima.runtime.usage import measured
from sharpminima.study.schema import MethodSettings
from sharpminima.training import HISTORY_COLUMNS, FlatModel, FlatReplicas, RecipePolicy, train_replicas


@dataclass(frozen=True)
class Runtime:
    """How numbers are computed, as asked for; recorded with them."""

    device: str = "auto"
    threads: int = 1
    compaction: bool = True
    replica_strategy: str = "auto"  # of retraining: loop, batched, or auto, a rule by device
    precision: str = "float32"  # of training; analyses take float32


class TrainingJob:
    """What every training step needs: data on the device, and what its checkpoints record."""

    def __init__(self, data: Path, runtime: Runtime, **facts: Any) -> None:
        self.runtime = runtime
        self.device = configure(runtime.device, runtime.threads, runtime.precision)
        self.dataset: ImageDataset = load_prepared(data)
        self.training = self._split("train")
        self.validation = self._split("validation")
        self.test = self._split("test")
        self.augment = DATASETS[self.dataset.name].augment
        self.facts = {
            "dataset": self.dataset.name,
            "dataset_sha256": self.dataset.sha256,
            "runtime": {
                "device": self.device.type,
                "threads": runtime.threads,
                "compaction": runtime.compaction,
                "precision": runtime.precision,
            },
            **facts,
        }

    def _split(self, part: str) -> Split:
        return self.dataset.split(part, device=self.device)

    def replica_strategy(self, replicas: int) -> str:
        """How replicas are trained: ``auto`` is one batched model on CUDA, and one by one on a CPU."""
        if self.runtime.replica_strategy != "auto":
            return self.runtime.replica_strategy
        return "batched" if self.device.type == "cuda" and replicas > 1 else "loop"

    def fingerprint(self, *inputs: Checkpoint) -> str:
        """Identifies settings and inputs, for the resume file."""
        text = json.dumps([self.facts, *(c.metadata for c in inputs)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def build(self) -> nn.Module:
        """A net as the job's facts tell."""
        return build_recorded(self.facts, num_classes=self.dataset.num_classes)

    def metrics(self, state: dict[str, Tensor], masks: Masks | None) -> dict[str, Any]:
        """What every net reports: losses and errors on all splits, and its counts (`sharpminima.nets.counts`)."""
        model = self.build()
        model.load_state_dict(state)
        counts = asdict(measure(model, MODELS[self.facts["model"]].shape, masks=masks))
        prunable = masks or {name: torch.ones_like(state[name]) for name in prunable_parameters(model)}
        model.to(self.device)
        values: dict[str, Any] = {"sparsity": sparsity(prunable), "measures": counts}
        for part in ("training", "validation", "test"):
            split: Split = getattr(self, part)
            found = evaluate(model, split.images, split.labels)
            values |= {f"{part}_loss": found.loss, f"{part}_wrong": found.wrong, f"{part}_images": found.samples}
        return values

    def predictions(self, states: Sequence[dict[str, Tensor]]) -> Tensor:
        """Class that each net gives to each test image: uint8 [nets, images]."""
        model = self.build().to(self.device)
        found = []
        for state in states:
            model.load_state_dict(state)
            found.append(predict(model, self.test.images).to(torch.uint8).cpu())
        return torch.stack(found)


def _net(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that name a net."""
    return {key: metadata[key] for key in ("model", "batchnorm") if key in metadata}


def init(data: Path, model_name: str, seed: int, out: Path, *, batchnorm: BatchNormSettings | None = None) -> None:
    """Write W0 of run ``seed``: what dense training, gradual methods and ``rewind`` start from.

    Its BatchNorm, where it is not the usual one, is that of all that comes after.
    """
    dataset = load_prepared(data)
    net = {"model": model_name, **({} if batchnorm is None else {"batchnorm": batchnorm.model_dump()})}
    facts = {"dataset": dataset.name, "dataset_sha256": dataset.sha256, "num_classes": dataset.num_classes}
    save_initial(out, {**net, **facts, "seed": seed})


def dense(
    data: Path,
    start: Path,
    settings: RecipeSettings,
    out: Path,
    runtime: Runtime,
    *,
    weights: Literal["all", "none"] = "all",
) -> None:
    """Train a run's dense net from its W0; writes ``checkpoint.safetensors`` and ``history.csv`` into ``out``.

    Args:
        weights: with ``none`` the checkpoint keeps metrics and the classes given to the test images.
    """
    initial = load_initial(start)
    net = _net(initial.metadata)
    model_name, seed = net["model"], initial.metadata["seed"]
    job = TrainingJob(data, runtime, **net, seed=seed, strategy="dense", settings=settings.model_dump(mode="json"))
    model = initial.load_into(job.build())
    resume = ResumeFile(out / "resume.safetensors", fingerprint=job.fingerprint(initial))
    progress = Progress(f"dense {model_name}/{job.dataset.name} seed {seed}")
    with measured(out):
        trained = fit(job, model, None, settings, ("dense", 0), seed, progress, resume)
        _write_cell(job, out, [trained], None, {}, _KEPT[weights])
    resume.remove()


def prune(
    data: Path,
    start: Path,
    method: MethodSettings,
    levels: Sequence[float],
    out: Path,
    runtime: Runtime,
    *,
    weights: Literal["all", "highest"] = "all",
) -> None:
    """Run a gradual method from W0.

    Args:
        method: the method's name and settings.
        levels: requested sparsities, ascending.
        out: folder of the method; gets ``level-L/gradual/seed-S/checkpoint.safetensors`` for each level, and
            ``run/seed-S/`` with ``history.csv`` (one row an epoch) and ``events.json`` (one entry a pruning).
        weights: the levels whose weights are kept; of the others masks, metrics and the classes given to the test
            images are.
    """
    initial = load_initial(start)
    net = _net(initial.metadata)
    model_name, seed = net["model"], initial.metadata["seed"]
    settings = method.model_dump(mode="json", by_alias=True)
    facts = {**net, "seed": seed, "method": method.name, "settings": settings, "levels": list(levels)}
    job = TrainingJob(data, runtime, **facts)
    record = out / RUN.format(seed=seed)
    resume = ResumeFile(record / "resume.safetensors", fingerprint=job.fingerprint(initial))
    run = Run(
        model=initial.load_into(job.build()).to(job.device),
        training=job.training,
        validation=job.validation,
        test=job.test,
        levels=tuple(levels),
        seed=seed,
        augment=job.augment,
        compaction=runtime.compaction,
        progress=Progress(f"{method.name} {model_name}/{job.dataset.name} seed {seed}"),
        resume=resume,
    )
    with measured(record):
        pruned = METHODS[method.name].prune(run, method)
        # Levels passed by one event share a state; the highest of them stands for all in retraining and plots.
        highest = {state.facts["event"]: level for level, state in sorted(pruned.levels.items())}
        write_csv(record / "history.csv", pruned.history, HISTORY_COLUMNS)
        write_json(record / "events.json", pruned.events)
        for level, state in pruned.levels.items():
            metadata = {
                **job.facts,
                "strategy": GRADUAL,
                "level": level,
                "represented_by": highest[state.facts["event"]],
                "reached": state.reached,
                "method_epochs": pruned.epochs,
                "metrics": [{**job.metrics(state.state, state.masks), "epochs": pruned.epochs, **state.facts}],
            }
            folder = out / CELL.format(level=level_name(level), strategy=GRADUAL, seed=seed)
            states, predictions = [state.state], None
            if weights == "highest" and level != max(levels):
                states, predictions = [], job.predictions(states)
            save_checkpoint(
                folder / CHECKPOINT, states, masks=[state.masks], metadata=metadata, predictions=predictions
            )
    resume.remove()


def retrain(
    data: Path,
    start: Path,
    pruned: Path,
    strategy_name: str,
    replicas: int,
    settings: RecipeSettings,
    out: Path,
    runtime: Runtime,
    *,
    weights: Literal["all", "first", "none"] = "all",
) -> None:
    """Retrain all replicas of one cell at a method's masks; writes ``checkpoint.safetensors`` and ``history.csv``.

    Where a higher level has the same state, that level's cell is the one that is trained; this one then holds the
    untrained start of a single replica, and its metadata says ``represented_by``.

    Args:
        pruned: the method's checkpoint of the level (strategy ``gradual``).
        settings: the dense recipe.
        weights: the replicas whose weights are kept; of the others masks, metrics and predictions are.
    """
    initial, structure = load_initial(start), load_checkpoint(pruned)
    if structure.masks is None:
        raise CheckpointError(f"{pruned}: holds no masks; give the checkpoint of a pruning method")
    strategy, known = STRATEGIES[strategy_name], structure.metadata
    if strategy.budget == "method":
        settings = settings.model_copy(update={"schedule": "constant", "max_epochs": known["method_epochs"]})
    seed, model_name = known["seed"], known["model"]
    facts = _net(known) | {key: known[key] for key in ("seed", "method", "level", "represented_by", "reached")}
    job = TrainingJob(
        data, runtime, **facts, strategy=strategy_name, replicas=replicas, settings=settings.model_dump(mode="json")
    )
    represented = known["represented_by"] != known["level"]
    mode = job.replica_strategy(replicas)
    job.facts["runtime"]["replica_strategy"] = mode
    fingerprint = job.fingerprint(initial, structure)
    done = FinishedParts(out / "resume-finished.safetensors", fingerprint=fingerprint)
    label = f"{strategy_name} {model_name}/{job.dataset.name} level {known['level']:g} seed {seed}"
    starts = [
        strategies.start(
            strategy,
            model_name,
            job.dataset.num_classes,
            initial.states[0],
            structure.masks[0],
            seed=seed,
            replica=replica,
        )
        for replica in range(1 if represented else replicas)
    ]
    for model, _ in starts:
        set_batchnorm(model, **known.get("batchnorm", {}))
    masks = [mask for _, mask in starts]
    with measured(out):
        if represented:
            done.parts = [(model.state_dict(), {"epoch": 0, "epochs": 0}, []) for model, _ in starts]
        elif mode == "batched":
            if not done.parts:
                resume = ResumeFile(out / "resume-batch.safetensors", fingerprint=fingerprint)
                progress = Progress(f"{label} replicas 1-{replicas}")
                done.add(*_fit_batch(job, starts, settings, strategy_name, seed, progress, resume))
                resume.remove()
        else:
            for replica in range(len(done.parts), replicas):
                progress = Progress(f"{label} replica {replica + 1}/{replicas}")
                resume = ResumeFile(out / f"resume-{replica}.safetensors", fingerprint=fingerprint)
                done.add(fit(job, *starts[replica], settings, (strategy_name, replica), seed, progress, resume))
                resume.remove()
        _write_cell(job, out, done.parts, masks, {"trained": not represented}, _KEPT[weights])
    done.remove()


_KEPT = {"all": None, "first": 1, "none": 0}
"""Of which replicas a cell keeps the weights -> how many; None: all."""
Trained = tuple[dict[str, Tensor], dict[str, Any], list[dict[str, Any]]]
"""State dict, facts (epoch, epochs), history."""


def fit(
    job: TrainingJob,
    model: nn.Module,
    masks: Masks | None,
    settings: RecipeSettings,
    role: tuple[str, int],
    seed: int,
    progress: Progress,
    resume: ResumeFile,
) -> Trained:
    """Train one net with the recipe; the best-validation state, its facts, and the history."""
    flat = FlatModel(model.to(job.device), compaction=job.runtime.compaction)
    if masks is not None:
        flat.set_masks(masks)
    (trained,) = _train_recipe(job, flat, settings, [role], seed, progress, resume)
    return trained


def _fit_batch(
    job: TrainingJob,
    starts: Sequence[tuple[nn.Module, Masks]],
    settings: RecipeSettings,
    strategy_name: str,
    seed: int,
    progress: Progress,
    resume: ResumeFile,
) -> list[Trained]:
    """As `fit`, all replicas of a cell as one model."""
    flat = FlatReplicas([model.to(job.device) for model, _ in starts], compaction=job.runtime.compaction)
    flat.set_masks([masks for _, masks in starts])
    roles = [(strategy_name, replica) for replica in range(len(starts))]
    return _train_recipe(job, flat, settings, roles, seed, progress, resume)


def _train_recipe(
    job: TrainingJob,
    flat: FlatModel,
    settings: RecipeSettings,
    roles: Sequence[tuple[str, int]],
    seed: int,
    progress: Progress,
    resume: ResumeFile,
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


def _write_cell(
    job: TrainingJob,
    out: Path,
    trained: Sequence[Trained],
    masks: Sequence[Masks] | None,
    facts: dict[str, Any],
    kept: int | None = None,
) -> None:
    states = [state for state, _, _ in trained]
    metrics = [
        {**job.metrics(state, masks[replica] if masks else None), **measured}
        for replica, (state, measured, _) in enumerate(trained)
    ]
    write_csv(out / "history.csv", _history(trained), ["replica", *HISTORY_COLUMNS])
    metadata = {**job.facts, **facts, "metrics": metrics}
    predictions = None
    if kept is not None and kept < len(states):
        predictions = job.predictions(states[kept:])
    save_checkpoint(out / CHECKPOINT, states[:kept], masks=masks, metadata=metadata, predictions=predictions)


def _history(trained: Sequence[Trained]) -> Iterator[dict[str, Any]]:
    for replica, (_, _, history) in enumerate(trained):
        for row in history:
            yield {"replica": replica, **row}

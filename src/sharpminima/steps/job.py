"""What every step that trains shares: how it computes, its data, and what its checkpoints record."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sharpminima.base.errors import DataError
from sharpminima.catalogue.datasets import DATASETS
from sharpminima.catalogue.models import MODELS, unlabelled
from sharpminima.catalogue.plugins import bringing
from sharpminima.catalogue.recipes import PspEntropySettings
from sharpminima.data import ImageDataset, Split, load_prepared
from sharpminima.nets.checkpoint import Checkpoint, state_sha256
from sharpminima.nets.counts import count_net
from sharpminima.nets.evaluation import evaluate, predict
from sharpminima.nets.masks import Masks, completed, sparsity
from sharpminima.nets.models import build_recorded
from sharpminima.runtime.device import configure


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
        if "model" in facts:
            check_shape(facts["model"], self.dataset)
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

    def fingerprint(self, *inputs: Checkpoint, without: Collection[str] = ()) -> str:
        """Identifies settings and inputs, for the resume file, but for the facts ``without`` which it is the same.

        The metadata of what a command has made tell its content; of one's own net the tensors are asked too. What an
        edited plug-in had computed before is not gone on from.
        """
        own = [_tensors_sha256(checkpoint) for checkpoint in inputs if not _tells_its_content(checkpoint)]
        named = {"dataset": self.dataset.name, **{kind: self.facts.get(kind, "") for kind in ("model", "method")}}
        versions = [plugin.version for plugin in bringing(*((kind, unlabelled(name)) for kind, name in named.items()))]
        facts = {name: fact for name, fact in self.facts.items() if name not in without}
        known = [facts, *(checkpoint.metadata for checkpoint in inputs), *own, *versions]
        text = json.dumps(known, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def build(self) -> nn.Module:
        """A net as the job's facts tell."""
        return build_recorded(self.facts, num_classes=self.dataset.num_classes)

    def metrics(self, state: dict[str, Tensor], masks: Masks | None) -> dict[str, Any]:
        """What every net reports: losses and errors on all splits, and its counts (`sharpminima.nets.counts`)."""
        model = self.build()
        model.load_state_dict(state)
        shape = MODELS[self.facts["model"]].shape
        counts = asdict(count_net(model, shape, masks=masks, unknown_paths=True))  # the training has been made
        values: dict[str, Any] = {"sparsity": sparsity(completed(masks or {}, model)), "measures": counts}
        model.to(self.device)
        for part in ("training", "validation", "test"):
            split: Split = getattr(self, part)
            evaluation = evaluate(model, split.images, split.labels)
            values |= {
                f"{part}_loss": evaluation.loss,
                f"{part}_wrong": evaluation.wrong,
                f"{part}_images": evaluation.samples,
            }
        return values

    def predictions(self, states: Sequence[dict[str, Tensor]]) -> Tensor:
        """Class that each net gives to each test image: uint8 [nets, images]."""
        model = self.build().to(self.device)
        predicted = []
        for state in states:
            model.load_state_dict(state)
            predicted.append(predict(model, self.test.images).to(torch.uint8).cpu())
        return torch.stack(predicted)


def _tells_its_content(checkpoint: Checkpoint) -> bool:
    """Whether the metadata hold what the weights draw from, or what was measured of them."""
    return "drawn_sha256" in checkpoint.metadata or "metrics" in checkpoint.metadata


def _tensors_sha256(checkpoint: Checkpoint) -> list[str]:
    return [state_sha256(tensors) for tensors in (*checkpoint.states, *(checkpoint.masks or ()))]


def check_shape(model: str, dataset: ImageDataset) -> None:
    """Refuse data whose images a model does not take.

    Raises:
        DataError: their shape is another one.
    """
    wanted = MODELS[model].shape
    if dataset.shape != wanted:
        raise DataError(
            f"{model} takes images {wanted}, {dataset.name} has {dataset.shape}; give other data or a model"
        )


def recorded_entropy(settings: PspEntropySettings | None) -> dict[str, Any]:
    """The fact that PSP-entropy was a part of what a training minimised, where it was."""
    return {} if settings is None else {"psp_entropy": settings.model_dump(mode="json")}


def recorded_net(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that name a net."""
    return {key: metadata[key] for key in ("model", "batchnorm") if key in metadata}

"""Ours: the package's own engine, dense or at a mask, with one net or several replicas."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks._setup import Setup
from sharpminima.catalogue.recipes import PspEntropySettings
from sharpminima.data import Split
from sharpminima.nets.checkpoint import load_checkpoint
from sharpminima.nets.evaluation import Evaluation
from sharpminima.nets.masks import Masks
from sharpminima.nets.models import build_model
from sharpminima.pruning import STRATEGIES, strategies
from sharpminima.runtime.device import configure
from sharpminima.runtime.rng import generator
from sharpminima.training import FlatModel, FlatReplicas, Policy, train, train_replicas


class Ours:
    """An epoch of ours at a time, of every replica.

    Args:
        mask: a checkpoint with masks, from which `reinit` starts; None: a dense net.
        replicas: nets, each trained on an order of its own.
        way: a key of `WAYS`.
        precision: of training, as in ``config.yaml``.
        psp_entropy: a part of what is minimised.
    """

    def __init__(
        self,
        setup: Setup,
        mask: Path | None = None,
        replicas: int = 1,
        way: str = "loop",
        precision: str = "float32",
        psp_entropy: PspEntropySettings | None = None,
    ) -> None:
        self._setup, self._psp_entropy = setup, psp_entropy
        device = configure(setup.device, setup.threads, precision)
        data = setup.images()
        self._training, self._validation = (data.split(part, device=device) for part in ("train", "validation"))
        masks = None if mask is None else load_checkpoint(mask).masks
        nets = [_start(setup.model, None if masks is None else masks[0], replica) for replica in range(replicas)]
        self._train = WAYS[way]([net.to(device) for net, _ in nets], [its_masks for _, its_masks in nets])
        self._epoch = 0

    def warm_up(self) -> None:
        """Let the libraries choose their kernels."""
        recipe = self._setup.recipe
        self._run(_first(self._training, recipe.warm_up_batches * recipe.batch_size))

    def epoch(self) -> tuple[float, float]:
        """Seconds of one epoch of training, and of the validation after it, of all replicas."""
        return self._run(self._training)

    def _run(self, training: Split) -> tuple[float, float]:
        recipe, epoch = self._setup.recipe, self._epoch
        options = {
            "batch_size": recipe.batch_size,
            "momentum": recipe.momentum,
            "weight_decay": recipe.weight_decay,
            "augment": self._setup.spec.augment,
            "psp_entropy": self._psp_entropy,
        }
        start = time.perf_counter()
        evaluation = self._train(training, self._validation, recipe.lr, epoch, options)
        total = time.perf_counter() - start
        self._epoch += 1
        return total - evaluation, evaluation


def _start(model: str, masks: Masks | None, replica: int) -> tuple[nn.Module, Masks | None]:
    if masks is None:
        return build_model(model, seed=replica), None
    return strategies.masked_net(STRATEGIES["reinit"], model, 10, {}, masks, seed=0, replica=replica)


def _first(split: Split, images: int) -> Split:
    return Split(split.images[:images], split.labels[:images])


class _OneEpoch(Policy):
    """A policy that ends after one epoch and keeps nothing."""

    max_epochs = 1

    def __init__(self, lr: float) -> None:
        self.lr = lr
        self.done = False

    def after_epoch(self, flat: Any, epoch: int, validation: Evaluation) -> None:
        """Stop."""
        self.done = True

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing."""


class _Stopwatch:
    """Seconds that a model spends in its evaluations. Both ends of one are synchronous on every device."""

    def __init__(self, flat: FlatModel) -> None:
        self.seconds = 0.0
        self._evaluate = flat.evaluate_each
        flat.evaluate_each = self  # type: ignore[method-assign]

    def __call__(self, *split: torch.Tensor) -> list[Evaluation]:
        start = time.perf_counter()
        evaluations = self._evaluate(*split)
        self.seconds += time.perf_counter() - start
        return evaluations

    def read(self) -> float:
        """The seconds since the last reading."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


def _stream(replica: int, epoch: int) -> Callable[[int], torch.Generator]:
    return lambda _: generator(0, "benchmark", replica, epoch)


class _Loop:
    """One training after the other."""

    def __init__(self, nets: list[nn.Module], masks: list[Masks | None]) -> None:
        self._flats = []
        for net, its_masks in zip(nets, masks, strict=True):
            flat = FlatModel(net, compaction=True)
            if its_masks is not None:
                flat.set_masks(its_masks)
            self._flats.append((flat, _Stopwatch(flat)))

    def __call__(self, training: Split, validation: Split, lr: float, epoch: int, options: dict[str, Any]) -> float:
        for replica, (flat, _) in enumerate(self._flats):
            train(flat, training, validation, _OneEpoch(lr), stream=_stream(replica, epoch), **options)
        return sum(watch.read() for _, watch in self._flats)


class _Batched:
    """All in one batched model."""

    def __init__(self, nets: list[nn.Module], masks: list[Masks | None]) -> None:
        self._flat = FlatReplicas(nets, compaction=True)
        self._replicas = len(nets)
        given = [its_masks for its_masks in masks if its_masks is not None]
        if given:
            self._flat.set_masks(given)
        self._watch = _Stopwatch(self._flat)

    def __call__(self, training: Split, validation: Split, lr: float, epoch: int, options: dict[str, Any]) -> float:
        policies = [_OneEpoch(lr) for _ in range(self._replicas)]
        streams = [_stream(replica, epoch) for replica in range(self._replicas)]
        train_replicas(self._flat, training, validation, policies, streams=streams, **options)
        return self._watch.read()


WAYS = {"loop": _Loop, "batched": _Batched}
"""How replicas are trained; each is built from nets and masks, and returns the seconds of its evaluations."""

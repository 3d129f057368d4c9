"""Whether files that a step takes together belong together: of one run, one cell, one dataset."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sharpminima.base.errors import CheckpointError
from sharpminima.base.names import DENSE, GRADUAL, level_name
from sharpminima.catalogue.datasets import DATASETS
from sharpminima.catalogue.methods import METHODS
from sharpminima.catalogue.models import MODELS
from sharpminima.catalogue.strategies import STRATEGIES
from sharpminima.nets.checkpoint import Checkpoint

RUN = ("model", "batchnorm", "dataset_sha256", "seed")
"""What all nets of one run share."""
CELL = (*RUN, "method", "level")
"""What G and 1-S share."""
INIT = "init"  # the strategy of W0
STARTS = ("model", "seed")
"""What a net that stands for W0 states."""
PRUNED = (*STARTS, "method", "level", "represented_by", "reached")
"""What a net states at whose masks others are trained."""
ANALYSED = (*STARTS, "method", "level")
"""What a net states that stands beside another in the table of an analysis; its strategy says which it is."""
TRAINED = ("dataset", *STARTS, "strategy", "metrics")
"""What a net states that has a row in a table."""
_SHORT = 12  # characters of a hash in a message

Given = tuple[str | os.PathLike[str], Mapping[str, Any]]
"""A file, and its metadata."""


def check_agreement(first: Given, second: Given, facts: Sequence[str]) -> None:
    """Refuse two files of which both state a fact, and not the same.

    Args:
        facts: keys of the metadata, such as `RUN` or `CELL`; BatchNorm that is not stated is the usual one.

    Raises:
        CheckpointError: the facts that differ, with both sides.

    >>> check_agreement(("w0", {"seed": 1}), ("g", {"seed": 0}), RUN)
    Traceback (most recent call last):
    sharpminima.base.errors.CheckpointError: w0 and g do not belong together: seed 1 and 0; ...
    """
    (path, known), (other_path, other) = first, second
    differing = [
        f"{name} {_shown(known.get(name))} and {_shown(other.get(name))}"
        for name in facts
        if known.get(name) != other.get(name) and (name == "batchnorm" or (name in known and name in other))
    ]
    if differing:
        raise CheckpointError(
            f"{path} and {other_path} do not belong together: {', '.join(differing)}; give files of the same run"
            + (" and the same cell" if facts is CELL else "")
        )


def _shown(value: Any) -> str:
    return value[:_SHORT] if isinstance(value, str) else "none" if value is None else f"{value}"


def check_stated(given: Given, facts: Sequence[str]) -> None:
    """Refuse a net that does not state a fact which a step takes from it, such as one's own.

    Raises:
        CheckpointError: the facts that are missing.

    >>> check_stated(("mine", {"model": "lenet300"}), STARTS)
    Traceback (most recent call last):
    sharpminima.base.errors.CheckpointError: mine: its metadata lack seed; ...
    """
    path, known = given
    if lacking := [name for name in facts if name not in known]:
        raise CheckpointError(
            f"{path}: its metadata lack {', '.join(lacking)}; state them where it is saved (`save_checkpoint`), or "
            "give a net that a command has made"
        )


def check_values(given: Given) -> None:
    """Refuse a seed that is no whole number, or a level that is no share, of a net that states them.

    Raises:
        CheckpointError: one is.

    >>> check_values(("mine", {"seed": 0, "level": "90 %"}))
    Traceback (most recent call last):
    sharpminima.base.errors.CheckpointError: mine: states the level '90 %'; give the share that is removed, as 0.9
    """
    path, known = given
    seed, level = known.get("seed", 0), known.get("level", 0.0)
    if type(seed) is not int:
        raise CheckpointError(f"{path}: states the seed {seed!r}; give a whole number")
    if type(level) not in (int, float) or not 0 <= level <= 1:
        raise CheckpointError(f"{path}: states the level {level!r}; give the share that is removed, as 0.9")


def check_metrics(given: Given, facts: Sequence[str]) -> None:
    """Refuse a trained net whose ``metrics`` are no list with a dictionary of such facts for each replica.

    Raises:
        CheckpointError: they are not, or lack facts, which are named.

    >>> check_metrics(("mine", {"replicas": 1, "metrics": []}), ("sparsity",))
    Traceback (most recent call last):
    sharpminima.base.errors.CheckpointError: mine: its metrics are no list of a dictionary for each of 1 replicas; ...
    """
    path, known = given
    metrics, replicas = known["metrics"], known["replicas"] if known.get("trained", True) else 0
    listed = isinstance(metrics, list) and all(isinstance(measured, dict) for measured in metrics)
    if not listed or len(metrics) < replicas:
        raise CheckpointError(
            f"{path}: its metrics are no list of a dictionary for each of {replicas} replicas; state them so where it "
            "is saved (`save_checkpoint`)"
        )
    for measured in metrics:
        check_stated((path, measured), facts)


def check_trained(given: Given) -> None:
    """Refuse a start that was not trained, because another level represents its own.

    Raises:
        CheckpointError: it is one.
    """
    path, known = given
    if not known.get("trained", True):
        level = known.get("represented_by")
        stated = isinstance(level, int | float)
        raise CheckpointError(
            f"{path}: holds an untrained start; give {f'the cell of level {level:g}' if stated else 'a trained net'}"
        )


def check_strategy(given: Given, wanted: str, option: str) -> None:
    """Refuse a net of another strategy than an input's; a net that states none, such as one's own, may stand for W0.

    Raises:
        CheckpointError: it is of another one, or states none where it stands for no W0.
    """
    path, known = given
    if "strategy" not in known and wanted != INIT:
        raise CheckpointError(
            f"{path}: its metadata state no strategy, and {option} takes {wanted}; state `strategy` where it is saved "
            "(`save_checkpoint`)"
        )
    strategy = known.get("strategy", INIT)
    if strategy != wanted:
        raise CheckpointError(
            f"{path}: is of strategy {strategy}, and {option} takes {wanted}; give the one of {wanted}"
        )


def check_data(given: Given, name: str, sha256: str) -> None:
    """Refuse a net of other data than the prepared ones.

    Raises:
        CheckpointError: it is of others.
    """
    path, known = given
    recorded = known.get("dataset_sha256", sha256)
    if recorded != sha256 or known.get("dataset", name) != name:
        raise CheckpointError(
            f"{path}: is of other data ({known.get('dataset')}, {recorded[:_SHORT]}) than --data gives "
            f"({name}, {sha256[:_SHORT]}); give the data that it was made with"
        )


def check_masks(first: tuple[str | os.PathLike[str], Checkpoint], second: tuple[Any, Checkpoint]) -> None:
    """Refuse two nets whose first replicas have other masks.

    Raises:
        CheckpointError: they have.
    """
    (path, one), (other_path, other) = first, second
    masks, others = (checkpoint.masks[0] if checkpoint.masks else {} for checkpoint in (one, other))
    if masks.keys() != others.keys() or not all(torch.equal(mask, others[name]) for name, mask in masks.items()):
        raise CheckpointError(
            f"{path} and {other_path} do not belong together: their masks differ; give 1-S at the mask of this G"
        )


def check_place(path: str | os.PathLike[str], metadata: Mapping[str, Any]) -> None:
    """Refuse a net in a folder that names another: a copied file, or a renamed folder.

    Folders say ``dataset/model/method/level-L/strategy/seed-S``, or ``dataset/model/dense/seed-S``. One that is
    no such name, as above a folder of one's own, says nothing.

    Raises:
        CheckpointError: what the path says and what the file does.

    >>> check_place("rewind/seed-1/checkpoint.safetensors", {"strategy": "rewind", "seed": 0})
    Traceback (most recent call last):
    sharpminima.base.errors.CheckpointError: rewind/seed-1/checkpoint.safetensors: lies where the net of seed 1 ...
    """
    folders = list(Path(path).parts[:-1])
    pruned = "level" in metadata
    known = {
        "seed": f"seed-{metadata.get('seed')}",
        "strategy": metadata.get("strategy"),
        **({"level": f"level-{level_name(metadata['level'])}", "method": metadata.get("method")} if pruned else {}),
        "model": metadata.get("model"),
        "dataset": metadata.get("dataset"),
    }
    for (kind, own), folder in zip(known.items(), reversed(folders), strict=False):
        if folder != own and _may_name(folder, kind):
            raise CheckpointError(
                f"{path}: lies where the net of {kind} {folder.removeprefix(f'{kind}-')} should, and is of "
                f"{str(own).removeprefix(f'{kind}-')}; remove it, so that the right one is made again"
            )


def _may_name(folder: str, kind: str) -> bool:
    """Whether a folder can stand for a seed, strategy, level, method, model or dataset."""
    names: dict[str, Iterable[str]] = {
        "strategy": (DENSE, GRADUAL, *STRATEGIES),
        "method": METHODS,
        "model": MODELS,
        "dataset": DATASETS,
    }
    return folder in names[kind] if kind in names else folder.startswith(f"{kind}-")

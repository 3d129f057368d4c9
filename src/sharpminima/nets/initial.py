"""W0, the initialisation from which everything of a run starts: kept as its seed, and the SHA-256 of what it gives.

The weights are drawn again wherever they are needed, which takes no time and a thousandth of the space.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from sharpminima.base.errors import CheckpointError
from sharpminima.nets.agreement import STARTS, check_stated
from sharpminima.nets.checkpoint import Checkpoint, load_checkpoint, read_metadata, save_checkpoint, state_sha256
from sharpminima.nets.models import build_recorded
from sharpminima.nets.usable import check_usable
from sharpminima.runtime.rng import derive_seed


def save_initial(path: str | os.PathLike[str], metadata: Mapping[str, Any], *, tried_on: Tensor | None = None) -> None:
    """Write W0 of a run.

    Args:
        metadata: ``model``, ``num_classes`` and ``seed`` at least, and ``batchnorm`` where it is not the usual one.
        tried_on: normalised images, float32 [n, C, H, W], on which the net must be usable (`check_usable`).

    Raises:
        PluginError: the net cannot be built, or is not usable.
    """
    net = _draw(metadata)
    if tried_on is not None:
        check_usable(metadata["model"], net, tried_on, metadata["num_classes"])
    drawn = state_sha256(net.state_dict())
    save_checkpoint(path, [], metadata={**metadata, "strategy": "init", "epoch": 0, "drawn_sha256": drawn})


def load_initial(path: str | os.PathLike[str]) -> Checkpoint:
    """W0 with its weights, or another checkpoint that holds a net to start from.

    Raises:
        CheckpointError: as `load_checkpoint`; it does not state `STARTS` or keeps no weights; or the seed gives other
            weights here than where it was written.
    """
    checkpoint = load_checkpoint(path)
    _check(path, checkpoint.metadata)
    if checkpoint.states:
        return checkpoint
    if "drawn_sha256" not in checkpoint.metadata:
        raise CheckpointError(f"{path}: keeps no weights to start from; give W0, or a net that keeps them")
    state = _draw(checkpoint.metadata).state_dict()
    if state_sha256(state) != checkpoint.metadata["drawn_sha256"]:
        raise CheckpointError(
            f"{path}: its seed gives other weights here than where it was written; use the version of torch and the "
            "kind of machine that wrote it, or remove it, so that all that starts from it is made again"
        )
    return replace(checkpoint, states=[state])


def read_initial(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The metadata alone of what `load_initial` loads.

    Raises:
        CheckpointError: as `read_metadata`, or it does not state `STARTS`.
    """
    known = read_metadata(path)
    _check(path, known)
    return known


def _check(path: str | os.PathLike[str], known: Mapping[str, Any]) -> None:
    check_stated((path, known), (*STARTS, "num_classes") if "drawn_sha256" in known else STARTS)


def _draw(metadata: Mapping[str, Any]) -> nn.Module:
    seed = derive_seed(metadata["seed"], "init")
    return build_recorded(metadata, num_classes=metadata["num_classes"], seed=seed)

"""W0, the initialisation from which everything of a run starts: kept as its seed, and the SHA-256 of what it gives.

The weights are drawn again wherever they are needed, which takes no time and a thousandth of the space.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sharpminima.base.errors import CheckpointError
from sharpminima.nets.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, state_sha256
from sharpminima.nets.models import build_recorded
from sharpminima.runtime.rng import derive_seed


def save_initial(path: str | os.PathLike[str], metadata: Mapping[str, Any]) -> None:
    """Write W0 of a run.

    Args:
        metadata: ``model``, ``num_classes`` and ``seed`` at least, and ``batchnorm`` where it is not the usual one.
    """
    drawn = state_sha256(_draw(metadata))
    save_checkpoint(path, [], metadata={**metadata, "strategy": "init", "epoch": 0, "drawn_sha256": drawn})


def load_initial(path: str | os.PathLike[str]) -> Checkpoint:
    """W0 with its weights, or another checkpoint that holds a net to start from.

    Raises:
        CheckpointError: as `load_checkpoint`, or the seed gives other weights here than where it was written.
    """
    checkpoint = load_checkpoint(path)
    if checkpoint.states:
        return checkpoint
    state = _draw(checkpoint.metadata)
    if state_sha256(state) != checkpoint.metadata["drawn_sha256"]:
        raise CheckpointError(
            f"{path}: its seed gives other weights here than where it was written; use the version of torch and the "
            "kind of machine that wrote it, or remove it, so that all that starts from it is made again"
        )
    return replace(checkpoint, states=[state])


def _draw(metadata: Mapping[str, Any]) -> dict[str, Any]:
    seed = derive_seed(metadata["seed"], "init")
    return build_recorded(metadata, num_classes=metadata["num_classes"], seed=seed).state_dict()

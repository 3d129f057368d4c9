"""What the trainings behind the paper took, in units that no machine changes: epochs, images and operations."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sharpminima.base.names import DENSE, GRADUAL
from sharpminima.catalogue.datasets import DATASETS
from sharpminima.catalogue.methods import METHODS
from sharpminima.report.experiments import Compute

_PASSES = 3  # of a training step, in forward passes: one forward, two backward


def compute_used(nets: pd.DataFrame, study: Mapping[str, Any]) -> list[Compute]:
    """One entry for the dense nets, the method's runs, and the retrainings of an experiment.

    Teraflops are three times the forward FLOPs of the dense net for each image, whatever was pruned
    and however it was computed, so an upper bound. Validation, tests and analyses are not in it.

    Args:
        nets: the distinct nets of the experiment (`sharpminima.report.tables.panels`).
        study: the study as its file says it.
    """
    dense = nets["strategy"] == DENSE
    own = nets["strategy"] == GRADUAL
    by_run = nets[own].groupby("seed")["epochs"]
    # One run of LOBSTER makes the states of all levels, and each row tells the epochs of the whole run. Other methods
    # train for each level, beside what levels share, which is counted with each.
    gradual = set(nets.loc[own, "method"].map(lambda method: METHODS[method].kind)) <= {"gradual"}
    runs = by_run.max() if gradual else by_run.sum()
    kinds = {"dense": nets[dense]["epochs"], "method": runs, "retraining": nets[~dense & ~own]["epochs"]}
    share = study.get("data", {}).get("validation_share", 0.0)
    size = DATASETS[nets["dataset"].iloc[0]].sizes[0]
    per_epoch = size - round(share * size)
    flops = int(nets["flops_dense"].max())
    used: list[Compute] = []
    for kind, epochs in kinds.items():
        images = int(epochs.sum()) * per_epoch
        used.append(
            {
                "kind": kind,
                "trainings": len(epochs),
                "epochs": int(epochs.sum()),
                "images": images,
                "teraflop": _PASSES * flops * images / 1e12,
            }
        )
    return used

"""What authors trained LeNet-300 and LeNet-5 with on MNIST, where they have published what came of it.

A method's settings take ``recipe: published`` for these, beside the common recipe in which methods are compared. Epochs
are of 54,000 images, what is left of the 60,000 without a tenth for validation. The published errors stand in
`paper/published`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Published:
    """Settings of a method as its authors have them."""

    settings: Mapping[str, Any]  # as a study gives them; others stay free
    source: str  # where they are from, and what of them is ours


_CAFFE = {"batch_size": 64, "momentum": 0.9, "weight_decay": 5e-4}
_HAN = "Caffe's example for MNIST, which Han et al. train by, without the slow fall of its rate; retraining at a tenth"

PUBLISHED: Mapping[str, Published] = {
    "magnitude": Published(
        {
            "start": "trained",
            "distribution": "layerwise",
            "dense": {**_CAFFE, "lr": 0.01, "schedule": "constant", "max_epochs": 12},
            "recipe": {**_CAFFE, "lr": 0.001, "schedule": "constant", "max_epochs": 12},
        },
        f"{_HAN}; one share of all layers, at once, is ours",
    ),
    "finetune": Published(
        {
            "distribution": "layerwise",
            "recipe": {**_CAFFE, "lr": 0.01, "schedule": "steps", "max_epochs": 12, "milestones": [11]},
        },
        f"{_HAN}, to which its last epoch leads; one share of all layers is ours",
    ),
    "weight_rewinding": Published(
        {
            "keep": 0.8,
            "distribution": "layerwise",
            "recipe": {
                "optimiser": "adam",
                "lr": 1.2e-3,
                "batch_size": 60,
                "schedule": "constant",
                "max_epochs": 56,
            },
        },
        "paper, LeNet-300: 50,000 steps of Adam; theirs keep .9 of the last layer, and start from Glorot's normals",
    ),
    "snip": Published(
        {
            "biases": True,
            "samples_per_class": 10,
            "recipe": {
                "lr": 0.1,
                "momentum": 0.9,
                "weight_decay": 5e-4,
                "batch_size": 100,
                "schedule": "steps",
                "max_epochs": 139,
                "milestones": [46, 92],
            },
        },
        "paper: a tenth of the rate after each 25,000 steps; that there are 75,000 is ours, and W0 is not theirs",
    ),
    "sparse_momentum": Published(
        {
            "epochs": 100,
            "lr": 0.1,
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 5e-4,
            "batch_size": 100,
            "lr_schedule": "steps",
            "lr_falls": [0.463, 0.926],
            "recipe": None,
        },
        "code: a tenth of the rate after each 25,000 steps of 54,000",
    ),
    "learning_compression": Published(
        {
            "epochs": 800,
            "lr": 0.1,
            "momentum": 0.9,
            "nesterov": True,
            "lr_schedule": "exponential",
            "lr_last": 0.4457,
            "mu": 9e-5,
            "growth": 1.1,
            "rounds": 40,
            "recipe": None,
        },
        "code; theirs falls by .98 a round, ours to .98^40 from epoch to epoch; dense training and momentum are ours",
    ),
    "dst": Published(
        {
            "epochs": 20,
            "lr": 0.01,
            "momentum": 0.9,
            "added_momentum": 0.9,
            "batch_size": 64,
            "strengths": [5e-4],
            "recipe": None,
        },
        "code; theirs reports the best epoch on test images, ours the last",
    ),
    "l0": Published(
        {
            "epochs": 200,
            "optimiser": "adam",
            "lr": 1e-3,
            "gate_lr": 1e-3,
            "batch_size": 100,
            "gates": "unit",
            "strengths": [0.1],
            "recipe": None,
        },
        "code, LeNet-300; LeNet-5 starts at drop_input: 0.5, and has one lambda a layer; theirs tests means of weights",
    ),
    "variational_dropout": Published(
        {
            "epochs": 200,
            "optimiser": "adam",
            "lr": 1e-3,
            "gate_lr": 1e-3,
            "batch_size": 100,
            "log_sigma2": -10.0,
            "wait": 0.025,
            "warm_up": 0.075,
            "strengths": [1.0],
            "recipe": None,
        },
        "code, LeNet-5; LeNet-300 keeps the rate for the first half, ours falls from the start",
    ),
}
"""Method -> what its authors trained with."""

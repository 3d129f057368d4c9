"""Golden values: numbers that change must change together with the `revision` of the stage or method that makes them.

After raising a revision, `python tests/test_golden.py` writes the file anew. Everything is computed in float64, from
weights that every CPU draws alike to the bit: in float32 a training multiplies the last bits, in which CPUs differ, to
percents within two epochs. What is left fits in the tolerance; a change of the method does not.
"""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sharpminima.analysis import hessian_eigenvalues, loss_surface, psp_statistics
from sharpminima.base.files import read_json, write_json
from sharpminima.catalogue.analyses import HessianSettings, PspSettings, SurfaceSettings
from sharpminima.catalogue.methods.choices import CRITERIA
from sharpminima.catalogue.methods.iterative import ITERATIVE
from sharpminima.catalogue.methods.search import FromTrainedSettings, SearchSettings
from sharpminima.catalogue.recipes import RecipeSettings
from sharpminima.data import load_prepared, prepare_dataset
from sharpminima.data.prepared import ImageDataset, Split
from sharpminima.nets.masks import random_masks
from sharpminima.nets.models import MODELS, build_model
from sharpminima.pruning import METHODS, Run
from sharpminima.runtime.rng import derive_seed, generator
from sharpminima.training import FlatModel, RecipePolicy, train

GOLDEN = Path(__file__).with_name("golden.json")
_SHORT = {"recipe": {"batch_size": 50, "max_epochs": 2}, "dense": {"batch_size": 50, "max_epochs": 2}, "batches": 3}
_ROUNDS = {"recipe": {"batch_size": 50, "max_epochs": 2, "schedule": "constant"}, "keep": 0.4}
_SEARCH = {"recipe": _SHORT["recipe"], "batch_size": 50, "epochs": 2}
_FROM_TRAINED = {**_SEARCH, "dense": _SHORT["dense"]}
METHOD_SETTINGS = {
    "lobster": {"batch_size": 50, "lambda": 4e-3, "twt": 0.5, "pwe": 2, "max_epochs": 14},
    **dict.fromkeys(CRITERIA, _SHORT),
    **dict.fromkeys((method.name for method in ITERATIVE), _ROUNDS),
    **{name: _SEARCH for name, method in METHODS.items() if issubclass(method.settings, SearchSettings)},
    **{name: _FROM_TRAINED for name, method in METHODS.items() if issubclass(method.settings, FromTrainedSettings)},
    "obs": {**_SHORT, "rounds": 2},
    "soft_weight_sharing": {**_FROM_TRAINED, "strengths": [0.03], "mixture_lr": 0.2},
    "dsr": {**_SEARCH, "every": 10, "threshold": 1e-2},
    "learned_agents": {**_FROM_TRAINED, "strengths": [0.1], "updates": 10, "samples_per_class": 20},
    "amc": {**_FROM_TRAINED, "episodes": 12, "warm_up": 6, "lr": 0.01, "recipe": {**_SHORT["recipe"], "lr": 0.01}},
    "l0": {**_SEARCH, "gate_lr": 0.1},
    "bayesian_compression": {**_SEARCH, "strengths": [1.0], "lr": 0.01, "noise_lr": 0.1},
    "structured_bayesian": {**_FROM_TRAINED, "strengths": [1.0], "lr": 0.01, "noise_lr": 0.3},
    "dcp": {**_FROM_TRAINED, "samples_per_class": 5},
}


def _sha256(*tensors: torch.Tensor) -> str:
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()[:16]


def _first_weights(name: str) -> list[float]:
    """Not a hash: normal draws differ in the last bits between CPUs."""
    weight = next(build_model(name, seed=derive_seed(0, "init")).parameters())
    return weight.flatten()[:4].tolist()


def _split(data: ImageDataset, part: str) -> Split:
    split = data.split(part)
    return Split(split.images.double(), split.labels)


def _net(seed: int) -> nn.Module:
    """LeNet-300 with whole multiples of a step for weights, as rounding makes other draws differ between CPUs."""
    net, draws = build_model("lenet300", seed=0).double(), generator(seed, "golden")
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Linear):
                step = layer.in_features**-0.5 / 2**20
                for parameter in layer.parameters():
                    parameter.copy_(torch.randint(-(2**20), 2**20, parameter.shape, generator=draws).double() * step)
    return net


def measure(digits: Path) -> dict[str, Any]:
    """Small, quick numbers of every stage."""
    torch.set_num_threads(1)
    data = load_prepared(digits)
    training, validation, test = (_split(data, part) for part in ("train", "validation", "test"))
    found: dict[str, Any] = {
        "data": data.sha256[:16],
        "init": {name: _first_weights(name) for name in MODELS},
    }
    shapes = {"a": torch.zeros(50, 40).bool(), "b": torch.ones(70).bool()}
    drawn = random_masks(shapes, layerwise=False, generator=generator(0, "random-structure", 0))
    found["random-structure"] = _sha256(*drawn.values())

    recipe = RecipeSettings(batch_size=50, max_epochs=3)
    net = _net(0)
    flat, policy = FlatModel(net), RecipePolicy(recipe)
    history = train(
        flat, training, validation, policy, batch_size=50, stream=lambda epoch: generator(0, "dense", 0, "order", epoch)
    )
    found["dense"] = {"revision": recipe.revision, "validation_loss": [row["validation_loss"] for row in history]}
    for name, settings in METHOD_SETTINGS.items():
        method = METHODS[name]
        start = _net(0)
        levels = (0.5, 0.9) if name == "lobster" or name in CRITERIA else (0.9,)
        run = Run(start, training, validation, test, levels, seed=0, augment=False)
        chosen = method.settings(**settings)
        pruned = method.prune(run, chosen)
        found[name] = {
            "revision": chosen.revision,
            "sparsity": [event["sparsity"] for event in pruned.events],
            "validation_loss": [row["validation_loss"] for row in pruned.history[:6]],
        }
    net = _net(0)
    images, labels = training.images[:200], training.labels[:200]
    statistics = psp_statistics(net, images, labels, pairs=True)
    first, joint = statistics.entropy(), statistics.entropy(order=2)
    agreement = statistics.entropy(order=2, definition="agreement")
    found["psp"] = {
        "revision": PspSettings().revision,
        "values": [first.norm, first.norm_with_output, first.mean, first.mean_live, joint.mean, agreement.mean],
    }
    eigenvalues = hessian_eigenvalues(net, images, labels, k=3, tol=1e-5, basis=torch.float64).eigenvalues
    found["hessian"] = {"revision": HessianSettings().revision, "eigenvalues": eigenvalues.tolist()}
    other = _net(1)
    plane = loss_surface(net, other, images, labels, grid=(3, 2), span=(-0.5, 1.5))
    values = {name: on_grid.flatten().tolist() for name, on_grid in plane.values.items()}
    found["surface"] = {"revision": SurfaceSettings().revision, **values}
    return found


def close(found: Any, expected: Any) -> bool:
    """Equal, numbers up to 0.1 %."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(close(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(close(a, b) for a, b in zip(found, expected, strict=True))
    return found == pytest.approx(expected, rel=1e-3) if isinstance(expected, float) else found == expected


@pytest.mark.slow
def test_numbers_change_only_with_their_revision(digits: Path) -> None:
    found, expected = measure(digits), read_json(GOLDEN)
    changed = [name for name in expected if not close(found.get(name), expected[name])]
    assert changed == [], "raise the revision of what changed, and run `python tests/test_golden.py`"
    assert found.keys() == expected.keys()


def test_every_method_has_golden_values() -> None:
    assert METHOD_SETTINGS.keys() == METHODS.keys()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        prepare_dataset("digits", Path(folder, "digits"))
        write_json(GOLDEN, measure(Path(folder, "digits")))

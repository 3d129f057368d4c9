"""What both ways train: the same images, recipe and threads."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from sharpminima.base.errors import DataError
from sharpminima.data import DATASETS, Dataset, ImageDataset
from sharpminima.nets.models import MODELS
from sharpminima.runtime.rng import generator

VALIDATION_SHARE = 0.1  # as `sharpminima prepare` has it


@dataclass(frozen=True)
class Recipe:
    """How a net is trained, and how much of an epoch is measured."""

    dataset: str
    batch_size: int
    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    batches: int | None = None  # measured of an epoch; None: all
    validation_images: int | None = None  # measured of a validation; None: all
    warm_up_batches: int = 20


RECIPES = {
    "lenet300": Recipe("mnist", batch_size=100, lr=0.1),
    "lenet5": Recipe("mnist", batch_size=100, lr=0.1),
    "resnet32": Recipe(
        "cifar10",
        batch_size=128,
        lr=0.1,
        momentum=0.9,
        weight_decay=1e-4,
        batches=12,
        validation_images=1000,
        warm_up_batches=2,
    ),
}


@dataclass(frozen=True)
class Setup:
    """One model's measurement, the same for every variant of it; travels to the process of each."""

    model: str
    recipe: Recipe
    root: Path | None  # a torchvision root; None: synthetic images
    device: str
    threads: int

    @property
    def spec(self) -> Dataset:
        """The facts about the dataset."""
        return DATASETS[self.recipe.dataset]

    @cached_property
    def full(self) -> dict[str, Tensor]:
        """Part -> indices of all its images, split as `sharpminima prepare` splits them."""
        images = self.spec.sizes[0]
        order = torch.randperm(images, generator=generator(0, "validation-split", self.recipe.dataset))
        validation = round(VALIDATION_SHARE * images)
        return {"train": order[validation:].sort().values, "validation": order[:validation].sort().values}

    @cached_property
    def measured(self) -> dict[str, Tensor]:
        """Part -> indices of the images that are measured."""
        batches, validation = self.recipe.batches, self.recipe.validation_images
        train = None if batches is None else batches * self.recipe.batch_size
        return {"train": self.full["train"][:train], "validation": self.full["validation"][:validation]}

    def images(self) -> ImageDataset:
        """Training and test images as a prepared file has them, with the `measured` indices."""
        images, labels = synthetic(self) if self.root is None else _real(self, self.root)
        spec = self.spec
        return ImageDataset(
            self.recipe.dataset, "", images, labels, self.measured, spec.mean, spec.std, spec.class_names
        )


def find_root(dataset: str, root: Path) -> Path | None:
    """``root`` if it holds the raw files of ``dataset``, unharmed; else None. Nothing is downloaded."""
    try:
        DATASETS[dataset].load(root, False, lambda _: None)
    except DataError:
        return None
    return root


def synthetic(setup: Setup) -> tuple[Tensor, Tensor]:
    """Images [N, C, H, W] (uint8, a fifth of the pixels not black) and labels [N], the size of the dataset."""
    count = sum(setup.spec.sizes)
    draws = generator(0, "benchmark", "synthetic")
    drawn = torch.randint(0, 256, (count, *MODELS[setup.model].shape), generator=draws, dtype=torch.uint8)
    labels = torch.randint(0, setup.spec.num_classes, (count,), generator=draws)
    return torch.where(drawn < 51, drawn * 5, 0), labels


def _real(setup: Setup, root: Path) -> tuple[Tensor, Tensor]:
    raw = setup.spec.load(root, False, lambda _: None)
    return torch.cat([raw.train_images, raw.test_images]), torch.cat([raw.train_labels, raw.test_labels])

"""The baseline: the usual script, a DataLoader with torchvision transforms and ``torch.optim.SGD``."""

import sys
import time
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from benchmarks._setup import Setup, synthetic
from sharpminima.data._torchvision import import_torchvision_datasets
from sharpminima.nets.models import build_model

EVALUATION_BATCH = 1000  # as ours


class Usual:
    """An epoch of the usual way at a time.

    Args:
        workers: processes of the DataLoader; they stay between epochs.
    """

    def __init__(self, setup: Setup, workers: int) -> None:
        torch.set_num_threads(setup.threads)
        recipe = setup.recipe
        self._warm_up_batches = recipe.warm_up_batches
        self.device = torch.device(setup.device)
        training, validation = datasets(setup)
        forks = workers > 0 and sys.platform == "linux"  # what Python does there by itself, but not in our process
        options = {
            "num_workers": workers,
            "multiprocessing_context": "fork" if forks else None,
            "persistent_workers": workers > 0,
            "pin_memory": self.device.type == "cuda",
        }
        self.train_loader = DataLoader(training, batch_size=recipe.batch_size, shuffle=True, **options)
        self.validation_loader = DataLoader(validation, batch_size=EVALUATION_BATCH, **options)
        self.model = build_model(setup.model).to(self.device)
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )

    def warm_up(self) -> None:
        """Start the workers, and let the libraries choose their kernels."""
        self.train(batches=self._warm_up_batches)
        self.validate()

    def epoch(self) -> tuple[float, float]:
        """Seconds of one epoch of training, and of the validation after it."""
        start = time.perf_counter()
        self.train()
        trained = time.perf_counter()
        self.validate()
        return trained - start, time.perf_counter() - trained

    def train(self, batches: int | None = None) -> float:
        """One epoch, or its first batches; returns the mean loss."""
        self.model.train()
        running_loss, seen = 0.0, 0
        for number, (images, labels) in enumerate(self.train_loader, start=1):
            images = images.to(self.device, non_blocking=True)
            labels = labels.to(self.device, non_blocking=True)
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(images), labels)
            loss.backward()
            self.optimizer.step()
            running_loss += loss.item() * len(labels)
            seen += len(labels)
            if number == batches:
                break
        return running_loss / seen

    @torch.no_grad()
    def validate(self) -> tuple[float, float]:
        """Mean loss, and the share of wrong images."""
        self.model.eval()
        total_loss, wrong, seen = 0.0, 0, 0
        for images, labels in self.validation_loader:
            images = images.to(self.device, non_blocking=True)
            labels = labels.to(self.device, non_blocking=True)
            logits = self.model(images)
            total_loss += self.criterion(logits, labels).item() * len(labels)
            wrong += (logits.argmax(dim=1) != labels).sum().item()
            seen += len(labels)
        return total_loss / seen, wrong / seen


def datasets(setup: Setup) -> tuple[Dataset[Any], Dataset[Any]]:
    """Training and validation images, decoded and transformed one by one."""
    torchvision_datasets = import_torchvision_datasets()
    from torchvision import transforms

    plain = [transforms.ToTensor(), transforms.Normalize(setup.spec.mean, setup.spec.std)]
    augmenting = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()] if setup.spec.augment else []
    dataset_class = {"mnist": torchvision_datasets.MNIST, "cifar10": torchvision_datasets.CIFAR10}[setup.recipe.dataset]

    def part(name: str, steps: list[Any]) -> Dataset[Any]:
        transform = transforms.Compose(steps)
        if setup.root is None:
            dataset = _synthetic(dataset_class, setup, transform)
        else:
            dataset = dataset_class(setup.root, train=True, transform=transform)
        return Subset(dataset, setup.measured[name].tolist())

    return part("train", [*augmenting, *plain]), part("validation", plain)


def _synthetic(dataset_class: type, setup: Setup, transform: Any) -> Any:
    """A torchvision dataset that holds synthetic images: it reads them as it reads its own."""
    images, labels = (tensor[: setup.spec.sizes[0]] for tensor in synthetic(setup))
    dataset = dataset_class.__new__(dataset_class)
    dataset.transform, dataset.target_transform = transform, None
    if setup.recipe.dataset == "mnist":
        dataset.data, dataset.targets = images[:, 0].contiguous(), labels
    else:
        dataset.data, dataset.targets = images.permute(0, 2, 3, 1).contiguous().numpy(), labels.tolist()
    return dataset

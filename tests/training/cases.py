"""Small nets of every kind that compaction and replicas meet, and images from which they learn."""

import os
import signal

import torch
from torch import Tensor, nn

from sharpminima.catalogue.recipes import RecipeSettings
from sharpminima.data import Split
from sharpminima.nets.models.resnet import ResNetCifar
from sharpminima.training import FlatModel, RecipePolicy


class Convolutional(nn.Module):
    """Two convolutions and two linear layers on 8x8 images, with functional flattening, as LeNet-5 has it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 8, 3, padding=1)
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.fc1, self.fc2 = nn.Linear(72, 12), nn.Linear(12, 3)

    def forward(self, images: Tensor) -> Tensor:
        features = self.pool(self.relu2(self.conv2(self.relu1(self.conv1(images)))))
        return self.fc2(self.relu3(self.fc1(features.flatten(1))))


class Normalised(nn.Sequential):
    """BatchNorm between a convolution and its only reader."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 6, 3, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 4, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64, 3),
        )


def dense_net() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 9), nn.ReLU(), nn.Linear(9, 3))


NETS = {
    "linear": dense_net,
    "convolutional": Convolutional,
    "batchnorm": Normalised,
    "residual": lambda: ResNetCifar(8, 3),
}


def build(kind: str, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return NETS[kind]().double()


def images_of(kind: str, count: int, seed: int) -> Split:
    random = torch.Generator().manual_seed(seed)
    shape = (3, 8, 8) if kind == "residual" else (1, 8, 8)
    images = torch.randn(count, *shape, generator=random, dtype=torch.float64)
    labels = torch.randint(0, 3, (count,), generator=random)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[0, 2 * label : 2 * label + 3] += 0.8
    return Split(images=images, labels=labels)


class Interrupting(RecipePolicy):
    """Raises SIGTERM in this process after a number of steps."""

    def __init__(self, settings: RecipeSettings, steps: int | None) -> None:
        super().__init__(settings)
        self._left = steps

    def after_step(self, flat: FlatModel) -> None:
        super().after_step(flat)
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGTERM)

"""A small task, on which any method can be run in seconds: 8x8 images of 3 classes, and a net of one hidden layer."""

import torch
from torch import nn

from sharpminima.data import Split
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.method import Run

LEVELS = (0.5, 0.8)
BEATS_CHANCE = 58.5  # percent; chance is 66.7 with a standard deviation of 2.7 on 300 images
UNIT = 68  # what a hidden unit takes along: 64 weights in, a bias, and 3 out


def small_net() -> nn.Module:
    """The net at its W0, the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 3))


def small_split(seed: int, count: int) -> Split:
    """Images of noise [count, 1, 8, 8], brighter at a place of their class."""
    random = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 1, 8, 8, generator=random)
    labels = torch.randint(0, 3, (count,), generator=random)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[0, 2 * label : 2 * label + 3] += 0.8
    return Split(images=images, labels=labels)


def small_run(resume: ResumeFile | None = None, device: str = "cpu") -> Run:
    """A run at `LEVELS`, on 200 training images; 300 are tested on."""
    parts = [small_split(seed, count) for seed, count in ((1, 200), (2, 80), (3, 300))]
    training, validation, test = (Split(part.images.to(device), part.labels.to(device)) for part in parts)
    return Run(
        small_net().to(device),
        training,
        validation,
        test,
        LEVELS,
        seed=0,
        augment=False,
        compaction=True,
        resume=resume,
    )

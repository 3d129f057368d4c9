"""What the images of a dataset must keep, wherever they come from."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sharpminima.catalogue.datasets import Dataset
from sharpminima.data import RawImages
from sharpminima.testing._checks import demand


def check_dataset(
    dataset: Dataset, root: str | os.PathLike[str] = ".", *, download: bool = False, tolerance: float = 0.01
) -> None:
    """Check images, labels, and that they are the same each time.

    Args:
        root: folder of raw files.
        download: whether they may be fetched.
        tolerance: of the stated mean and spread of pixels in [0, 1].

    Raises:
        CheckFailed: the dataset does not keep what datasets promise.
        DataError: raw files are damaged, or not to be had.
    """
    first, again = (dataset.load(Path(root), download, lambda _: None) for _ in range(2))
    check_images(dataset, first)
    check_pixels(dataset, first.train_images, tolerance)
    same = all(torch.equal(values, vars(again)[name]) for name, values in vars(first).items())
    demand(same, f"{dataset.name}: read twice, it differs")


def check_images(dataset: Dataset, raw: RawImages) -> None:
    """Images and labels have the stated shapes, types and numbers, and each part has all classes."""
    demand(isinstance(raw, RawImages), f"{dataset.name}: its code returned {type(raw).__name__}, RawImages expected")
    parts = (("training", raw.train_images, raw.train_labels), ("test", raw.test_images, raw.test_labels))
    for (part, images, labels), size in zip(parts, dataset.sizes, strict=True):
        where = f"{dataset.name}, {part}"
        _check_tensor(f"{where} images", images, torch.uint8, [size, *dataset.shape])
        _check_tensor(f"{where} labels", labels, torch.int64, [size])
        classes = labels.unique().tolist()
        wanted = list(range(dataset.num_classes))
        demand(classes == wanted, f"{where}: classes {classes}, {wanted} expected")


def _check_tensor(what: str, values: Any, dtype: torch.dtype, shape: list[int]) -> None:
    demand(isinstance(values, Tensor), f"{what}: are a {type(values).__name__}, a tensor expected")
    demand(values.dtype == dtype, f"{what}: are {values.dtype}, {dtype} expected")
    actual = list(values.shape)
    demand(actual == shape, f"{what}: have shape {actual}, {shape} expected")


def check_pixels(dataset: Dataset, images: Tensor, tolerance: float) -> None:
    """Mean and standard deviation of each channel of the training images are as stated."""
    stated = zip(("mean", "std"), (dataset.mean, dataset.std), pixel_statistics(images), strict=True)
    for name, said, computed in stated:
        near = len(said) == len(computed) and all(abs(a - b) <= tolerance for a, b in zip(said, computed, strict=True))
        shown = ", ".join(f"{value:.4f}" for value in computed)
        demand(near, f"{dataset.name}: {name} {list(said)} stated; it is {shown}")


def pixel_statistics(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of pixels in [0, 1] by channel, of uint8 images [N, C, H, W]; exact in counts."""
    pixels = images.transpose(0, 1).flatten(1)
    counts = torch.stack([channel.bincount(minlength=256) for channel in pixels]).double()
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = counts @ values / pixels.shape[1]
    return mean.tolist(), (counts @ values**2 / pixels.shape[1] - mean**2).sqrt().tolist()

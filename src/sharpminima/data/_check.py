"""Whether what a dataset's code has read is what its facts say: a plug-in's, as much as ours."""

import math

import torch
from torch import Tensor

from sharpminima.base.errors import DataError
from sharpminima.catalogue.datasets import Dataset
from sharpminima.data._spec import RawImages

_MOST_CLASSES = 256  # predictions are kept as uint8


def check_raw(dataset: Dataset, raw: RawImages) -> None:
    """Refuse images and labels that no net could be trained on, or that a net would be trained on wrongly.

    Raises:
        DataError: what is wrong, and in which part.
    """
    name = dataset.name
    if not 2 <= dataset.num_classes <= _MOST_CLASSES:
        raise DataError(f"{name}: has {dataset.num_classes} classes; from 2 to {_MOST_CLASSES} are allowed")
    channels = dataset.shape[0]
    statistics = (*dataset.mean, *dataset.std)
    if not len(dataset.mean) == len(dataset.std) == channels or not all(map(math.isfinite, statistics)):
        raise DataError(f"{name}: a finite mean and spread of each of its {channels} channels is needed")
    if min(dataset.std) <= 0:
        raise DataError(f"{name}: spread {list(dataset.std)} stated; images are divided by it, so give values above 0")
    parts = (("training", raw.train_images, raw.train_labels), ("test", raw.test_images, raw.test_labels))
    for (part, images, labels), size in zip(parts, dataset.sizes, strict=True):
        _check_part(f"{name}, {part}", images, labels, dataset, size)


def _check_part(where: str, images: Tensor, labels: Tensor, dataset: Dataset, size: int) -> None:
    if len(images) == 0:
        raise DataError(f"{where}: there are no images; both parts need some")
    if images.dtype != torch.uint8:
        raise DataError(f"{where}: images are {images.dtype}; pixels from 0 to 255 as torch.uint8 are needed")
    if tuple(images.shape) != (size, *dataset.shape):
        raise DataError(f"{where}: images are {list(images.shape)}, {[size, *dataset.shape]} stated")
    if labels.dtype != torch.int64 or tuple(labels.shape) != (size,):
        raise DataError(f"{where}: labels are {labels.dtype} {list(labels.shape)}; torch.int64 [{size}] is needed")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= dataset.num_classes:
        raise DataError(
            f"{where}: labels from {low} to {high}; {dataset.num_classes} classes are 0 to {dataset.num_classes - 1}"
        )
    if bool((images == images.flatten()[0]).all()):
        raise DataError(f"{where}: all pixels are {int(images.flatten()[0])}; is the raw file the right one?")

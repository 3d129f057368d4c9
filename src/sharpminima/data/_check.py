"""Whether what a dataset's code has read is what its facts say: a plug-in's, as much as ours."""

import math
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from sharpminima.base.errors import DataError
from sharpminima.catalogue.datasets import Dataset
from sharpminima.data._spec import RawImages

_MOST_CLASSES = 256  # predictions are kept as uint8
_LEAST_SPREAD = 1e-7  # black images of MNIST of which one pixel is 1 have more
_SHOWN = 5  # classes of a message


def check_facts(dataset: Dataset) -> None:
    """Refuse facts that no images could have, before any are read.

    Raises:
        DataError: which fact, what is stated, and what is needed.
    """
    name, shape, sizes = dataset.name, dataset.shape, dataset.sizes
    if not _are(shape, Integral, 3) or min(shape) < 1:
        raise DataError(f"{name}: shape {shape!r} stated; give channels, height and width of one image, each 1 or more")
    if not _are(sizes, Integral, 2) or min(sizes) < 1:
        raise DataError(f"{name}: sizes {sizes!r} stated; give the numbers of training and of test images, 1 or more")
    _check_classes(name, dataset.class_names)
    for fact, values in (("mean", dataset.mean), ("std", dataset.std)):
        if not _are(values, (int, float), shape[0]) or not all(map(math.isfinite, values)):
            raise DataError(
                f"{name}: a finite mean and spread of each of its {shape[0]} channels is needed, as Python's numbers; "
                f"{fact} {_listed(values)} stated"
            )
    scale = "pixels count from 0 to 1: divide what was measured on those from 0 to 255 by 255"
    if min(dataset.mean) < 0 or max(dataset.mean) > 1:
        raise DataError(f"{name}: mean {_listed(dataset.mean)} stated; values from 0 to 1 are needed, as {scale}")
    if min(dataset.std) < _LEAST_SPREAD or max(dataset.std) > 1:
        raise DataError(
            f"{name}: spread {_listed(dataset.std)} stated; images are divided by it, so give values above 0 and no "
            f"larger than 1, as {scale}"
        )


def _are(values: Any, kind: type | tuple[type, ...], count: int) -> bool:
    """Whether there is a sequence of so many numbers of a kind; True and False are none."""
    if not isinstance(values, tuple | list) or len(values) != count:
        return False
    return all(isinstance(value, kind) and not isinstance(value, bool) for value in values)


def _listed(values: Any) -> str:
    return repr(list(values)) if isinstance(values, tuple | list) else f"{type(values).__name__} {values!r:.40}"


def _check_classes(name: str, given: Any) -> None:
    if not isinstance(given, tuple | list) or not all(isinstance(label, str) for label in given):
        raise DataError(f"{name}: class_names {given!r:.60} stated; give a tuple of texts, the name of label 0 first")
    if not 2 <= len(given) <= _MOST_CLASSES:
        raise DataError(f"{name}: has {len(given)} classes; from 2 to {_MOST_CLASSES} are allowed")
    if twice := [label for label in dict.fromkeys(given) if given.count(label) > 1]:
        raise DataError(f"{name}: class_names has {twice[0]!r} more than once; give each class a name of its own")


def check_raw(dataset: Dataset, raw: Any) -> None:
    """Refuse images and labels that no net could be trained on, or that a net would be trained on wrongly.

    Args:
        dataset: one whose facts have been checked.
        raw: what its code returned; `RawImages` is needed.

    Raises:
        DataError: what is wrong, and in which part.
    """
    if not isinstance(raw, RawImages):
        raise DataError(
            f"{dataset.name}: its code returned {_kind(raw)}; return sharpminima.data.RawImages(train_images, "
            "train_labels, test_images, test_labels)"
        )
    parts = (("training", raw.train_images, raw.train_labels), ("test", raw.test_images, raw.test_labels))
    for (part, images, labels), size in zip(parts, dataset.sizes, strict=True):
        _check_part(f"{dataset.name}, {part}", images, labels, dataset, size)


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__module__}.{type(value).__name__}".replace("builtins.", "")


def _check_part(where: str, images: Any, labels: Any, dataset: Dataset, size: int) -> None:
    _check_tensor(f"{where}: images are", images, "torch.uint8 on the CPU")
    _check_tensor(f"{where}: labels are", labels, "torch.int64 on the CPU")
    if images.ndim and len(images) == 0:
        raise DataError(f"{where}: there are no images; both parts need some")
    if images.dtype != torch.uint8:
        raise DataError(f"{where}: images are {images.dtype}; pixels from 0 to 255 as torch.uint8 are needed")
    if tuple(images.shape) != (size, *dataset.shape):
        raise DataError(
            f"{where}: images are {list(images.shape)}, {[size, *dataset.shape]} stated; correct the images, or sizes "
            "and shape of the dataset"
        )
    if labels.dtype != torch.int64 or tuple(labels.shape) != (size,):
        raise DataError(
            f"{where}: labels are {labels.dtype} {list(labels.shape)}; torch.int64 [{size}] is needed, the number of "
            "each image's class"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= dataset.num_classes:
        raise DataError(
            f"{where}: labels from {low} to {high}; {dataset.num_classes} classes are 0 to {dataset.num_classes - 1}: "
            "number them from 0, and name each class in class_names"
        )
    if missing := missing_classes(dataset, labels):
        raise DataError(
            f"{where}: no image of {missing}; give each class images in both parts, or leave it out of class_names and "
            "number the others anew"
        )
    if bool((images == images.flatten()[0]).all()):
        raise DataError(f"{where}: all pixels are {int(images.flatten()[0])}; is the raw file the right one?")


def _check_tensor(what: str, values: Any, needed: str) -> None:
    if not isinstance(values, Tensor):
        cure = "torch.from_numpy makes one" if type(values).__module__ == "numpy" else "torch.tensor makes one"
        raise DataError(f"{what} {_kind(values)}; a tensor of {needed} is needed ({cure})")
    if values.device.type != "cpu" or values.layout != torch.strided:
        raise DataError(f"{what} {values.layout} on {values.device}; a dense tensor of {needed} is needed")


def missing_classes(dataset: Dataset, labels: Tensor) -> str:
    """The classes of which there is no label, as a message names them; empty where there is none.

    Args:
        labels: int64 [N], each of a class of the dataset.
    """
    counts = labels.bincount(minlength=dataset.num_classes).tolist()
    missing = [f"{name!r} (label {label})" for label, name in enumerate(dataset.class_names) if not counts[label]]
    more = f" and {len(missing) - _SHOWN} more classes" if len(missing) > _SHOWN else ""
    return ", ".join(missing[:_SHOWN]) + more

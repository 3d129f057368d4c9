"""MNIST (LeCun et al., 1998) and Fashion-MNIST (Xiao et al., 2017): 28x28 grey, 60,000 and 10,000 images."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sharpminima.data._raw import read_raw_files
from sharpminima.data._spec import DatasetSpec, RawImages, Report

_SHAPE = (1, 28, 28)
_SIZES = (60_000, 10_000)
_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_IMAGES_AT, _LABELS_AT = 16, 8  # bytes of an IDX header with three dimensions and with one


def _load(torchvision_class: str, sha256: Mapping[str, str], root: Path, download: bool, report: Report) -> RawImages:
    files = read_raw_files(root, sha256, torchvision_class=torchvision_class, download=download, report=report)
    train_images, train_labels, test_images, test_labels = (files[name] for name in sha256)
    return RawImages(_images(train_images), _labels(train_labels), _images(test_images), _labels(test_labels))


def _images(content: bytes) -> Tensor:
    pixels = np.frombuffer(content, dtype=np.uint8, offset=_IMAGES_AT)
    return torch.from_numpy(pixels.reshape(-1, *_SHAPE).copy())


def _labels(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8, offset=_LABELS_AT).astype(np.int64))


def _spec(
    torchvision_class: str,
    sha256: tuple[str, str, str, str],
    *,
    class_names: tuple[str, ...],
    mean: float,
    std: float,
    source: str,
) -> DatasetSpec:
    folder = f"{torchvision_class}/raw"
    raw_sha256 = {f"{folder}/{name}": digest for name, digest in zip(_FILES, sha256, strict=True)}
    return DatasetSpec(
        shape=_SHAPE,
        sizes=_SIZES,
        class_names=class_names,
        mean=(mean,),
        std=(std,),
        source=source,
        raw_sha256=raw_sha256,
        load=partial(_load, torchvision_class, raw_sha256),
    )


MNIST = _spec(
    "MNIST",
    (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    class_names=tuple("0123456789"),
    mean=0.1307,
    std=0.3081,
    source="LeCun, Cortes, Burges: The MNIST database of handwritten digits",
)

FASHION_MNIST = _spec(
    "FashionMNIST",
    (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    mean=0.2860,
    # The customary value is the mean over images of the deviation within one; over all pixels it is 0.3530.
    std=0.3205,
    source="Xiao, Rasul, Vollgraf: Fashion-MNIST, arXiv:1708.07747, 2017",
)

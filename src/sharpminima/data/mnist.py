"""MNIST (LeCun et al., 1998) and Fashion-MNIST (Xiao et al., 2017): 28x28 grey, 60,000 and 10,000 images."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sharpminima.catalogue.datasets import Dataset, Report
from sharpminima.data._raw import largest_file, read_raw_files
from sharpminima.data._spec import RawImages

_SHAPE = (1, 28, 28)
_IMAGES_AT, _LABELS_AT = 16, 8  # bytes of an IDX header with three dimensions and with one


def read(dataset: Dataset, root: Path, download: bool, report: Report) -> RawImages:
    """The images of the raw files, which lie in a folder of torchvision's name."""
    train_images, train_labels, test_images, test_labels = dataset.raw_sha256
    torchvision_class = train_images.partition("/")[0]
    files = read_raw_files(
        root,
        dataset.raw_sha256,
        at_most=largest_file(dataset),
        torchvision_class=torchvision_class,
        download=download,
        report=report,
    )
    return RawImages(
        _images(files[train_images]),
        _labels(files[train_labels]),
        _images(files[test_images]),
        _labels(files[test_labels]),
    )


def _images(content: bytes) -> Tensor:
    pixels = np.frombuffer(content, dtype=np.uint8, offset=_IMAGES_AT)
    return torch.from_numpy(pixels.reshape(-1, *_SHAPE).copy())


def _labels(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8, offset=_LABELS_AT).astype(np.int64))

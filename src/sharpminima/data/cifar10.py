"""CIFAR-10 (Krizhevsky, 2009): 32x32 RGB, 50,000 train and 10,000 test."""

import pickle
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sharpminima.catalogue.datasets import Dataset, Report
from sharpminima.data._raw import largest_file, read_raw_files
from sharpminima.data._spec import RawImages

_SHAPE = (3, 32, 32)
_TRAIN = tuple(f"cifar-10-batches-py/data_batch_{batch}" for batch in range(1, 6))
_TEST = "cifar-10-batches-py/test_batch"


def read(dataset: Dataset, root: Path, download: bool, report: Report) -> RawImages:
    """The images of the raw files."""
    files = read_raw_files(
        root,
        dataset.raw_sha256,
        at_most=largest_file(dataset),
        torchvision_class="CIFAR10",
        download=download,
        report=report,
    )
    return RawImages(*_decode(files[name] for name in _TRAIN), *_decode([files[_TEST]]))


def _decode(batches: Iterable[bytes]) -> tuple[Tensor, Tensor]:
    # Unpickling runs what it reads; these bytes have just been found equal to the published ones.
    entries = [pickle.loads(batch, encoding="latin1") for batch in batches]
    images = torch.cat([torch.from_numpy(entry["data"]).view(-1, *_SHAPE) for entry in entries])
    return images, torch.from_numpy(np.concatenate([entry["labels"] for entry in entries]).astype(np.int64))

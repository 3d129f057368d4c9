"""CIFAR-10 (Krizhevsky, 2009): 32x32 RGB, 50,000 train and 10,000 test."""

import pickle
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sharpminima.data._raw import read_raw_files
from sharpminima.data._spec import DatasetSpec, RawImages, Report

_SHAPE = (3, 32, 32)
_TRAIN = tuple(f"cifar-10-batches-py/data_batch_{batch}" for batch in range(1, 6))
_TEST = "cifar-10-batches-py/test_batch"


def _load(root: Path, download: bool, report: Report) -> RawImages:
    files = read_raw_files(root, SPEC.raw_sha256, torchvision_class="CIFAR10", download=download, report=report)
    return RawImages(*_decode(files[name] for name in _TRAIN), *_decode([files[_TEST]]))


def _decode(batches: Iterable[bytes]) -> tuple[Tensor, Tensor]:
    # Unpickling runs what it reads; these bytes have just been found equal to the published ones.
    entries = [pickle.loads(batch, encoding="latin1") for batch in batches]
    images = torch.cat([torch.from_numpy(entry["data"]).view(-1, *_SHAPE) for entry in entries])
    return images, torch.from_numpy(np.concatenate([entry["labels"] for entry in entries]).astype(np.int64))


SPEC = DatasetSpec(
    shape=_SHAPE,
    sizes=(50_000, 10_000),
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    source="Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009",
    raw_sha256=dict(
        zip(
            (*_TRAIN, _TEST),
            (
                "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
                "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
                "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
                "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
                "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
                "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
            ),
            strict=True,
        )
    ),
    load=_load,
    augment=True,
)

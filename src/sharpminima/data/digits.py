"""The 8x8 digits that scikit-learn ships (UCI, Alpaydin and Kaynak, 1998), as 28x28 images: 1,797 scans."""

import hashlib
from pathlib import Path

import numpy as np
import torch

from sharpminima.base.errors import DataError
from sharpminima.catalogue.datasets import Dataset, Report
from sharpminima.data._spec import RawImages
from sharpminima.runtime.rng import generator

_SIDE, _RAW_SIDE, _RAW_MAX = 28, 8, 16
_TEST_SHARE = 0.2
_TEST_SEED = 0  # of the test split, which is the same in every study


def upscale(images: np.ndarray) -> np.ndarray:
    """Integers 0..16 [N, 8, 8] to uint8 0..255 [N, 28, 28]: bilinear, half-pixel centres, edges clamped.

    Output pixel i lies at input coordinate (i + 1/2) 8/28 - 1/2 = (4 i - 5) / 14, so all weights are
    multiples of 1/14 and the result is exact in integers (halves round up): the same bytes on every machine.
    """
    denominator = _SIDE // 2
    weights = np.zeros((_SIDE, _RAW_SIDE), dtype=np.int64)
    for i in range(_SIDE):
        low, share = divmod(4 * i - 5, denominator)
        weights[i, min(max(low, 0), _RAW_SIDE - 1)] += denominator - share
        weights[i, min(low + 1, _RAW_SIDE - 1)] += share
    sums = weights @ images.astype(np.int64) @ weights.T
    full = denominator**2 * _RAW_MAX
    return ((2 * 255 * sums + full) // (2 * full)).astype(np.uint8)


def read(dataset: Dataset, root: Path, download: bool, report: Report) -> RawImages:
    """The images of the dataset's digits, its class names, which follow each other; labels are numbered from 0."""
    from sklearn.datasets import load_digits  # a second of imports, needed here only

    bunch = load_digits()
    raw, target = bunch.images.astype(np.uint8), bunch.target.astype(np.uint8)
    ((shipped, digest),) = dataset.raw_sha256.items()
    if hashlib.sha256(raw.tobytes() + target.tobytes()).hexdigest() != digest:
        raise DataError(f"{shipped}: this scikit-learn ships other digits than expected; install the locked version")
    images = torch.from_numpy(upscale(raw))[:, None]
    labels = torch.from_numpy(target.astype(np.int64))
    is_test = torch.zeros(len(labels), dtype=torch.bool)
    draws = generator(_TEST_SEED, "digits-test-split")
    for digit in range(10):
        members = (labels == digit).nonzero().flatten()
        chosen = torch.randperm(len(members), generator=draws)[: round(_TEST_SHARE * len(members))]
        is_test[members[chosen]] = True
    first, last = (int(name) for name in (dataset.class_names[0], dataset.class_names[-1]))
    chosen = (labels >= first) & (labels <= last)
    train, test = chosen & ~is_test, chosen & is_test
    return RawImages(images[train], labels[train] - first, images[test], labels[test] - first)

"""The 8x8 digits that scikit-learn ships (UCI, Alpaydin and Kaynak, 1998), as 28x28 images: 1,797 scans."""

import hashlib
from pathlib import Path

import numpy as np
import torch

from sharpminima.data._spec import DatasetSpec, RawImages, Report
from sharpminima.errors import DataError
from sharpminima.rng import generator

_SIDE, _RAW_SIDE, _RAW_MAX = 28, 8, 16
_TEST_SHARE = 0.2
_TEST_SEED = 0  # of the test split, which is the same in every study
_RAW = "sklearn.datasets.load_digits"
_RAW_SHA256 = {_RAW: "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"}  # all pixels, then labels


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


def _load(root: Path, download: bool, report: Report) -> RawImages:
    from sklearn.datasets import load_digits  # a second of imports, needed here only

    bunch = load_digits()
    raw, target = bunch.images.astype(np.uint8), bunch.target.astype(np.uint8)
    if hashlib.sha256(raw.tobytes() + target.tobytes()).hexdigest() != _RAW_SHA256[_RAW]:
        raise DataError(f"{_RAW}: this scikit-learn ships other digits than expected; install the locked version")
    images = torch.from_numpy(upscale(raw))[:, None]
    labels = torch.from_numpy(target.astype(np.int64))
    is_test = torch.zeros(len(labels), dtype=torch.bool)
    draws = generator(_TEST_SEED, "digits-test-split")
    for digit in range(10):
        members = (labels == digit).nonzero().flatten()
        chosen = torch.randperm(len(members), generator=draws)[: round(_TEST_SHARE * len(members))]
        is_test[members[chosen]] = True
    return RawImages(images[~is_test], labels[~is_test], images[is_test], labels[is_test])


def _part(digits: str, sizes: tuple[int, int]) -> DatasetSpec:
    """The images of some digits, in order; their labels are numbered from 0."""
    first, stop = int(digits[0]), int(digits[-1]) + 1

    def load(root: Path, download: bool, report: Report) -> RawImages:
        raw = _load(root, download, report)
        train, test = ((labels >= first) & (labels < stop) for labels in (raw.train_labels, raw.test_labels))
        return RawImages(
            raw.train_images[train],
            raw.train_labels[train] - first,
            raw.test_images[test],
            raw.test_labels[test] - first,
        )

    return DatasetSpec(
        shape=(1, _SIDE, _SIDE),
        sizes=sizes,
        class_names=tuple(digits),
        mean=(0.3055,),  # of the 1,438 training images of all digits, upscaled
        std=(0.3246,),
        source="Alpaydin, Kaynak: Optical recognition of handwritten digits, UCI, 1998 (in scikit-learn)",
        raw_sha256=_RAW_SHA256,
        load=load,
    )


SPEC = _part("0123456789", (1_438, 359))
LOW, HIGH = _part("01234", (721, 180)), _part("56789", (717, 179))

"""What a dataset is: the facts that do not depend on its files, and how these are read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

Report = Callable[[str], None]
"""Takes one line of progress."""


@dataclass(frozen=True, eq=False)
class RawImages:
    """A dataset as published, before the validation split."""

    train_images: Tensor  # uint8 [N, C, H, W]
    train_labels: Tensor  # int64 [N]
    test_images: Tensor  # uint8 [M, C, H, W]
    test_labels: Tensor  # int64 [M]


@dataclass(frozen=True)
class DatasetSpec:
    """The facts about a dataset."""

    shape: tuple[int, int, int]  # channels, height, width of one image
    sizes: tuple[int, int]  # training (with validation) and test images
    class_names: tuple[str, ...]
    mean: tuple[float, ...]  # per channel, of pixels in [0, 1]
    std: tuple[float, ...]  # per channel, of pixels in [0, 1]
    source: str  # what to cite
    raw_sha256: Mapping[str, str]  # decompressed raw file, relative to the root -> SHA-256
    load: Callable[[Path, bool, Report], RawImages]  # (root, download allowed, report) -> images
    augment: bool = False  # training images are padded by 4, cropped and flipped

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

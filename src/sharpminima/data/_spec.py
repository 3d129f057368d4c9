"""What the raw files of a dataset hold."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class RawImages:
    """A dataset as published, before the validation split."""

    train_images: Tensor  # uint8 [N, C, H, W]
    train_labels: Tensor  # int64 [N]
    test_images: Tensor  # uint8 [M, C, H, W]
    test_labels: Tensor  # int64 [M]

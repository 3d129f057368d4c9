"""What `sharpminima.testing` demands of datasets: of the built-in ones, and of others that lack it."""

from dataclasses import replace

import pytest
import torch

from sharpminima.catalogue.datasets import Dataset
from sharpminima.data import DATASETS, RawImages
from sharpminima.testing import CheckFailed, check_dataset


@pytest.mark.parametrize("name", ["digits", "digits-low", "digits-high"])
def test_the_digits(name):
    check_dataset(DATASETS[name], tolerance=0.01)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
@pytest.mark.slow
def test_the_real_ones(name, real_root):
    # The customary spread of Fashion-MNIST is that within an image.
    check_dataset(DATASETS[name], real_root, tolerance=0.035 if name == "fashion-mnist" else 6e-5)


def good():
    labels = torch.arange(30) % 3
    images = (80 * labels[:, None, None, None] + torch.zeros(30, 1, 4, 4)).to(torch.uint8)
    return RawImages(images[:21], labels[:21], images[21:], labels[21:])


def entry(code):
    return Dataset("own", (1, 4, 4), (21, 9), ("a", "b", "c"), (0.3137,), (0.2562,), "ours", {}, code)


def test_one_that_keeps_all():
    check_dataset(entry(lambda *_: good()))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train_images": torch.zeros(21, 1, 4, 4)}, "own, training images: are torch.float32, torch.uint8 expected"),
        ({"test_labels": torch.zeros(8, dtype=torch.int64)}, r"own, test labels: have shape \[8\], \[9\] expected"),
        ({"test_labels": torch.zeros(9, dtype=torch.int64)}, r"own, test: classes \[0\], \[0, 1, 2\] expected"),
        ({"train_images": torch.zeros(21, 1, 4, 4, dtype=torch.uint8)}, r"own: mean \[0.3137\] stated; it is 0.0000"),
    ],
)
def test_one_that_does_not(changes, says):
    with pytest.raises(CheckFailed, match=says):
        check_dataset(entry(lambda *_: replace(good(), **changes)))


def test_one_that_differs_each_time():
    def read(*_):
        made = good()
        return replace(made, test_images=torch.randint(0, 256, made.test_images.shape, dtype=torch.uint8))

    with pytest.raises(CheckFailed, match="own: read twice, it differs"):
        check_dataset(entry(read))

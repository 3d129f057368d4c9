"""Datasets of others: what a net would be trained on wrongly, or not at all, is refused when it is prepared."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sharpminima.base.errors import DataError
from sharpminima.catalogue.datasets import DATASETS, Dataset
from sharpminima.data import RawImages, load_prepared, prepare_dataset

SHAPE = (1, 4, 4)


def images(count: int) -> torch.Tensor:
    return (torch.arange(count * 16) % 256).to(torch.uint8).view(count, *SHAPE)


def raw(**other: Any) -> RawImages:
    labels = torch.arange(20) % 2
    values = {"train_images": images(20), "train_labels": labels, "test_images": images(4), "test_labels": labels[:4]}
    return RawImages(**values | other)


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Prepares a dataset of two classes, or one with other facts or images."""

    def prepared(found: RawImages, **other: Any) -> Path:
        facts = {"shape": SHAPE, "sizes": (20, 4), "class_names": ("a", "b"), "mean": (0.5,), "std": (0.3,)} | other
        entry = Dataset("own", **facts, source="none", raw_sha256={}, code=lambda *_: found)
        monkeypatch.setitem(DATASETS, "own", entry)
        prepare_dataset("own", tmp_path / "own", progress=lambda _: None)
        return tmp_path / "own"

    return prepared


def test_one_that_fits_is_taken(prepare: Callable[..., Path]) -> None:
    assert load_prepared(prepare(raw())).class_names == ("a", "b")


@pytest.mark.parametrize(
    ("found", "facts", "said"),
    [
        (
            raw(train_labels=torch.arange(20) % 3),
            {},
            r"training: labels from 0 to 2; 2 classes are 0 to 1",
        ),
        (raw(test_labels=torch.arange(4) - 1), {}, r"own, test: labels from -1 to 2"),
        (
            raw(train_labels=(torch.arange(20) % 2).float()),
            {},
            r"training: labels are torch.float32 \[20\]",
        ),
        (raw(train_labels=torch.zeros(19, dtype=torch.int64)), {}, r"training: labels are torch.int64 \[19\]"),
        (raw(train_images=images(20).float()), {}, r"training: images are torch.float32; pixels from 0 to 255"),
        (raw(test_images=images(5)), {}, r"test: images are \[5, 1, 4, 4\], \[4, 1, 4, 4\] stated"),
        (raw(test_images=images(0), test_labels=torch.zeros(0, dtype=torch.int64)), {}, "test: there are no images"),
        (raw(), {"std": (0.0,)}, r"own: spread \[0.0\] stated; images are divided by it"),
        (raw(), {"mean": (float("nan"),)}, "own: a finite mean and spread of each of its 1 channels"),
        (raw(), {"mean": (0.1, 0.2)}, "own: a finite mean and spread of each of its 1 channels"),
        (raw(), {"class_names": tuple(map(str, range(257)))}, "own: has 257 classes; from 2 to 256 are allowed"),
        (raw(), {"class_names": ("a",)}, "own: has 1 classes"),
        (raw(train_images=images(20) * 0), {}, "training: all pixels are 0; is the raw file the right one"),
    ],
)
def test_what_is_not_as_stated_is_refused(
    prepare: Callable[..., Path], found: RawImages, facts: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        prepare(found, **facts)


@pytest.mark.parametrize("share", [float("nan"), 0.0, 1.0, -0.1, float("inf")])
def test_a_share_that_is_none_is_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(DataError, match=r"digits: a validation share of .* given; choose one that leaves images"):
        prepare_dataset("digits", tmp_path / "d", validation_share=share, progress=lambda _: None)


def test_classes_that_were_renamed_in_a_prepared_file_are_refused(prepare: Callable[..., Path]) -> None:
    path = prepare(raw())
    path.write_bytes(path.read_bytes().replace(rb"[\"a\", \"b\"]", rb"[\"a\", \"c\"]"))
    with pytest.raises(DataError, match="own: its classes are not those of own"):
        load_prepared(path)

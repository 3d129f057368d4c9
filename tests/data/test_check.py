"""Datasets of others: what a net would be trained on wrongly, or not at all, is refused when it is prepared."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sharpminima.base.errors import DataError
from sharpminima.catalogue.datasets import DATASETS, Dataset
from sharpminima.data import RawImages, load_prepared, prepare_dataset
from sharpminima.runtime.rng import generator
from sharpminima.testing import CheckFailed, check_dataset

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

    def prepared(found: Any, *, share: float = 0.1, progress: Callable[[str], None] = print, **other: Any) -> Path:
        facts = {"shape": SHAPE, "sizes": (20, 4), "class_names": ("a", "b"), "mean": (0.5,), "std": (0.3,)} | other
        entry = Dataset("own", **facts, source="none", raw_sha256={}, code=lambda *_: found)
        monkeypatch.setitem(DATASETS, "own", entry)
        prepare_dataset("own", tmp_path / "own", validation_share=share, progress=progress)
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
        (raw(), {"mean": (50.0,)}, r"own: mean \[50\.0\] stated; values from 0 to 1 are needed, .* by 255"),
        (raw(), {"mean": (-0.1,)}, r"own: mean \[-0\.1\] stated; values from 0 to 1"),
        (raw(), {"std": (78.6,)}, r"own: spread \[78\.6\] stated; .* no larger than 1"),
        (raw(), {"std": (-0.3,)}, r"own: spread \[-0\.3\] stated; .* above 0"),
        (raw(), {"std": (1e-30,)}, r"own: spread \[1e-30\] stated; .* above 0"),
        (raw(), {"std": (float("nan"),)}, r"own: a finite mean and spread of each .* std \[nan\] stated"),
        (raw(), {"mean": 0.5}, "own: a finite mean and spread of each .* mean float 0.5 stated"),
        (raw(), {"mean": (np.float32(0.5),)}, "own: a finite .* as Python's numbers; mean .*0.5.* stated"),
        (raw(), {"mean": ("0.5",)}, r"own: a finite .* mean \['0\.5'\] stated"),
        (raw(), {"class_names": "ab"}, "own: class_names 'ab' stated; give a tuple of texts"),
        (raw(), {"class_names": ("a", "a")}, "own: class_names has 'a' more than once"),
        (raw(), {"sizes": (20,)}, r"own: sizes \(20,\) stated; give the numbers of training and of test images"),
        (raw(), {"sizes": (20, 0)}, r"own: sizes \(20, 0\) stated"),
        (raw(), {"shape": (4, 4)}, r"own: shape \(4, 4\) stated; give channels, height and width"),
        (raw(train_labels=torch.zeros(20, dtype=torch.int64)), {}, r"own, training: no image of 'b' \(label 1\); give"),
        (raw(test_labels=torch.ones(4, dtype=torch.int64)), {}, r"own, test: no image of 'a' \(label 0\); give"),
        (
            raw(),
            {"class_names": tuple("abcdefghi")},
            r"own, training: no image of 'c' \(label 2\), .*'g' \(label 6\) and 2 more classes; give",
        ),
        (raw(train_images=images(20).numpy()), {}, r"own, training: images are a numpy\.ndarray; .*torch\.from_numpy"),
        (raw(test_labels=[0, 1, 0, 1]), {}, r"own, test: labels are a list; a tensor of torch\.int64 .*torch\.tensor"),
        (raw(test_labels=None), {}, "own, test: labels are None; a tensor of torch.int64"),
        (raw(train_images=images(20).to("meta")), {}, "own, training: images are .* on meta; a dense tensor"),
        (raw(test_labels=torch.tensor(1)), {}, r"own, test: labels are torch.int64 \[\]; torch.int64 \[4\] is needed"),
        (raw(train_images=torch.tensor(1, dtype=torch.uint8)), {}, r"own, training: images are \[\], \[20, 1, 4, 4\]"),
        (None, {}, "own: its code returned None; return sharpminima.data.RawImages"),
        ((images(20), images(4)), {}, "own: its code returned a tuple; return sharpminima.data.RawImages"),
    ],
)
def test_what_is_not_as_stated_is_refused(
    prepare: Callable[..., Path], found: Any, facts: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        prepare(found, **facts)


def test_a_split_that_takes_a_class_from_training_is_refused(prepare: Callable[..., Path]) -> None:
    first = torch.randperm(20, generator=generator(0, "validation-split", "own"))[:1]
    rare = torch.zeros(20, dtype=torch.int64).index_fill(0, first, 1)
    with pytest.raises(
        DataError, match=r"own, training: the validation split takes every image of 'b' .* another seed"
    ):
        prepare(raw(train_labels=rare), share=0.5)


def test_a_validation_split_without_a_class_is_said_and_taken(prepare: Callable[..., Path]) -> None:
    said: list[str] = []
    prepare(raw(), share=0.05, progress=said.append)
    assert len(said) == 2
    assert re.fullmatch(r"own: no image of '[ab]' \(label [01]\) in validation; a larger .* gives it some", said[1])
    prepare(raw(), share=0.5, progress=said.append)
    assert len(said) == 3


@pytest.mark.parametrize("found", [None, raw(train_images=images(20).numpy())])
def test_the_check_for_authors_says_it_too(found: Any) -> None:
    entry = Dataset("own", SHAPE, (20, 4), ("a", "b"), (0.5,), (0.3,), "none", {}, code=lambda *_: found)
    with pytest.raises(CheckFailed, match="own"):
        check_dataset(entry)


@pytest.mark.parametrize("share", [float("nan"), 0.0, 1.0, -0.1, float("inf")])
def test_a_share_that_is_none_is_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(DataError, match=r"digits: a validation share of .* given; choose one that leaves images"):
        prepare_dataset("digits", tmp_path / "d", validation_share=share, progress=lambda _: None)


def test_classes_that_were_renamed_in_a_prepared_file_are_refused(prepare: Callable[..., Path]) -> None:
    path = prepare(raw())
    path.write_bytes(path.read_bytes().replace(rb"[\"a\", \"b\"]", rb"[\"a\", \"c\"]"))
    with pytest.raises(DataError, match="own: its classes are not those of own"):
        load_prepared(path)

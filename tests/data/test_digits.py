import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from sharpminima.base.errors import DataError
from sharpminima.data import DATASETS, digits, load_prepared, prepare_dataset

CONTENT = "cf64f2cfa2960d6d2fb9e7a1c6d8dea69fdb1de68382a546a96e6a5d9e7593d0"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    path = tmp_path_factory.mktemp("digits") / "digits.safetensors"
    prepare_dataset("digits", path)
    return load_prepared(path)


def test_upscaling_agrees_with_torch():
    images = load_digits().images
    expected = F.interpolate(torch.from_numpy(images)[:, None], (28, 28), mode="bilinear")[:, 0] * 255 / 16
    upscaled = digits.upscale(images)
    assert upscaled.dtype == np.uint8
    assert np.abs(upscaled - expected.numpy()).max() <= 0.5 + 1e-9


def test_upscaling_by_hand():
    """Left half 0, right half 16: at the seam the right one weighs 1/14, 5/14, 9/14, 13/14."""
    image = np.zeros((1, 8, 8))
    image[:, :, 4:] = 16
    row = [0] * 12 + [round(255 * k / 14) for k in (1, 5, 9, 13)] + [255] * 12
    assert digits.upscale(image).tolist() == [[row] * 28]


def test_content(prepared):
    assert prepared.sha256 == CONTENT
    assert prepared.shape == DATASETS["digits"].shape == (1, 28, 28)
    assert prepared.num_classes == 10
    assert {part: len(i) for part, i in prepared.indices.items()} == {
        "train": 1294,
        "validation": 144,
        "test": 359,
    }
    assert sorted(prepared.labels.tolist()) == sorted(load_digits().target.tolist())


def test_test_split_is_class_balanced(prepared):
    everything = prepared.labels.bincount()
    test = prepared.split("test").labels.bincount()
    assert ((test - 0.2 * everything).abs() <= 0.5).all()


def test_test_split_is_the_same_in_every_study(prepared, tmp_path):
    prepare_dataset("digits", tmp_path / "other", seed=1)
    other = load_prepared(tmp_path / "other")
    assert torch.equal(other.split("test").images, prepared.split("test").images)
    assert not torch.equal(other.indices["validation"], prepared.indices["validation"])


def test_recorded_mean_and_std_are_those_of_the_training_images(prepared):
    training = torch.cat([prepared.indices["train"], prepared.indices["validation"]])
    pixels = prepared.images[training].double() / 255
    assert round(pixels.mean().item(), 4) == prepared.mean[0]
    assert round(pixels.std().item(), 4) == prepared.std[0]


def test_other_digits_are_refused(monkeypatch, tmp_path):
    bunch = load_digits()
    bunch.images[5, 3, 3] += 1
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda: bunch)
    with pytest.raises(DataError, match="scikit-learn ships other digits"):
        prepare_dataset("digits", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "first", "counts"), [("digits-low", 0, (721, 180)), ("digits-high", 5, (717, 179))])
def test_halves_hold_the_same_images_with_labels_from_zero(prepared, tmp_path, name, first, counts):
    prepare_dataset(name, tmp_path / "half")
    half = load_prepared(tmp_path / "half")
    assert half.class_names == tuple(str(digit) for digit in range(first, first + 5))
    assert sorted(half.labels.unique().tolist()) == [0, 1, 2, 3, 4]
    training = torch.cat([half.indices["train"], half.indices["validation"]])
    assert (len(training), len(half.indices["test"])) == counts
    for part, indices in (("training", training), ("test", half.indices["test"])):
        whole = (
            prepared.indices["test"]
            if part == "test"
            else torch.cat([prepared.indices["train"], prepared.indices["validation"]]).sort().values
        )
        chosen = whole[(prepared.labels[whole] >= first) & (prepared.labels[whole] < first + 5)]
        assert torch.equal(half.images[indices.sort().values], prepared.images[chosen])
        assert torch.equal(half.labels[indices.sort().values] + first, prepared.labels[chosen])

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sharpminima.base.errors import DataError
from sharpminima.data import DATASETS, load_prepared, prepare_dataset
from sharpminima.data._spec import RawImages
from sharpminima.runtime.rng import generator

TRAIN, TEST = 500, 100


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """MNIST of 500 + 100 random images; records the root it is read from."""
    roots = []

    def load(dataset, root, download, report):
        roots.append(root)
        draws = generator(0, "test-images")
        images = torch.randint(0, 256, (TRAIN + TEST, 1, 28, 28), generator=draws, dtype=torch.uint8)
        labels = torch.arange(TRAIN + TEST) % 10
        return RawImages(images[:TRAIN], labels[:TRAIN], images[TRAIN:], labels[TRAIN:])

    monkeypatch.setitem(DATASETS, "mnist", replace(DATASETS["mnist"], code=load, sizes=(TRAIN, TEST)))
    return roots


@pytest.fixture
def path(tmp_path):
    prepare_dataset("mnist", tmp_path / "mnist.safetensors")
    return tmp_path / "mnist.safetensors"


def rewrite(path, *, header=(), **tensors):
    """Write the file again with some tensors (None: without it) and entries of the header replaced."""
    with safe_open(path, framework="pt") as file:
        kept = {name: file.get_tensor(name) for name in file.keys()} | tensors  # noqa: SIM118
        metadata = json.loads(file.metadata()["sharpminima"]) | dict(header)
    kept = {name: tensor for name, tensor in kept.items() if tensor is not None}
    save_file(kept, path, metadata={"sharpminima": json.dumps(metadata)})


@pytest.mark.slow
def test_importing_the_registry_loads_no_heavy_module():
    code = "import sys, sharpminima.data as d; sys.exit(bool({'torchvision', 'sklearn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_registry():
    assert list(DATASETS) == ["digits", "digits-low", "digits-high", "mnist", "fashion-mnist", "cifar10"]
    assert [name for name, spec in DATASETS.items() if spec.augment] == ["cifar10"]
    for name, spec in DATASETS.items():
        assert spec.num_classes == len(set(spec.class_names)) == (5 if name in ("digits-low", "digits-high") else 10)
        assert len(spec.mean) == len(spec.std) == spec.shape[0]


@pytest.mark.parametrize(("name", "near"), [("minst", "mnist"), ("CIFAR-10", "cifar10"), ("fmnist", "mnist")])
def test_unknown_dataset(name, near, tmp_path):
    with pytest.raises(DataError, match=f"no dataset '{name}'; did you mean '.*{near}'"):
        prepare_dataset(name, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_same_bytes_again_wherever_it_lies(path, tmp_path):
    again = tmp_path / "elsewhere" / "other-name"
    prepare_dataset("mnist", again, root=tmp_path)
    assert again.read_bytes() == path.read_bytes()


def test_metadata(path):
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["sharpminima"])
    spec = DATASETS["mnist"]
    assert header == {
        "kind": "dataset",
        "format": 1,
        "name": "mnist",
        "source": spec.source,
        "raw_sha256": spec.raw_sha256,
        "mean": [0.1307],
        "std": [0.3081],
        "class_names": list("0123456789"),
        "seed": 0,
        "validation_share": 0.1,
        "content_sha256": load_prepared(path).sha256,
    }


def test_split_is_disjoint_complete_and_seeded(path, tmp_path):
    indices = load_prepared(path).indices
    assert [len(indices[part]) for part in ("train", "validation", "test")] == [450, 50, 100]
    assert sorted(torch.cat([indices["train"], indices["validation"]]).tolist()) == list(range(TRAIN))
    assert indices["test"].tolist() == list(range(TRAIN, TRAIN + TEST))
    expected = torch.randperm(TRAIN, generator=generator(0, "validation-split", "mnist"))[:50]
    assert indices["validation"].tolist() == sorted(expected.tolist())
    prepare_dataset("mnist", tmp_path / "other", seed=1)
    other = load_prepared(tmp_path / "other")
    assert not torch.equal(other.indices["validation"], indices["validation"])
    assert other.sha256 != load_prepared(path).sha256


def test_normalised_split(path):
    dataset = load_prepared(path)
    validation = dataset.split("validation")
    chosen = dataset.indices["validation"]
    expected = (dataset.images[chosen].double() / 255 - 0.1307) / 0.3081
    assert validation.images.dtype == torch.float32
    assert torch.allclose(validation.images.double(), expected, atol=1e-6)
    assert torch.equal(validation.labels, dataset.labels[chosen])
    with pytest.raises(DataError, match="no part 'valid'"):
        dataset.split("valid")


def test_normalisation_is_per_channel(path):
    three = replace(
        load_prepared(path),
        images=torch.full((600, 3, 2, 2), 51, dtype=torch.uint8),
        mean=(0, 0.1, 0.2),
        std=(1, 2, 4),
    )
    pixels = three.split("test").images[0, :, 0, 0]
    assert pixels.tolist() == pytest.approx([0.2, 0.05, 0.0], abs=1e-7)


def test_subset_is_class_balanced_sorted_and_seeded(path):
    dataset = load_prepared(path)
    first = dataset.subset("train", 123, generator(0, "subset"))
    again = dataset.subset("train", 123, generator(0, "subset"))
    other = dataset.subset("train", 123, generator(1, "subset"))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert sorted(first.labels.bincount().tolist()) == [12] * 7 + [13] * 3
    train = dataset.split("train").images
    places = [(train == image).flatten(1).all(1).nonzero().item() for image in first.images]
    assert places == sorted(set(places))


@pytest.mark.parametrize("n", [0, 451, 450])
def test_subset_that_cannot_be_drawn(path, n):
    """The validation split is drawn over all classes, so that not every class has 45 training images left."""
    with pytest.raises(DataError, match="ask for"):
        load_prepared(path).subset("train", n, generator(0))


def test_root_argument_then_variable_then_default(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SHARPMINIMA_DATA", raising=False)
    prepare_dataset("mnist", tmp_path / "out")
    monkeypatch.setenv("SHARPMINIMA_DATA", str(tmp_path / "variable"))
    prepare_dataset("mnist", tmp_path / "out")
    prepare_dataset("mnist", tmp_path / "out", root=tmp_path / "argument")
    assert [str(root) for root in small] == [
        "data/downloads",
        str(tmp_path / "variable"),
        str(tmp_path / "argument"),
    ]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1e-4])
def test_share_that_leaves_a_split_empty(share, tmp_path):
    with pytest.raises(DataError, match="choose one that leaves images on both sides"):
        prepare_dataset("mnist", tmp_path / "out", validation_share=share)
    assert list(tmp_path.iterdir()) == []


def test_failed_write_leaves_the_old_file(path, monkeypatch):
    def fail(tensors, scratch, metadata):
        scratch.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr("sharpminima.runtime.tensors.save_file", fail)
    with pytest.raises(Exception, match="No space left on device"):
        prepare_dataset("mnist", path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_progress(tmp_path, capsys):
    prepare_dataset("mnist", tmp_path / "out")
    assert "450 train, 50 validation, 100 test images" in capsys.readouterr().err
    lines = []
    prepare_dataset("mnist", tmp_path / "out", progress=lines.append)
    assert len(lines) == 1
    assert capsys.readouterr().err == ""


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"none: there is no such .* run `sharpminima prepare`"):
        load_prepared(tmp_path / "none")


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated_file(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"mnist\.safetensors: .* run `sharpminima prepare` again"):
        load_prepared(path)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"sharpminima": "not JSON"},
        {"sharpminima": "[]"},
        {"sharpminima": '{"format": 1, "model": "lenet5"}'},
    ],
    ids=["no-metadata", "no-json", "no-object", "checkpoint"],
)
def test_foreign_file(path, metadata):
    save_file({"weight": torch.zeros(3)}, path, metadata=metadata)
    with pytest.raises(DataError, match="is not a prepared dataset"):
        load_prepared(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(600, 1, 28, 28)}, r"holds .*float32"),
        ({"images": torch.zeros(600, 28, 28, dtype=torch.uint8)}, r"images \[600, 28, 28\]"),
        ({"images": torch.zeros(600, 1, 28, 27, dtype=torch.uint8)}, r"images \[600, 1, 28, 27\]"),
        ({"images": torch.zeros(599, 1, 28, 28, dtype=torch.uint8)}, r"images \[599, 1, 28, 28\]"),
        ({"labels": torch.full((600,), 10)}, r"labels outside 0\.\.9"),
        ({"labels": torch.zeros(600, dtype=torch.int32)}, "int32"),
        ({"labels": None}, "expected"),
        ({"more": torch.zeros(1)}, "more"),
        ({"test_indices": torch.arange(400, 500)}, "not disjoint or not complete"),
        ({"test_indices": torch.arange(500, 599)}, "not disjoint or not complete"),
        ({"images": torch.zeros(600, 1, 28, 28, dtype=torch.uint8)}, "is damaged"),
        ({"header": {"mean": [0.5]}}, "is damaged"),
        ({"header": {"format": 2}}, "has format 2, this version reads 1"),
        ({"header": {"name": "svhn"}}, "holds dataset 'svhn'"),
    ],
)
def test_wrong_content(path, change, message):
    rewrite(path, **change)
    with pytest.raises(DataError, match=message) as caught:
        load_prepared(path)
    assert str(path) in str(caught.value)
    assert "run `sharpminima prepare` again" in str(caught.value)

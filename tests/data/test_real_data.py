"""The real MNIST, Fashion-MNIST and CIFAR-10; skipped where they are not at hand."""

import io
import urllib.request

import pytest
import torch

from sharpminima.base.errors import DataError
from sharpminima.data import DATASETS, load_prepared, prepare_dataset
from sharpminima.data._torchvision import import_torchvision_datasets
from sharpminima.testing.datasets import check_pixels, pixel_statistics

CONTENT = {
    "mnist": "43f1988312e45b934a8198926b2587fe9a797fc146c2aab6607e4f6c44e9bed0",
    "fashion-mnist": "84877ed165435953f0597cd25bd904886dd1cf96f127d18bfd2c342f40b130f2",
    "cifar10": "2259528b76fe95d92ea9dadae9c19a5be0de81813d0f585c1b11bba4e6f63b9a",
}
CLASSES = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10"}


@pytest.fixture(scope="module", params=CONTENT)
def prepared(request, real_root, tmp_path_factory):
    path = tmp_path_factory.mktemp("prepared") / request.param
    prepare_dataset(request.param, path, root=real_root, download=False)
    yield load_prepared(path)
    path.unlink()


@pytest.mark.slow
def test_content(prepared):
    assert prepared.sha256 == CONTENT[prepared.name]
    assert len(prepared.indices["test"]) == 10_000
    assert len(prepared.indices["validation"]) * 9 == len(prepared.indices["train"])


@pytest.mark.slow
def test_same_images_and_labels_as_torchvision(prepared, real_root):
    for train in (True, False):
        theirs = getattr(import_torchvision_datasets(), CLASSES[prepared.name])(real_root, train=train)
        images = torch.as_tensor(theirs.data).view(-1, *prepared.shape[1:], prepared.shape[0])
        start = 0 if train else len(prepared.labels) - 10_000
        ours = slice(start, start + len(images))
        assert torch.equal(prepared.images[ours], images.permute(0, 3, 1, 2))
        assert torch.equal(prepared.labels[ours], torch.as_tensor(theirs.targets))
        if prepared.name != "mnist":  # there, "0 - zero"
            assert prepared.class_names == tuple(theirs.classes)


def test_mean_and_std_are_those_of_the_training_images(prepared):
    training = prepared.images[:-10_000]
    if prepared.name != "fashion-mnist":
        check_pixels(DATASETS[prepared.name], training, tolerance=6e-5)
        return
    mean, std = pixel_statistics(training)
    assert mean == pytest.approx(prepared.mean, abs=6e-5)
    # The customary 0.3205 is the mean over images of the standard deviation within one.
    images = prepared.images[:-10_000].flatten(1)
    within = torch.cat([(part.float() / 255).std(dim=1) for part in images.split(10_000)])
    assert std == pytest.approx([0.3530], abs=6e-5)
    assert within.mean().item() == pytest.approx(prepared.std[0], abs=6e-5)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_archives_under_the_variable_need_no_network(name, archives, tmp_path, monkeypatch, no_network):
    monkeypatch.setenv("SHARPMINIMA_DATA", str(archives))
    before = sorted(archives.rglob("*"))
    prepare_dataset(name, tmp_path / "out", download=True)
    assert load_prepared(tmp_path / "out").sha256 == CONTENT[name]
    assert sorted(archives.rglob("*")) == before


def cut(path):
    path.write_bytes(path.read_bytes()[:1000])
    return path


def test_truncated_archive_without_network(archives, tmp_path, no_network):
    cut(archives / "MNIST/raw/t10k-images-idx3-ubyte.gz")
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte missing or incomplete.*no route to host"):
        prepare_dataset("mnist", tmp_path / "out", root=archives)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_torchvision_downloads_what_is_missing(archives, tmp_path, monkeypatch, capsys):
    """A fake server has one archive, which is cut short here."""
    archive = archives / "MNIST/raw/t10k-labels-idx1-ubyte.gz"
    served = archive.read_bytes()
    cut(archive)
    asked = []

    class Response(io.BytesIO):
        url, length = None, len(served)

    def urlopen(request):
        asked.append(request.full_url.rpartition("/")[2])
        return Response(served)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    prepare_dataset("mnist", tmp_path / "out", root=archives)
    assert load_prepared(tmp_path / "out").sha256 == CONTENT["mnist"]
    assert set(asked) == {archive.name}
    assert "torchvision fetches MNIST" in capsys.readouterr().err


@pytest.mark.parametrize("name", CONTENT)
@pytest.mark.parametrize("damage", ["truncated", "changed"])
def test_damaged_raw_file(name, damage, real_root, tmp_path):
    files = list(DATASETS[name].raw_sha256)
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).symlink_to(real_root / file)
    content = (real_root / files[-1]).read_bytes()
    (tmp_path / files[-1]).unlink()
    (tmp_path / files[-1]).write_bytes(content[:-1] if damage == "truncated" else content[:-1] + b"?")
    with pytest.raises(DataError, match=f"{files[-1]}: is damaged .* remove it"):
        prepare_dataset(name, tmp_path / "out", root=tmp_path)
    assert not (tmp_path / "out").exists()

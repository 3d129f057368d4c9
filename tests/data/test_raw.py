import gzip
import hashlib
import math
import socket
import tracemalloc
from types import SimpleNamespace

import pytest

from sharpminima.base.errors import DataError
from sharpminima.data import DATASETS, _raw, prepare_dataset

NAME, CONTENT = "MNIST/raw/labels", bytes(range(200)) * 5
SHA256 = {NAME: hashlib.sha256(CONTENT).hexdigest()}


def read(root, *, download=False, report=lambda line: None):
    return _raw.read_raw_files(
        root, SHA256, at_most=len(CONTENT), torchvision_class="MNIST", download=download, report=report
    )


def put(root, content, suffix=""):
    path = root / (NAME + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_plain_file(tmp_path):
    put(tmp_path, CONTENT)
    assert read(tmp_path) == {NAME: CONTENT}


def test_archive_is_read_and_nothing_is_written(tmp_path):
    path = put(tmp_path, gzip.compress(CONTENT), ".gz")
    assert read(tmp_path) == {NAME: CONTENT}
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("damage", [CONTENT[:-1], CONTENT[:-1] + b"x", b""], ids=["short", "changed", "empty"])
@pytest.mark.parametrize("download", [False, True])
def test_damaged_file_is_named_and_kept(tmp_path, damage, download):
    path = put(tmp_path, damage)
    with pytest.raises(DataError, match=r"MNIST/raw/labels: is damaged .* remove it and run again"):
        read(tmp_path, download=download)
    assert path.read_bytes() == damage


def test_archive_of_something_else(tmp_path):
    put(tmp_path, gzip.compress(b"something else"), ".gz")
    with pytest.raises(DataError, match=r"labels\.gz: is damaged"):
        read(tmp_path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_no_more_is_read_than_the_published_file_has(tmp_path, suffix):
    """A small archive may unpack to more than the memory holds."""
    large = bytes(300_000_000)
    put(tmp_path, gzip.compress(large, 1) if suffix else large, suffix)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"labels(\.gz)?: is damaged \(more than 1,000 bytes"):
        read(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_the_largest_raw_file_is_known_from_the_facts(name):
    facts = DATASETS[name]
    images = 10_000 if name == "cifar10" else facts.sizes[0]  # of a batch
    header = 16  # of an IDX file
    assert images * math.prod(facts.shape) + header <= _raw.largest_file(facts) < 6 * images * math.prod(facts.shape)


@pytest.mark.parametrize("suffix", [None, ".gz"], ids=["missing", "cut-short"])
def test_without_download(tmp_path, suffix):
    if suffix:
        put(tmp_path, gzip.compress(CONTENT)[:-9], suffix)
    with pytest.raises(DataError, match=r"labels missing or incomplete, .* SHARPMINIMA_DATA") as caught:
        read(tmp_path)
    assert str(tmp_path) in str(caught.value)


def torchvision_that(action, monkeypatch):
    datasets = SimpleNamespace(MNIST=lambda root, download: action(root))
    monkeypatch.setattr(_raw, "import_torchvision_datasets", lambda: datasets)


def test_archive_cut_short_is_fetched_again(tmp_path, monkeypatch):
    put(tmp_path, gzip.compress(CONTENT)[:-9], ".gz")
    torchvision_that(lambda root: put(root, CONTENT), monkeypatch)
    lines = []
    assert read(tmp_path, download=True, report=lines.append) == {NAME: CONTENT}
    assert "torchvision fetches MNIST" in lines[0]


def test_download_of_something_else(tmp_path, monkeypatch):
    torchvision_that(lambda root: put(root, b"something else"), monkeypatch)
    with pytest.raises(DataError, match="is damaged"):
        read(tmp_path, download=True)


def test_download_that_brings_nothing(tmp_path, monkeypatch):
    torchvision_that(lambda root: None, monkeypatch)
    with pytest.raises(DataError, match="even after torchvision's download"):
        read(tmp_path, download=True)


@pytest.mark.parametrize("error", [TimeoutError("timed out"), RuntimeError("corrupted"), PermissionError(13, "no")])
def test_download_that_fails(tmp_path, monkeypatch, error):
    def fail(root):
        assert socket.getdefaulttimeout() == 30
        raise error

    torchvision_that(fail, monkeypatch)
    with pytest.raises(DataError, match=r"the download of MNIST failed .* copy the raw files there"):
        read(tmp_path, download=True)
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_no_network_and_no_file(name, tmp_path, no_network):
    with pytest.raises(DataError, match=r"no route to host.*SHARPMINIMA_DATA") as caught:
        prepare_dataset(name, tmp_path / "out" / "prepared", root=tmp_path / "root")
    assert str(tmp_path / "root") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()

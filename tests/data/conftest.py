import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture(scope="session")
def real_root(tmp_path_factory):
    """A torchvision root of the real MNIST, Fashion-MNIST and CIFAR-10, unpacked once."""
    unpack = SHARED / "unpack.py"
    if not unpack.is_file():
        pytest.skip("the real datasets are not in a folder `shared/data` beside the checkout")
    root = tmp_path_factory.mktemp("torchvision-root")
    subprocess.run([sys.executable, unpack, root], check=True, capture_output=True)
    yield root
    shutil.rmtree(root)


@pytest.fixture
def archives(real_root, tmp_path):
    """A torchvision root that holds the original .gz files of MNIST and Fashion-MNIST and nothing else."""
    root = tmp_path / "archives"
    for folder in ("MNIST", "FashionMNIST"):
        shutil.copytree(SHARED / folder, root / folder, copy_function=shutil.copyfile)
    for path in (root, *root.rglob("*")):
        path.chmod(0o755)  # the source may be read-only
    return root


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)

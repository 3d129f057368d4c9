"""The tiny study, trained once a test run: run to its end, tracked, cloned.

What is shared between workers is a `Path`, to be read or copied; a `Repository` is a test's own.
"""

import os
import sys
from pathlib import Path

import pytest

from .cases import ROOT, Shared, checkout
from .repository import Repository, clone, copy


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """What the workers of this run build once for all."""
    own = tmp_path_factory.getbasetemp()
    return Shared((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared")


@pytest.fixture(scope="session")
def finished(shared: Shared) -> Path:
    """A checkout in which the tiny study has run to its end; Snakemake alone has been there."""

    def build(folder: Path) -> None:
        Repository(checkout(folder / "checkout")).do("snakemake", "--cores", "2", training=True)

    return shared.folder("finished", build) / "checkout"


@pytest.fixture(scope="session")
def tracked(shared: Shared, finished: Path) -> Path:
    """A repository in which the tiny study has run and was recorded."""

    def build(folder: Path) -> None:
        found = copy(finished, folder / "repository")
        found.do("git", "init", "--quiet")
        assert "recorded tiny" in found.do("sharpminima", "track")
        found.commit("Record the tiny study")

    return shared.folder("tracked", build) / "repository"


@pytest.fixture
def repository(tracked: Path, tmp_path: Path) -> Repository:
    """A copy of the repository in which the tiny study was recorded."""
    return copy(tracked, tmp_path / "repository")


@pytest.fixture
def pulled(shared: Shared, tracked: Path, tmp_path: Path) -> Repository:
    """A fresh clone with what the remote holds; nothing is drawn.

    Its Snakemake has run none of the jobs: it knows what made the files by their records.
    """
    found = copy(shared.folder("pulled", lambda folder: clone(tracked, folder / "clone")) / "clone", tmp_path / "clone")
    assert not list(found.folder.glob("results/tiny/figures/*"))
    return found


@pytest.fixture
def committed(shared: Shared, tmp_path: Path) -> Repository:
    """A fresh clone of this repository with what its own remote holds."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git repository: nothing is committed")

    def build(folder: Path) -> None:
        found = clone(ROOT, folder / "clone")
        found.do(sys.executable, "-m", "compileall", "-q", "src")  # once for all copies

    return copy(shared.folder("committed", build) / "clone", tmp_path / "clone", own_package=True)

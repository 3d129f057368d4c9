"""Studies of one's own: two of one name do not share results."""

import shutil
from pathlib import Path

import pytest

from .cases import TINY, checkout
from .repository import Repository

pytestmark = pytest.mark.slow


def test_two_studies_of_one_file_name_do_not_share_results(tmp_path: Path) -> None:
    own = Repository(checkout(tmp_path / "checkout"))
    for folder in ("a", "b"):
        (own.folder / folder).mkdir()
        shutil.copy(own.folder / TINY, own.folder / folder / "mine.yaml")
    data = ("--cores", "1", "--", "data")
    own.do("snakemake", "--config", "study=b/mine.yaml", "--dry-run")
    own.do("snakemake", "--config", "study=a/mine.yaml", *data)
    said = own.refuse("snakemake", "--config", "study=b/mine.yaml", *data)
    assert "b/mine.yaml would write into results/mine, which has the results of" in said
    assert "rename it, or name another folder of results" in said
    assert "rename it" in own.refuse("sharpminima", "plan", "b/mine.yaml")
    own.do("sharpminima", "plan", "a/mine.yaml")
    own.do("snakemake", "--config", "study=b/mine.yaml", "results=others", *data)
    moved = Repository(own.folder.rename(tmp_path / "moved"))
    moved.do("snakemake", "--config", "study=a/mine.yaml", *data)

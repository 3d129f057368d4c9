"""Studies of one's own: what Snakemake keeps when one grows, and that two of one name do not share results."""

import shutil
from pathlib import Path

import pytest

from .cases import TINY, checkout
from .repository import REINIT, Repository, copy

pytestmark = pytest.mark.slow


def test_a_strategy_that_gets_more_draws_trains_the_new_ones(finished: Path, tmp_path: Path) -> None:
    done = copy(finished, tmp_path / "checkout")
    cell = (done.folder / REINIT).parent
    log = done.folder / "results/tiny/logs/retrain/digits/lenet300/lobster/level-95/reinit/seed-0.log"
    before = {path: path.read_bytes() for path in cell.parent.parent.rglob("*.safetensors")}
    done.edit(TINY, "reinit: { replicas: 2", "reinit: { replicas: 3")
    done.do("snakemake", "--cores", "1", "--", REINIT, training=True)
    assert ("replica 3/3" in log.read_text(), "replica 2/3" in log.read_text()) == (True, False)
    assert sorted(path.name for path in cell.iterdir()) == ["checkpoint.safetensors", "history.csv", "usage.json"]
    grown = {path: path.read_bytes() for path in before}
    assert {path for path in before if before[path] != grown[path]} == {done.folder / REINIT}
    shutil.rmtree(cell)
    done.do("snakemake", "--cores", "1", "--", REINIT, training=True)
    assert "replica 1/3" in log.read_text()
    assert {path: path.read_bytes() for path in before} == grown


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

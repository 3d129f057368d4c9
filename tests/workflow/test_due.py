"""What is there and would be made again counts as to do, and is named where it is read: by Snakemake's own word."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sharpminima.study.jobs import Layout
from sharpminima.study.read import read_config
from sharpminima.tracking import due
from sharpminima.tracking._notes import Notes

from .cases import TINY
from .repository import REINIT, Repository, copy

pytestmark = pytest.mark.slow

HESSIAN = "results/tiny/analysis/hessian/digits/lenet300/lobster/level-95/seed-0.csv"
NUMBERS = "results/tiny/tables/numbers.json"


@pytest.fixture
def done(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A copy of the checkout in which the tiny study has run to its end."""
    found = copy(finished, tmp_path / "checkout")
    monkeypatch.chdir(found.folder)
    return found


def edit_hessian(done: Repository) -> None:
    done.edit(TINY, "eigenvalues: 2", "eigenvalues: 1")


def interrupt(_: Repository) -> None:
    """As a Snakemake leaves it that was killed while the job wrote."""
    Notes()._files._mark_incomplete(REINIT, None)


def remove_an_unread_net(_: Repository) -> None:
    """Of which all is there that comes from it: Snakemake does without it."""
    Path(REINIT).unlink()


def remove_a_net_that_is_read(done: Repository) -> None:
    edit_hessian(done)
    Path(REINIT.replace("reinit", "rewind")).unlink()


def remove_the_history_of_a_net(_: Repository) -> None:
    """Which the page of the study reads."""
    Path(REINIT).with_name("history.csv").unlink()
    Path("results/tiny/explore.html").unlink()


@pytest.mark.parametrize(
    ("happened", "absent"),
    [
        (edit_hessian, 0),
        (interrupt, 0),
        (remove_an_unread_net, 0),
        (remove_a_net_that_is_read, 1),
        (remove_the_history_of_a_net, 1),
    ],
)
def test_a_plan_has_to_do_what_snakemake_would_do(
    done: Repository, happened: Callable[[Repository], None], absent: int
) -> None:
    assert due(Layout(*read_config("tiny"))) == set()
    assert done.do("sharpminima", "plan", "tiny").startswith("tiny: 0 jobs to submit, 29 of 29 steps done\n")
    happened(done)
    left = sum(count for rule, count in done.planned().items() if rule != "all")
    assert bool(left) is (happened is not remove_an_unread_net)
    said, *_ = done.do("sharpminima", "plan", "tiny").splitlines()
    assert f"{29 - left} of 29 steps done" in said
    stale = re.search(", ([0-9]+) stale: of other settings, inputs or code, or interrupted$", said)
    assert (int(stale[1]) if stale else 0) == max(left - absent, 0)
    listed = done.do("sharpminima", "studies", "tiny")
    assert (f"begun ({29 - left} of 29, {left - absent} stale)" if left else " done") in listed


def test_what_is_read_under_another_study_is_named_as_stale(done: Repository, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    reading = (
        (("claims",), NUMBERS),
        (("claims", "--markdown"), NUMBERS),
        (("explore", "tiny"), NUMBERS),
        (("provenance", "fig2"), HESSIAN),
    )
    nets = (("table", "--out", out, "--density", f"{out}.density"), ("measures", "--out", out))
    for command in (*(command for command, _ in reading), *nets):
        assert "warning" not in done.do("sharpminima", *command)
    edit_hessian(done)
    for command, path in reading:
        said = done.do("sharpminima", *command)
        (warning,) = [line for line in said.splitlines() if line.startswith("warning: ")]
        assert path in warning
        assert "`snakemake --cores all --config study=tiny` makes anew" in warning
    for command in nets:
        assert "warning" not in done.do("sharpminima", *command), "the nets are what they were"
    done.edit(TINY, "reinit: { replicas: 2", "reinit: { replicas: 1")
    for command in nets:
        assert f"warning: {REINIT}: not of the study tiny as it is now" in done.do("sharpminima", *command)

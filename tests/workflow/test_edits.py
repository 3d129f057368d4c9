"""Snakemake and DVC on the same files: a recorded run, and what both say when something of it is edited."""

import json
import re
import shutil
from pathlib import Path

import pytest

from sharpminima.study.schema import PAPER_FIGURES

from .cases import TINY, rules
from .repository import FIGURE_STAGES, TRAINING, Repository, copy

pytestmark = pytest.mark.slow


def test_after_tracking_a_run_both_tools_have_nothing_to_do_wherever_it_is_moved(repository: Repository) -> None:
    assert repository.changed() == set()
    assert repository.planned() == {}
    repository.do("git", "diff", "--exit-code")
    store = sum(path.stat().st_size for path in (repository.folder / "data/store").rglob("*") if path.is_file())
    assert store < 10e6


def test_an_edited_notebook_concerns_its_figure(repository: Repository) -> None:
    repository.edit("notebooks/fig3.ipynb", "# Fig. 3", "# Figure 3")
    assert repository.changed() == {"fig3@tiny", "paper@tiny"}
    assert repository.planned().keys() == {"fig3", "provenance", "explore", "paper", "all"}


def test_an_edited_style_concerns_all_figures_and_no_analysis(repository: Repository) -> None:
    repository.edit("src/sharpminima/figures/style.py", '"lines.linewidth": 1.2', '"lines.linewidth": 1.3')
    assert repository.changed() == {*FIGURE_STAGES, "paper@tiny", "explore@tiny"}
    assert repository.planned().keys() == {*PAPER_FIGURES, "provenance", "explore", "paper", "all"}


def test_an_edited_analysis_parameter_concerns_analysis_and_figures(repository: Repository) -> None:
    repository.edit(TINY, "eigenvalues: 2", "eigenvalues: 1")
    repository.do("dvc", "repro", "settings@tiny")
    assert repository.changed() == {"analysis@tiny"}
    assert repository.planned() == dict.fromkeys(
        ("analyse", "fig2", "numbers", "forest", "provenance", "explore", "paper", "all"), 1
    )


def test_an_edited_training_parameter_concerns_its_runs(repository: Repository) -> None:
    repository.edit(TINY, "reinit: { replicas: 2", "reinit: { replicas: 3")
    repository.do("dvc", "repro", "settings@tiny")
    assert repository.changed() == {"runs@tiny", "analysis@tiny"}
    expected = ("retrain", "table", "fig1", "numbers", "forest", "provenance", "explore", "paper", "all")
    assert repository.planned() == dict.fromkeys(expected, 1)


def test_a_lost_folder_of_notes_is_said(finished: Path, tracked: Path, tmp_path: Path) -> None:
    """Without them Snakemake takes nets of earlier settings for those of today; of what is recorded they come back."""
    said = "and [0-9]+ more: there is no note of what made them (.snakemake was removed".replace("(", r"\(")
    for source, knows in ((finished, False), (tracked, True)):
        repository = copy(source, tmp_path / source.name)
        assert not re.search(said, repository.do("snakemake", "--dry-run"))
        shutil.rmtree(repository.folder / ".snakemake")
        repository.edit(TINY, "lambda: 4.0e-3", "lambda: 5.0e-3")
        printed = repository.do("snakemake", "--dry-run")
        assert bool(rules(printed)) is knows
        assert bool(re.search(said, printed)) is not knows


def test_a_raised_revision_concerns_the_runs_of_its_method(tracked: Path, tmp_path: Path) -> None:
    repository = copy(tracked, tmp_path / "repository", own_package=True)
    repository.edit(
        "src/sharpminima/catalogue/methods/gradual.py", "revision: Literal[1] = 1", "revision: Literal[2] = 2"
    )
    assert repository.changed() == {"settings@tiny"}
    repository.do("dvc", "repro", "settings@tiny")
    assert repository.changed() == {"runs@tiny", "analysis@tiny"}
    planned = repository.planned()
    assert (planned["prune_digits_lenet300_lobster"], planned["retrain"]) == (1, 4)
    assert planned.keys().isdisjoint({"prepare", "init", "dense"})


@pytest.mark.long
def test_both_tools_agree_again_at_an_older_commit(repository: Repository) -> None:
    older = repository.do("git", "rev-parse", "HEAD").strip()
    repository.edit(TINY, "reinit: { replicas: 2", "reinit: { replicas: 1")
    repository.do("snakemake", "--cores", "2", training=True)
    assert sum(call.split()[0] in TRAINING for call in repository.calls()) == 1
    repository.do("sharpminima", "track")
    newer = repository.commit("Draw one new initialisation")

    (values,) = json.loads(repository.do("dvc", "metrics", "diff", "--json", older, newer)).values()
    errors = {key for key in values if "test_error_percent" in key}
    assert errors
    assert all("reinit" in key for key in errors), "the other strategies are the same"
    plots = json.loads(repository.do("dvc", "plots", "diff", "--json", older, newer))["data"]
    ((plot,),) = plots.values()
    reinit = [row["rev"] for row in plot["content"]["data"]["values"] if row["strategy"] == "reinit"]
    assert sorted(reinit.count(rev) for rev in set(reinit)) == [1, 2]

    repository.do("git", "checkout", "--quiet", older)
    repository.do("dvc", "checkout")
    assert repository.changed() == {"fig1@tiny", "forest@tiny", "paper@tiny", "explore@tiny"}
    assert repository.planned().keys() == {"fig1", "forest", "provenance", "explore", "paper", "all"}
    repository.do("dvc", "repro")
    assert repository.wrong_sums() == []
    assert repository.changed() == set()
    assert repository.planned() == {}

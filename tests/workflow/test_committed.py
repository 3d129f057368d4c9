"""What is committed: the record of the tracked studies, cloned and drawn, and what the README shows of it."""

import json
import subprocess
from pathlib import Path

import pytest

from result_pages import entropy, paper
from sharpminima.base.files import read_json
from sharpminima.base.yaml_input import read_yaml
from sharpminima.data import DATASETS
from sharpminima.study.read import load_config
from sharpminima.study.schema import PAPER_FIGURES
from sharpminima.tracking import tracked_studies

from .cases import ROOT
from .repository import Repository


@pytest.mark.parametrize("name", DATASETS)
def test_the_hashes_of_raw_files_are_those_that_are_checked(name: str) -> None:
    lines = (ROOT / f"data/sha256/{name}.sha256").read_text().splitlines()
    assert {path: digest for digest, path in (line.split("  ") for line in lines)} == DATASETS[name].raw_sha256


def test_tracked_studies_have_all_figures_and_the_paper() -> None:
    assert tracked_studies()
    for name in tracked_studies():
        study = load_config({"study": name})[1]
        assert (study.figures, study.paper) == (PAPER_FIGURES, True)


def test_git_converts_no_line_ends(tmp_path: Path) -> None:
    """Else all code and settings would be other ones to DVC and Snakemake where Git is told to convert."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git repository: nothing is checked out")
    files = (
        "dvc.yaml",
        "config.yaml",
        "notebooks/fig1.ipynb",
        "workflow/rules/common.smk",
        "workflow/studies/demo.yaml",
    )
    options = ("-c", "core.autocrlf=true", "-c", "core.eol=crlf")
    command = ["git", *options, "checkout-index", f"--prefix={tmp_path}/", "--", *files]
    subprocess.run(command, cwd=ROOT, check=True)
    for name in files:
        assert b"\r" not in (tmp_path / name).read_bytes(), name


@pytest.mark.slow
def test_the_committed_record_is_that_of_the_committed_code(committed: Repository) -> None:
    """A failure says that code or settings have changed since; cure: `make`, `make track`, commit dvc.lock."""
    for stage, changes in json.loads(committed.do("dvc", "status", "--json")).items():
        for change in changes:
            assert isinstance(change, dict), f"{stage}: {change}"
            states = {path: state for entries in change.values() for path, state in entries.items()}
            assert {path: state for path, state in states.items() if state != "deleted"} == {}, stage
            assert all(Path(path).suffix in (".pdf", ".svg", ".json", ".html") for path in states), stage
    sizes = {
        folder.name: sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        for folder in (committed.folder / "results").iterdir()
    }
    assert sizes.keys() >= set(tracked_studies())
    assert {name: size for name, size in sizes.items() if size >= 80e6} == {}
    for under_way in (committed.folder / "results").glob("*/*.dvc"):
        assert under_way.with_suffix("").is_dir(), f"{under_way}: dvc pull passes it over"


@pytest.mark.slow
def test_dvc_draws_the_demo_in_a_fresh_clone_to_the_same_bytes_without_training_or_data(committed: Repository) -> None:
    committed.do("dvc", "repro", "paper@demo", "explore@demo")
    calls = [call.split() for call in committed.calls()]
    assert sorted(call[1] for call in calls if call[0] == "figure") == [
        f"notebooks/{name}.ipynb" for name in PAPER_FIGURES
    ]
    assert {call[0] for call in calls} == {"figure", "provenance", "explore", "paper"}
    assert not (committed.folder / "results/demo/data").exists()
    assert committed.wrong_sums("demo") == []
    committed.do("git", "diff", "--exit-code")
    assert not stages_of("demo") & committed.changed()
    assert committed.planned("--config", "study=demo") == {}


@pytest.mark.slow
def test_snakemake_draws_the_others_in_a_fresh_clone_to_the_same_bytes_without_training(committed: Repository) -> None:
    """All figures by one Snakemake a study: DVC, whose stages are the same for all studies, finds them as recorded."""
    for study in tracked_studies():
        if study != "demo":
            committed.do("snakemake", "--cores", "2", "--config", f"study={study}")
            assert committed.wrong_sums(study) == []
            assert (committed.folder / f"results/{study}/explore.html").stat().st_size <= 9e6
    calls = [call.split() for call in committed.calls()]
    assert {call[0] for call in calls} == {"figure", "provenance", "explore", "paper"}
    committed.do("git", "diff", "--exit-code")
    others = {stage for study in tracked_studies() if study != "demo" for stage in stages_of(study)}
    assert not others & committed.changed()


def stages_of(study: str) -> set[str]:
    """The stages of ``dvc.yaml`` for a study."""
    return {f"{stage}@{study}" for stage in read_yaml(ROOT / "dvc.yaml")["stages"]}


@pytest.mark.slow
def test_the_pages_of_results_show_committed_numbers(committed: Repository) -> None:
    numbers = read_json(committed.folder / "results/paper/tables/numbers.json")
    of_entropy = read_json(committed.folder / "results/entropy/tables/numbers.json")
    for name, text in {"paper": paper.page(numbers), "entropy": entropy.page(of_entropy)}.items():
        assert (ROOT / f"docs/results/{name}.md").read_text(encoding="utf-8") == text, "python docs/results.py"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert paper.in_brief(numbers) in " ".join(readme.split())
    for sentence in numbers["outcome"]:
        assert f"- {sentence}\n" in readme

"""The whole pipeline by Snakemake on a tiny study, in a copy of the checkout."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sharpminima.config import PAPER_FIGURES
from sharpminima.files import sha256_file

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "config.yaml", "workflow", "profiles", "notebooks", "paper", "src")
TABLES = ("tables/results.csv", "tables/density.csv", "tables/numbers.json")


def snakemake(folder: Path, *arguments: str, study: str = "tests/studies/tiny.yaml") -> str:
    """Run Snakemake in ``folder`` and return what it printed."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("SHARPMINIMA_DATA", None)
    command = [sys.executable, "-m", "snakemake", "--config", f"study={study}", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed[-4000:]
    return printed


def checkout(folder: Path) -> Path:
    """A copy of what a study needs."""
    ignored = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=ignored)
        else:
            shutil.copy(ROOT / part, folder / part)
    shutil.copytree(ROOT / "tests/studies", folder / "tests/studies")
    return folder


def rules(printed: str) -> set[str]:
    """Names of the rules in the job statistics of a dry run."""
    table = printed.partition("Job stats:")[2].partition("total")[0]
    return set(re.findall(r"^(\w+) +\d+$", table, flags=re.MULTILINE))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which the tiny study has run to its end."""
    folder = checkout(tmp_path_factory.mktemp("checkout"))
    snakemake(folder, "--cores", "2")
    return folder


@pytest.mark.slow
def test_every_figure_and_the_paper_come_out(done: Path) -> None:
    for name in PAPER_FIGURES:
        for extension in ("pdf", "svg", "html"):
            assert (done / f"results/tiny/figures/{name}.{extension}").stat().st_size > 1_000
    assert (done / "paper/build/tiny.pdf").read_bytes().startswith(b"%PDF")
    leftovers = [p for p in (done / "results").rglob("*") if "resume" in p.name or p.name.endswith(".part")]
    assert leftovers == []


@pytest.mark.slow
def test_a_second_run_has_nothing_to_do(done: Path) -> None:
    assert "Nothing to be done" in snakemake(done, "--dry-run")


@pytest.mark.slow
def test_an_edited_notebook_reruns_its_figure_and_the_paper_only(done: Path) -> None:
    notebook = done / "notebooks/fig3.ipynb"
    before = notebook.read_bytes()
    notebook.write_bytes(before + b"\n")
    try:
        assert rules(snakemake(done, "--dry-run")) == {"fig3", "provenance", "paper", "all"}
    finally:
        notebook.write_bytes(before)


@pytest.mark.slow
def test_an_edited_setting_reruns_what_depends_on_it_only(done: Path) -> None:
    study = done / "tests/studies/tiny.yaml"
    before = study.read_text()
    try:
        study.write_text(before.replace("eigenvalues: 2", "eigenvalues: 3"))
        expected = {"analyse", "fig2", "numbers", "provenance", "paper", "all"}
        assert rules(snakemake(done, "--dry-run")) == expected
        study.write_text(before.replace("reinit: { replicas: 2", "reinit: { replicas: 3"))
        expected = {"retrain", "table", "fig1", "numbers", "provenance", "paper", "all"}
        assert rules(snakemake(done, "--dry-run")) == expected
    finally:
        study.write_text(before)


@pytest.mark.slow
def test_a_seeded_rerun_gives_identical_tables(done: Path, tmp_path: Path) -> None:
    again = checkout(tmp_path)
    # Not twice through the notebooks: the figures' own tests show that equal tables give equal figures.
    net = "digits/lenet300/lobster/level-95/seed-0"
    names = [f"results/tiny/{name}" for name in TABLES]
    names += [f"results/tiny/analysis/{name}/{net}.csv" for name in ("psp", "hessian", "surface")]
    snakemake(again, "--cores", "1", *names)
    for name in names:
        assert sha256_file(done / name) == sha256_file(again / name), name


@pytest.mark.slow
def test_the_dag_of_the_paper_study_is_known_from_the_config_alone(tmp_path: Path) -> None:
    found = rules(snakemake(checkout(tmp_path), "--dry-run", study="paper"))
    expected = {"prepare", "init", "dense", "retrain", "analyse", "table", *PAPER_FIGURES[:5], "paper"}
    assert expected < found
    assert {"prune_mnist_lenet5_lobster", "prune_fashion_mnist_lenet5_lobster"} < found


def test_the_precision_reaches_trainings_only(tmp_path: Path) -> None:
    printed = snakemake(checkout(tmp_path), "precision=tf32", "--dry-run", "--printshellcmds")
    commands = re.findall(r"sharpminima (\w+) (.*)", printed)
    assert {name for name, options in commands if "--precision tf32" in options} == {
        "dense",
        "prune",
        "retrain",
        "transfer",
    }
    assert {"psp", "hessian", "surface"} <= {name for name, _ in commands}


def test_config_faults_stop_snakemake_with_a_list(tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    study = folder / "tests/studies/tiny.yaml"
    study.write_text(
        study.read_text().replace("lambda:", "lamda:").replace("model: lenet300\n    method", "model: x\n    method")
    )
    with pytest.raises(AssertionError) as caught:
        snakemake(folder, "--dry-run")
    printed = str(caught.value)
    assert "did you mean lambda?" in printed
    assert "experiments.0.model: 'x' given" in printed
    assert "Traceback" not in printed

"""The whole pipeline by Snakemake on a tiny study, in a copy of the checkout."""

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from sharpminima.base.files import sha256_file
from sharpminima.study.costs import Costs
from sharpminima.study.jobs import DENSE_GROUP, RETRAIN_GROUP, Layout
from sharpminima.study.plan import make_plan, read_components
from sharpminima.study.read import load_config
from sharpminima.study.schema import PAPER_FIGURES

from .cases import checkout, snakemake

TABLES = ("tables/results.csv", "tables/density.csv", "tables/numbers.json")


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
def test_a_run_ends_with_where_its_results_are(done: Path) -> None:
    logs = sorted((done / ".snakemake/log").glob("*.log"))
    (said,) = [found for log in logs for found in re.findall(r"Study tiny is done:\n(?: .+\n){4}", log.read_text())]
    for place in ("paper/build/tiny.pdf", "results/tiny/figures/", "results/tiny/tables/"):
        assert f" {place}" in said
        assert (done / place).exists()
    assert "verdicts  " in said


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
    names += [f"results/tiny/analysis/{name}/{net}.csv" for name in ("psp", "hessian")]
    names.append(f"results/tiny/analysis/surface/{net}.csv.bz2")
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


@pytest.mark.slow
@pytest.mark.parametrize("study", ["demo", "paper"])
def test_a_plan_counts_the_jobs_that_slurm_would_get(tmp_path: Path, study: str) -> None:
    folder = checkout(tmp_path)
    profile = folder / "profiles/slurm/config.yaml"
    settings = yaml.safe_load(profile.read_text())
    settings["group-components"] |= {RETRAIN_GROUP: 4, DENSE_GROUP: 2}
    profile.write_text(yaml.safe_dump(settings))
    printed = snakemake(folder, "--dry-run", "--workflow-profile", "profiles/slurm", study=study)
    chosen = {"study": str(folder / f"workflow/studies/{study}.yaml"), "results": str(folder / "results")}
    layout = Layout(*load_config(chosen))
    planned = make_plan(layout, Costs(layout), read_components(profile.parent)).jobs
    submitted = Counter(re.findall(r"Group job ([a-z]+)", printed))
    assert submitted == {("analysis" if kind == "analyse" else kind): count for kind, count in planned.items()}


@pytest.mark.slow
def test_disk_use_is_foretold(done: Path) -> None:
    layout = Layout(*load_config({"study": str(done / "tests/studies/tiny.yaml")}))
    expected, _ = Costs(layout).disk_mb()
    kept = {".safetensors", ".pdf", ".svg", ".html"}
    found = sum(path.stat().st_size for path in (done / "results/tiny").rglob("*") if path.suffix in kept) / 1e6
    assert expected == pytest.approx(found, rel=0.2)


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

"""Snakemake's jobs are those of the layout, of the plan, of DVC's stages and of Slurm."""

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from sharpminima.study.costs import Costs
from sharpminima.study.jobs import DENSE_GROUP, RETRAIN_GROUP, Layout
from sharpminima.study.plan import make_plan, read_components
from sharpminima.study.read import load_config, read_config
from sharpminima.study.schema import PAPER_FIGURES

from .cases import Shared, checkout, rules, snakemake
from .repository import TRAINING, copy

pytestmark = pytest.mark.slow

# The whole of a finished study ----------------------------------------------------------------------------------------

NOTEBOOK = re.compile(r"/figures/\w+\.html$")
"""An executed notebook, which Snakemake knows beside the figure that it draws."""
Jobs = dict[str, tuple[set[str], set[str]]]


@pytest.fixture(scope="session")
def jobs(shared: Shared, tracked: Path) -> Jobs:
    """Rule and log of every job of the tiny study -> (inputs, outputs), as Snakemake has them."""

    def build(folder: Path) -> None:
        summary = copy(tracked, folder / "repository").do("snakemake", "--detailed-summary")
        (folder / "summary").write_text(summary)

    summary = (shared.folder("summary", build) / "summary").read_text()
    header, *rows = summary.partition("output_file\t")[2].splitlines()
    assert header.startswith("date\trule\tlog-file(s)\tinput-file(s)\tshellcmd")
    found: Jobs = {}
    for row in rows:
        output, _, rule, log, inputs, *_ = row.split("\t")
        job = found.setdefault(f"{rule} {log}", (set(inputs.split(",")) - {"-", ""}, set()))
        job[1].add(output)
    return found


def covered(path: str, folders: set[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def test_both_dags_name_the_same_figures_tables_and_dependencies(tracked: Path, jobs: Jobs) -> None:
    lock = yaml.safe_load((tracked / "dvc.lock").read_text())["stages"]
    stages = {
        name.partition("@")[0]: {kind: {entry["path"] for entry in stage.get(kind, [])} for kind in ("deps", "outs")}
        for name, stage in lock.items()
    }
    data = {f"results/tiny/data/{name}.safetensors" for name in ("digits", "digits-high")}
    settings = stages.pop("settings")["outs"]
    made = {output for _, outputs in jobs.values() for output in outputs if not NOTEBOOK.search(output)} - data
    assert stages.keys() == {"runs", "analysis", *PAPER_FIGURES, "explore", "paper"}
    for output in made:
        assert sum(covered(output, stage["outs"]) for stage in stages.values()) == 1, output
    for name, stage in stages.items():
        inside = [job for job in jobs.values() if any(covered(output, stage["outs"]) for output in job[1])]
        outputs = {output for job in inside for output in job[1]}
        assert all(any(covered(output, {out}) for output in outputs) for out in stage["outs"]), name
        inputs = {path for job in inside for path in job[0]} - outputs - data
        assert [path for path in inputs if not covered(path, stage["deps"])] == [], name
        unused = {dep for dep in stage["deps"] if not any(covered(path, {dep}) for path in inputs)}
        assert unused == settings & {f"results/tiny/settings/{name}.json"}, name


def test_the_layout_names_the_jobs_of_snakemake(tracked: Path, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tracked)
    layout = Layout(*read_config())
    makers = {output: job for job in jobs.values() for output in job[1]}
    found = [*layout.jobs(), *(layout.figure_job(name) for name in layout.study.figures), layout.explore_job()]
    for job in found:
        inputs, outputs = makers[job.outputs[0]]
        code = {path for path in inputs if path.startswith("src/")}
        assert set(job.inputs) | code == inputs, job
        assert set(job.outputs) == {output for output in outputs if not NOTEBOOK.search(output)}, job
    others = set(makers) - {output for job in found for output in job.outputs}
    assert {output.rpartition("/")[2] for output in others if not NOTEBOOK.search(output)} == {
        "tiny.pdf",
        *(f"{name}.json" for name in layout.study.figures),
    }


# Studies of which nothing is there ------------------------------------------------------------------------------------


def for_slurm(shared: Shared, study: str) -> tuple[Path, str]:
    """A fresh checkout, whose jobs come in groups of several, and a dry run there for Slurm, in TF32."""

    def build(folder: Path) -> None:
        profile = checkout(folder) / "profiles/slurm/config.yaml"
        settings = yaml.safe_load(profile.read_text())
        settings["group-components"] |= {RETRAIN_GROUP: 4, DENSE_GROUP: 2}
        profile.write_text(yaml.safe_dump(settings))
        arguments = ("precision=tf32", "--dry-run", "--printshellcmds", "--workflow-profile", "profiles/slurm")
        (folder / "printed").write_text(snakemake(folder, *arguments, study=study))

    folder = shared.folder(f"slurm-{study}", build)
    return folder, (folder / "printed").read_text()


@pytest.mark.parametrize("study", ["demo", "paper"])
def test_a_plan_counts_the_jobs_that_slurm_would_get(shared: Shared, study: str) -> None:
    folder, printed = for_slurm(shared, study)
    chosen = {"study": str(folder / f"workflow/studies/{study}.yaml"), "results": str(folder / "results")}
    layout = Layout(*load_config(chosen))
    planned = make_plan(layout, Costs(layout), read_components(folder / "profiles/slurm")).jobs
    submitted = Counter(re.findall(r"Group job ([a-z]+)", printed))
    assert submitted == {("analysis" if kind == "analyse" else kind): count for kind, count in planned.items()}


def test_the_dag_of_the_paper_study_is_known_from_the_config_alone(shared: Shared) -> None:
    found = rules(for_slurm(shared, "paper")[1]).keys()
    assert found > {"prepare", "init", "dense", "retrain", "analyse", "table", *PAPER_FIGURES[:5], "paper"}
    assert found > {"prune_mnist_lenet5_lobster", "prune_fashion_mnist_lenet5_lobster"}


def test_the_precision_reaches_trainings_only(shared: Shared) -> None:
    commands = re.findall(r"sharpminima (\w+) (.*)", for_slurm(shared, "demo")[1])
    assert {name for name, options in commands if "--precision tf32" in options} == TRAINING
    assert {"psp", "hessian", "surface"} <= {name for name, _ in commands}

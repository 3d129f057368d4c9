"""Snakemake and DVC on the same files: the tiny study tracked in a repository of its own, cloned, edited and broken."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from sharpminima.base.files import sha256_file
from sharpminima.study.jobs import Layout
from sharpminima.study.read import read_config
from sharpminima.study.schema import PAPER_FIGURES
from sharpminima.tracking import tracked_studies

from .cases import ROOT, wait_until
from .repository import TRAINING, Repository, clone

PARTS = (
    ".dvc",
    ".dvcignore",
    ".gitignore",
    "Snakefile",
    "config.yaml",
    "data",
    "dvc.yaml",
    "notebooks",
    "paper",
    "profiles",
)
STUDY = "workflow/studies/tiny.yaml"
REINIT = "results/tiny/runs/digits/lenet300/lobster/level-95/reinit/seed-0/checkpoint.safetensors"
PSP = "results/tiny/analysis/psp/digits/lenet300/lobster/level-95/seed-0.csv"
FIGURE_STAGES = {f"{name}@tiny" for name in PAPER_FIGURES}


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository in which the tiny study has run and was recorded."""
    folder = tmp_path_factory.mktemp("tracked") / "repository"
    folder.mkdir()
    ignored = shutil.ignore_patterns(
        "__pycache__", "build", "*.egg-info", "tmp", "cache", "store", "downloads", "config.local"
    )
    for part in (*PARTS, "src", "workflow"):
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=ignored)
        else:
            shutil.copy(ROOT / part, folder / part)
    shutil.copy(ROOT / "tests/studies/tiny.yaml", folder / STUDY)
    for path, before, after in (
        ("dvc.yaml", f"tracked: [{', '.join(tracked_studies())}]", "tracked: [tiny]"),
        ("config.yaml", "study: demo", "study: tiny"),
    ):
        text = (folder / path).read_text()
        assert before in text
        (folder / path).write_text(text.replace(before, after))
    found = Repository(folder)
    found.do("git", "init", "--quiet")
    found.do("snakemake", "--cores", "2", training=True)
    assert "recorded tiny" in found.do("sharpminima", "track")
    found.commit("Record the tiny study")
    return found


# After a run ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_after_tracking_a_run_both_tools_have_nothing_to_do(tracked: Repository) -> None:
    assert tracked.changed() == set()
    assert tracked.planned() == {}
    tracked.do("git", "diff", "--exit-code")
    store = sum(path.stat().st_size for path in (tracked.folder / "data/store").rglob("*") if path.is_file())
    assert store < 10e6


@pytest.mark.slow
def test_an_edited_notebook_concerns_its_figure(tracked: Repository) -> None:
    with tracked.edited("notebooks/fig3.ipynb", "# Fig. 3", "# Figure 3"):
        assert tracked.changed() == {"fig3@tiny", "paper@tiny"}
        assert tracked.planned().keys() == {"fig3", "provenance", "paper", "all"}


@pytest.mark.slow
def test_an_edited_style_concerns_all_figures_and_no_analysis(tracked: Repository) -> None:
    with tracked.edited("src/sharpminima/figures/style.py", '"lines.linewidth": 1.2', '"lines.linewidth": 1.3'):
        assert tracked.changed() == {*FIGURE_STAGES, "paper@tiny"}
        assert tracked.planned().keys() == {*PAPER_FIGURES, "provenance", "paper", "all"}


@pytest.mark.slow
def test_an_edited_analysis_parameter_concerns_analysis_and_figures(tracked: Repository) -> None:
    with tracked.edited(STUDY, "eigenvalues: 2", "eigenvalues: 1"):
        tracked.do("dvc", "repro", "settings@tiny")
        assert tracked.changed() == {"analysis@tiny"}
        assert tracked.planned() == dict.fromkeys(("analyse", "fig2", "numbers", "provenance", "paper", "all"), 1)


@pytest.mark.slow
def test_an_edited_training_parameter_concerns_its_runs(tracked: Repository) -> None:
    with tracked.edited(STUDY, "reinit: { replicas: 2", "reinit: { replicas: 3"):
        tracked.do("dvc", "repro", "settings@tiny")
        assert tracked.changed() == {"runs@tiny", "analysis@tiny"}
        expected = ("retrain", "table", "fig1", "numbers", "provenance", "paper", "all")
        assert tracked.planned() == dict.fromkeys(expected, 1)


@pytest.mark.slow
def test_a_raised_revision_concerns_the_runs_of_its_method(tracked: Repository) -> None:
    method = "src/sharpminima/catalogue/methods/gradual.py"
    with tracked.edited(method, "revision: Literal[1] = 1", "revision: Literal[2] = 2"):
        assert tracked.changed() == {"settings@tiny"}
        tracked.do("dvc", "repro", "settings@tiny")
        assert tracked.changed() == {"runs@tiny", "analysis@tiny"}
        planned = tracked.planned()
    assert (planned["prune_digits_lenet300_lobster"], planned["retrain"]) == (1, 4)
    assert planned.keys().isdisjoint({"prepare", "init", "dense"})


# A clone whose Snakemake has run none of the jobs: it knows what made the files by their records ----------------------


@pytest.fixture(scope="module")
def pulled(tracked: Repository, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A fresh clone with what the remote holds; nothing is drawn."""
    found = clone(tracked.folder, tmp_path_factory.mktemp("pulled") / "clone")
    assert not list(found.folder.glob("results/tiny/figures/*"))
    return found


def assert_only_drawing_is_left(repository: Repository) -> None:
    assert repository.changed() == {*FIGURE_STAGES, "paper@tiny"}
    assert repository.planned().keys() == {*PAPER_FIGURES, "provenance", "paper", "all"}


@pytest.mark.slow
def test_a_training_parameter_edited_in_a_clone_retrains_what_it_touches(pulled: Repository) -> None:
    with pulled.edited(STUDY, "random-structure: { replicas: 2", "random-structure: { replicas: 1"):
        data = ", ".join(f"results/tiny/data/{name}.safetensors" for name in ("digits", "digits-high"))
        message = f"{data}: missing, and made in this run, would have everything made again"
        assert message in pulled.refuse("snakemake", "--cores", "1")
        assert pulled.calls() == []
        pulled.do("dvc", "repro", "runs@tiny", training=True)
        calls = [call.split() for call in pulled.calls()]
        trained = [call for call in calls if call[0] in TRAINING]
        assert [call[0] for call in trained] == ["retrain", "transfer"]
        assert trained[0][trained[0].index("--strategy") + 1] == "random-structure"
        others = [call[0] for call in calls if call[0] not in TRAINING]
        assert others == ["settings", "restore", "prepare", "prepare", "record"]
    pulled.do("dvc", "checkout")
    assert_only_drawing_is_left(pulled)


@pytest.mark.slow
def test_a_deleted_checkpoint_comes_back_and_is_not_trained(pulled: Repository) -> None:
    checkpoint = pulled.folder / REINIT
    before = sha256_file(checkpoint)
    checkpoint.unlink()
    shutil.rmtree(pulled.folder / ".dvc/cache")
    pulled.do("dvc", "repro", "--pull", "runs@tiny")
    assert sha256_file(checkpoint) == before
    assert not TRAINING.intersection(call.split()[0] for call in pulled.calls())
    pulled.do("dvc", "pull")
    assert_only_drawing_is_left(pulled)


@pytest.mark.slow
def test_a_flipped_byte_is_found_and_refused(pulled: Repository) -> None:
    checkpoint, table = pulled.folder / REINIT, pulled.folder / PSP
    content = bytearray(checkpoint.read_bytes())
    content[-1] ^= 1
    checkpoint.write_bytes(content)
    assert "runs@tiny" in pulled.changed()
    damaged = f"error: {REINIT}: is damaged (its SHA-256 does not agree)"
    assert damaged in pulled.refuse("dvc", "repro")
    assert damaged in pulled.refuse("sharpminima", "track")
    pulled.do("dvc", "checkout", "--force", REINIT)

    table.write_text(table.read_text().replace("gradual", "Gradual"))
    edited = f"error: {PSP}: was changed or damaged after it was made; `dvc checkout {PSP}` brings back"
    assert edited in pulled.refuse("dvc", "repro")
    pulled.do("dvc", "checkout", "--force", PSP)
    assert_only_drawing_is_left(pulled)


# Two commits ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_both_tools_agree_again_at_an_older_commit(tracked: Repository) -> None:
    older = tracked.do("git", "rev-parse", "HEAD").strip()
    study = tracked.folder / STUDY
    study.write_text(study.read_text().replace("reinit: { replicas: 2", "reinit: { replicas: 1"))
    tracked.calls()
    tracked.do("snakemake", "--cores", "2", training=True)
    assert sum(call.split()[0] in TRAINING for call in tracked.calls()) == 1
    tracked.do("sharpminima", "track")
    newer = tracked.commit("Draw one new initialisation")

    (values,) = json.loads(tracked.do("dvc", "metrics", "diff", "--json", older, newer)).values()
    errors = {key for key in values if "test_error_percent" in key}
    assert errors
    assert all("reinit" in key for key in errors), "the other strategies are the same"
    plots = json.loads(tracked.do("dvc", "plots", "diff", "--json", older, newer))["data"]
    ((plot,),) = plots.values()
    reinit = [row["rev"] for row in plot["content"]["data"]["values"] if row["strategy"] == "reinit"]
    assert sorted(reinit.count(rev) for rev in set(reinit)) == [1, 2]

    tracked.do("git", "checkout", "--quiet", older)
    tracked.do("dvc", "checkout")
    assert tracked.changed() == {"fig1@tiny", "paper@tiny"}
    assert tracked.planned().keys() == {"fig1", "provenance", "paper", "all"}
    tracked.do("dvc", "repro")
    assert tracked.wrong_sums() == []
    assert tracked.changed() == set()
    assert tracked.planned() == {}


# A fresh clone -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_fresh_clone_draws_every_figure_to_the_same_bytes_without_training_or_data(
    tracked: Repository, tmp_path: Path
) -> None:
    fresh = clone(tracked.folder, tmp_path / "clone")
    fresh.do("dvc", "repro")
    calls = [call.split() for call in fresh.calls()]
    assert sorted(call[1] for call in calls if call[0] == "figure") == [
        f"notebooks/{name}.ipynb" for name in PAPER_FIGURES
    ]
    assert {call[0] for call in calls} == {"figure", "provenance", "paper"}
    assert not (fresh.folder / "results/tiny/data").exists()
    assert fresh.wrong_sums() == []
    fresh.do("git", "diff", "--exit-code")
    assert fresh.changed() == set()
    assert fresh.planned() == {}


# What goes wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_second_tool_to_start_refuses(tracked: Repository, tmp_path: Path) -> None:
    repository = clone(tracked.folder, tmp_path / "clone")
    begun, go = tmp_path / "begun", tmp_path / "go"
    wait = f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\n"
    wait += f"while not pathlib.Path({str(go)!r}).exists():\n    time.sleep(0.1)\n"
    path = repository.folder / "notebooks/fig3.ipynb"
    notebook = json.loads(path.read_text())
    cell = next(cell for cell in notebook["cells"] if cell["id"] == "figure")
    cell["source"] = [wait, *cell["source"]]
    path.write_text(json.dumps(notebook))

    with subprocess.Popen(
        ["dvc", "repro", "fig3@tiny"],
        cwd=repository.folder,
        env=repository.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as first:
        try:
            wait_until(begun.exists)
            assert re.search(
                r"DVC is at work in this folder \(process \d+: .*repro", repository.refuse("snakemake", "--cores", "1")
            )
            assert "Snakemake is at work in this folder" in repository.refuse("sharpminima", "track")
            assert "is busy" in repository.refuse("dvc", "repro", "fig3@tiny")
        finally:
            go.touch()
        assert first.wait() == 0

    begun.unlink()
    go.unlink()
    with subprocess.Popen(
        ["snakemake", "--cores", "1", "--force", "--", "fig3"],
        cwd=repository.folder,
        env=repository.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as first:
        try:
            wait_until(begun.exists)
            (repository.folder / REINIT).unlink()  # gives the stage something to do
            assert "Snakemake is at work in this folder" in repository.refuse("dvc", "repro", "runs@tiny")
        finally:
            go.touch()
        assert first.wait() == 0


@pytest.mark.slow
def test_without_a_remote_or_with_a_remote_that_lacks_objects(tracked: Repository, tmp_path: Path) -> None:
    repository = clone(tracked.folder, tmp_path / "clone", pull=False)
    lost = r"error: results/tiny/runs/.*: tracked by DVC, but neither here, nor in its cache, nor in its default remote"
    repository.do("dvc", "remote", "remove", "store")
    assert "No remote provided and no default remote set" in repository.refuse("dvc", "pull")
    assert re.search(lost.replace(".*:", ".* and [0-9]+ more:"), repository.refuse("dvc", "repro"))

    repository.do("git", "checkout", "--quiet", ".")
    digest = hashlib.md5((tracked.folder / REINIT).read_bytes()).hexdigest()  # the name that DVC gives it
    lacking = repository.folder / "data/store/files/md5" / digest[:2] / digest[2:]
    content = lacking.read_bytes()
    lacking.unlink()
    assert "failed to pull" in repository.refuse("dvc", "pull")
    assert re.search(lost, repository.refuse("dvc", "repro"))
    assert not TRAINING.intersection(call.split()[0] for call in repository.calls())

    # As after an interrupted pull: what is there stays, what was missing comes.
    lacking.write_bytes(content)
    repository.do("dvc", "pull")
    assert_only_drawing_is_left(repository)


@pytest.mark.slow
def test_a_moved_repository_has_nothing_to_do(tracked: Repository, tmp_path: Path) -> None:
    shutil.copytree(tracked.folder, tmp_path / "copy", symlinks=True)  # keeps times, as a move does
    copy = Repository(tmp_path / "copy")
    assert copy.changed() == set()
    assert copy.planned() == {}


def read_only(folder: Path) -> tuple[str, ...]:
    """What a command starts with so that it cannot write into a folder, whoever runs it."""
    if os.geteuid() != 0:
        for path in (folder, *folder.rglob("*")):
            path.chmod(path.stat().st_mode & ~0o222)
        return ()
    mount = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'
    command = ("unshare", "--mount", "sh", "-c", mount, "sh", str(folder))
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode != 0:
        pytest.skip("root writes everywhere, and a read-only mount is not allowed here")
    return command


@pytest.mark.slow
def test_a_read_only_cache_serves_and_is_named_where_it_would_be_written(tracked: Repository, tmp_path: Path) -> None:
    repository, cache = clone(tracked.folder, tmp_path / "clone", pull=False), tmp_path / "cache"
    repository.do("dvc", "cache", "dir", "--local", str(cache))
    repository.do("dvc", "pull")
    shutil.rmtree(repository.folder / "results")
    command = read_only(cache)
    repository.do(*command, "dvc", "checkout")
    (repository.folder / REINIT).unlink()
    repository.do(*command, "dvc", "repro", "runs@tiny")
    assert repository.changed() == {*FIGURE_STAGES, "paper@tiny"}
    with repository.edited(STUDY, "eigenvalues: 2", "eigenvalues: 1"):
        message = repository.refuse(*command, "dvc", "repro", "settings@tiny")
    assert re.search(rf"(Read-only file system|Permission denied): '{cache}", message)


# The two DAGs --------------------------------------------------------------------------------------------------------


def snakemake_jobs(repository: Repository) -> dict[str, tuple[set[str], set[str]]]:
    """Rule and outputs of every job -> (inputs, outputs), as Snakemake has them."""
    header, *rows = repository.do("snakemake", "--detailed-summary").partition("output_file\t")[2].splitlines()
    assert header.startswith("date\trule\tlog-file(s)\tinput-file(s)\tshellcmd")
    found: dict[str, tuple[set[str], set[str]]] = {}
    for row in rows:
        output, _, rule, log, inputs, *_ = row.split("\t")
        job = found.setdefault(f"{rule} {log}", (set(inputs.split(",")) - {"-", ""}, set()))
        job[1].add(output)
    return found


def covered(path: str, folders: set[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


@pytest.mark.slow
def test_both_dags_name_the_same_figures_tables_and_dependencies(tracked: Repository) -> None:
    jobs = snakemake_jobs(tracked)
    lock = yaml.safe_load((tracked.folder / "dvc.lock").read_text())["stages"]
    stages = {
        name.partition("@")[0]: {kind: {entry["path"] for entry in stage.get(kind, [])} for kind in ("deps", "outs")}
        for name, stage in lock.items()
    }
    data = {f"results/tiny/data/{name}.safetensors" for name in ("digits", "digits-high")}
    settings = stages.pop("settings")["outs"]
    made = {output for _, outputs in jobs.values() for output in outputs if not output.endswith(".html")} - data
    assert {name for name in stages if name.startswith("fig")} == set(PAPER_FIGURES)
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


@pytest.mark.slow
def test_the_layout_names_the_jobs_of_snakemake(tracked: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tracked.folder)
    layout = Layout(*read_config())
    jobs = {output: job for job in snakemake_jobs(tracked).values() for output in job[1]}
    found = [*layout.jobs(), *(layout.figure_job(name) for name in layout.study.figures)]
    for job in found:
        inputs, outputs = jobs[job.outputs[0]]
        code = {path for path in inputs if path.startswith("src/")}
        assert set(job.inputs) | code == inputs, job
        assert set(job.outputs) == {output for output in outputs if not output.endswith(".html")}, job
    others = set(jobs) - {output for job in found for output in job.outputs}
    assert {output.rpartition("/")[2] for output in others if not output.endswith(".html")} == {
        "tiny.pdf",
        *(f"{name}.json" for name in layout.study.figures),
    }

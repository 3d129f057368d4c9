"""The plug-ins of docs/plugins.md from their data to their figure: beside a study, and installed."""

import csv
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import plugin_page
import pytest
import yaml

from sharpminima.base.files import sha256_file

from .cases import ROOT, checkout, edit
from .repository import Repository

FIGURE = "results/mine/figures/norms_drawn"
TABLE = "results/mine/analysis/norms/stripes/small-net/large_start/level-80/seed-0.csv"
TRAINED = "workflow/studies/mine.py"  # brings what is trained
DRAWN = "workflow/studies/drawn.py"  # brings the analysis and the figure


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository in which DVC has made the page's study, whose entries two files bring."""
    folder = checkout(tmp_path_factory.mktemp("plugins") / "repository")
    study = plugin_page.write_beside_a_study(folder / "workflow/studies")
    (folder / TRAINED).write_text(plugin_page.listing("METHOD", "MODEL", "DATASET"))
    (folder / DRAWN).write_text(plugin_page.listing("ANALYSIS", "FIGURE"))
    given = yaml.safe_load(study.read_text())
    study.write_text(yaml.safe_dump(given | {"plugins": ["mine.py", "drawn.py"], "figures": ["norms_drawn"]}))
    edit(folder / "config.yaml", "study: tiny", "study: mine")
    (folder / "dvc.yaml").write_text(yaml.safe_dump(stages()))
    found = Repository(folder)
    found.do("git", "init", "--quiet")
    found.do("dvc", "repro", training=True)
    found.commit("Make the study")
    return found


def stages() -> dict:
    """The pipeline of this checkout for the page's study, with what the page says to add."""
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    kept = {name: pipeline["stages"][name] for name in ("settings", "runs", "analysis")}
    kept["settings"]["deps"] += [TRAINED, DRAWN]
    drawing = "snakemake --cores 1 --config study=${item.study} --allowed-rules norms_drawn provenance"
    kept["norms_drawn"] = {
        "matrix": {"study": "${tracked}"},
        "cmd": f"{drawing} --force --forcerun provenance -- norms_drawn provenance",
        "deps": ["results/${item.study}/analysis/norms", "workflow/studies/norms.ipynb", TRAINED, DRAWN],
        "outs": [{f"{FIGURE}.{extension}": {"cache": False, "persist": True}} for extension in ("pdf", "svg")],
    }
    return {"vars": [{"tracked": ["mine"]}], "stages": kept}


@pytest.mark.slow
def test_a_file_beside_a_study_comes_to_its_figure_through_both_tools(made: Repository) -> None:
    assert (made.folder / f"{FIGURE}.svg").stat().st_size > 1_000
    assert made.changed() == set()
    assert made.planned() == {"explore": 1, "all": 1}, "the page of the study has no stage here"
    chain = json.loads((made.folder / f"{FIGURE}.json").read_text())["origins"]
    for path in (TRAINED, DRAWN):
        assert chain[path] == {"kind": "plug-in", "sha256": sha256_file(made.folder / path)}
    assert DRAWN in chain[TABLE]["from"]
    (experiment,) = json.loads((made.folder / "results/mine/tables/numbers.json").read_text())["experiments"]
    with (made.folder / TABLE).open() as table:
        gradual = [float(row["norm"]) for row in csv.DictReader(table) if row["strategy"] == "gradual"]
    assert experiment["norms"]["gradual"] == pytest.approx(sum(gradual) / len(gradual))
    assert list(experiment["norms"]) == ["dense", "gradual", "rewind"]
    assert {path for path, node in chain.items() if TRAINED in node.get("from", ()) and node["kind"] != "figure"} >= {
        "results/mine/data/stripes.safetensors",
        "results/mine/runs/stripes/small-net/init/seed-0.safetensors",
        TABLE,
    }


@pytest.mark.slow
def test_an_edit_concerns_what_the_file_brings_and_nothing_else(made: Repository) -> None:
    drawn, trained = (made.folder / path for path in (DRAWN, TRAINED))
    with trained.open("a") as file:
        file.write("# edited\n")
    planned = made.planned()
    assert {"prepare", "init", "dense", "prune_stripes_small_net_large_start", "retrain", "analyse"} <= set(planned)
    assert planned["analyse"] == 4
    trained.write_text(trained.read_text().removesuffix("# edited\n"))
    with drawn.open("a") as file:
        file.write("# edited\n")
    assert made.planned() == {"analyse": 1, "numbers": 1, "norms_drawn": 1, "provenance": 1, "explore": 1, "all": 1}
    made.calls()
    made.do("dvc", "repro")  # a training would fail
    called = {call.split()[0] for call in made.calls()}
    assert called == {"settings", "restore", "norms", "numbers", "record", "figure", "provenance"}
    assert made.changed() == set()


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment of its own, which has the packages of this one beside it."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(f"{ROOT / 'src'}\n{sysconfig.get_path('purelib')}\n")
    (folder / "share").mkdir(exist_ok=True)
    (folder / "share/jupyter").symlink_to(Path(sys.prefix, "share/jupyter"))  # nbconvert's templates
    command = folder / "bin/sharpminima"
    command.write_text(f'#!/bin/sh\nexec "{folder}/bin/python" -m sharpminima "$@"\n')
    command.chmod(0o755)
    return folder / "bin/python"


def install(python: Path, package: Path) -> None:
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", *options, package]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_an_installed_package_comes_to_its_figure(python: Path, tmp_path: Path) -> None:
    package = plugin_page.write_package(tmp_path / "package")
    install(python, package)
    folder = checkout(tmp_path / "checkout")
    given = yaml.safe_load(plugin_page.blocks()["mine.yaml"][0]) | {"figures": ["norms_drawn"]}
    del given["plugins"]
    (folder / "workflow/studies/mine.yaml").write_text(yaml.safe_dump(given))
    environment = os.environ | {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}

    def snakemake(*arguments: str) -> str:
        command = [python, "-m", "snakemake", "--config", "study=mine", *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return done.stdout + done.stderr

    snakemake("--cores", "1", "--", "norms_drawn", "provenance")
    chain = json.loads((folder / f"{FIGURE}.json").read_text())["origins"]
    assert chain["mine"] == {"kind": "plug-in", "version": "1.0"}
    assert "mine" in chain[TABLE]["from"]
    assert "Nothing to be done" in snakemake("--dry-run", "--", "norms_drawn")

    project = package / "pyproject.toml"
    project.write_text(project.read_text().replace('"1.0"', '"1.1"'))
    install(python, package)
    assert "analyse" in snakemake("--dry-run", "--", "norms_drawn").partition("Job stats:")[2]

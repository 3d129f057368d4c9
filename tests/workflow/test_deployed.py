"""The workflow as snakedeploy puts it into an empty folder: a module, its config, its profiles, and nothing else."""

import shutil
from pathlib import Path

import pytest

from sharpminima.base.yaml_input import read_yaml
from sharpminima.catalogue.figures import FIGURES, File
from sharpminima.catalogue.registry import source_file
from sharpminima.study.jobs import Layout
from sharpminima.study.paths import PAPER_SOURCES
from sharpminima.study.read import load_config
from sharpminima.study.schema import Config

from .cases import ROOT, rules, snakemake

SNAKEFILE = """
configfile: "config/config.yaml"


module sharpminima:
    snakefile:
        "{source}/workflow/Snakefile"
    config:
        config


use rule * from sharpminima
"""


@pytest.fixture
def deployed(tmp_path: Path) -> Path:
    """What `snakedeploy deploy-workflow` writes; the source is this checkout in place of a repository's address."""
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow/Snakefile").write_text(SNAKEFILE.format(source=ROOT))
    shutil.copytree(ROOT / "config", tmp_path / "config")
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    return tmp_path


def listed() -> list[str]:
    return (ROOT / "workflow/rules/deployed.txt").read_text().split()


def test_what_a_deployed_workflow_is_given_is_what_its_rules_read() -> None:
    sources = [source for figure in FIGURES.values() for source in figure.reads.values()]
    files = {source.path for source in sources if isinstance(source, File)}
    studies = {str(path.relative_to(ROOT)) for path in (ROOT / "workflow/studies").glob("*.yaml")}
    ledgers = {load_config({"study": str(ROOT / study)})[1].ledger for study in studies}
    notebooks = {figure.notebook for figure in FIGURES.values()}
    assert len(listed()) == len(set(listed()))
    assert set(listed()) == {*ledgers, *PAPER_SOURCES, *files, *studies, *notebooks}


@pytest.mark.slow
def test_the_deployed_demo_has_the_jobs_of_the_checkout_s(deployed: Path) -> None:
    planned = rules(snakemake(deployed, "--dry-run", study="demo"))
    assert planned.pop("deployed") == 1
    jobs = Layout(*load_config({"study": "demo"})).all_jobs()
    assert sum(planned.values()) == len(jobs)
    assert {str(path.relative_to(deployed)) for path in deployed.rglob("*") if path.is_file()} >= set(listed())
    kept = deployed / "workflow/studies/demo.yaml"
    kept.write_text(kept.read_text().replace("seeds: [0, 1, 2]", "seeds: [0]"))  # a user's file stays
    fewer = rules(snakemake(deployed, "--dry-run", study="demo"))
    assert fewer["dense"] < planned["dense"]


def test_code_is_found_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert source_file("sharpminima.report.tables") == "src/sharpminima/report/tables.py"
    monkeypatch.chdir(tmp_path)
    assert source_file("sharpminima.report.tables") == str(ROOT / "src/sharpminima/report/tables.py")


def test_the_catalogue_s_pages_name_what_there_is() -> None:
    usage = read_yaml(ROOT / ".snakemake-workflow-catalog.yml")["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    page = (ROOT / "config/README.md").read_text()
    keys = {f"`{name}`" for name in Config.model_fields if name != "data"} | {"`data: root`"}
    assert [key for key in keys if f"| {key} |" not in page] == []
    assert (ROOT / "config/config.yaml").resolve() == ROOT / "config.yaml"

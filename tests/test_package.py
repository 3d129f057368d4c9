"""The package for others: what it declares, and the built wheel beside its base dependencies alone."""

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement

import sharpminima
from sharpminima.base.extras import EXTRAS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = {"dvc-data": "dvc_data", "pyyaml": "yaml", "scikit-learn": "sklearn"}
"""Distribution -> the module that it brings, where the names differ."""
NOT_IMPORTED = {"ipykernel", "rich"}
OF_EXTRAS = {module for modules in EXTRAS.values() for module in modules}
"""Of the extras, what the package itself does not import: what is run, and what its plug-in of Snakemake imports."""


@pytest.mark.slow
def test_the_top_level_loads_no_torch_until_a_name_is_asked_for() -> None:
    code = """
import sys
import sharpminima
assert "psp_entropy" in dir(sharpminima)
assert not {"torch", "numpy", "numba", "pydantic"} & set(sys.modules), sorted(sys.modules)
assert sharpminima.SharpminimaError is sys.modules["sharpminima.base.errors"].SharpminimaError
assert "torch" not in sys.modules
assert sharpminima.build_model is sys.modules["sharpminima.nets.models"].build_model
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'psp_entropie'"):
        _ = sharpminima.psp_entropie


def test_type_checkers_read_the_names_that_are_there() -> None:
    tree = ast.parse(Path(sharpminima.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    told = {name.asname: node.module for node in block.body for name in node.names}
    assert told == sharpminima._HOME


def test_every_import_is_declared() -> None:
    base = _modules(PROJECT["dependencies"])
    extras = {name: _modules(PROJECT["optional-dependencies"][name]) for name in ("data", "report", "pipeline")}
    imported = {
        name
        for path in (ROOT / "src/sharpminima").rglob("*.py")
        for name in _imports(path)
        if name not in sys.stdlib_module_names and name != "sharpminima"
    }
    imported -= {"pydantic_core"}  # pydantic's own, pinned by it, for types that validate themselves
    imported -= {"llvmlite"}  # numba's own, pinned by it, for vectors that it does not make by itself
    assert base <= imported
    assert {extra: set(modules) for extra, modules in EXTRAS.items()} == extras
    assert OF_EXTRAS - imported == NOT_IMPORTED
    assert imported - base <= OF_EXTRAS


def test_version_citation_and_changelog_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    released = re.findall(r"^## \[(\d\S*)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert citation["version"] == released[0] == sharpminima.__version__


def test_contributors_are_sent_to_places_that_are_there() -> None:
    told = (ROOT / "CONTRIBUTING.md").read_text()
    places = re.findall(r"`([\w./-]+/[\w./-]+)`", told) + re.findall(r"\]\(([^)#]+)", told)
    assert len(places) > 10
    assert [place for place in places if place != "dist/" and not (ROOT / place).exists()] == []


def test_hooks_call_what_set_up_installs() -> None:
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    programs = {Path(hook["entry"].split()[0]) for hook in local["hooks"]}
    assert {program.parent for program in programs} == {Path(".venv/bin")}
    assert [program for program in programs if not (Path(sys.executable).parent / program.name).exists()] == []


def _modules(requirements: list[str]) -> set[str]:
    names = {Requirement(text).name for text in requirements} - {"sharpminima"}  # its own other extras
    return {MODULES.get(name, name) for name in names}


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "import_module":
            yield node.args[0].value.partition(".")[0]


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the sdist, and of the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("build")
    for name in ("pyproject.toml", "MANIFEST.in", "LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff"):
        shutil.copy(ROOT / name, folder)
    (folder / "docs").mkdir()
    shutil.copy(ROOT / "docs/package.md", folder / "docs")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    subprocess.run([sys.executable, "-m", "build", "--no-isolation"], cwd=folder, check=True, capture_output=True)
    return folder / "dist"


@pytest.fixture(scope="session")
def alone(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that holds the wheel and its base dependencies, and nothing else.

    The dependencies are links to the files installed here, of those that the wheel's own metadata lead to.
    """
    folder = tmp_path_factory.mktemp("alone")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
    (wheel,) = dist.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    (metadata,) = site.glob("*.dist-info")
    for needed in _needed(Distribution.at(metadata)):
        for file in needed.files or ():
            if ".." not in file.parts:  # commands lie outside
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                (site / file).symlink_to(file.locate())
    return folder / "bin/python"


def _needed(package: Distribution) -> list[Distribution]:
    """All that a distribution needs, with what those need, by their metadata."""
    found: dict[str, Distribution] = {}
    waiting = [(package, "")]
    while waiting:
        current, extra = waiting.pop()
        for requirement in map(Requirement, current.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({**default_environment(), "extra": extra}):
                name = re.sub(r"[-_.]+", "-", requirement.name).lower()
                new = [] if name in found else [""]
                found.setdefault(name, distribution(name))
                waiting += [(found[name], more) for more in [*new, *requirement.extras]]
    return list(found.values())


def _run(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SHARPMINIMA"))}
    return subprocess.run([python, *arguments], cwd=folder, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_sdist_and_wheel_pass_the_index_s_check(dist: Path) -> None:
    made = sorted(dist.iterdir())
    assert [path.name.removeprefix(f"sharpminima-{sharpminima.__version__}") for path in made] == [
        "-py3-none-any.whl",
        ".tar.gz",
    ]
    checked = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *made], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
    names = set(zipfile.ZipFile(made[0]).namelist())
    assert {"sharpminima/py.typed", "snakemake_logger_plugin_sharpminima/__init__.py"} <= names
    assert not [name for name in names if name.startswith("tests")]


def test_the_index_s_page_points_at_nothing_that_only_a_checkout_has() -> None:
    page = (ROOT / PROJECT["readme"]).read_text()
    assert [link for link in re.findall(r"\]\(([^)]+)\)", page) if not link.startswith("https://")] == []


@pytest.mark.slow
def test_the_wheel_alone_measures_a_net_of_ones_own(alone: Path, tmp_path: Path) -> None:
    others = "import importlib.util as u; assert not [n for n in {names!r} if u.find_spec(n)]"
    assert _run(alone, tmp_path, "-c", others.format(names=sorted(OF_EXTRAS - {"rich"}))).returncode == 0
    (example,) = re.findall(r"```python\n(.+?)```", (ROOT / PROJECT["readme"]).read_text(), re.DOTALL)
    (tmp_path / "example.py").write_text(example)
    ran = _run(alone, tmp_path, "example.py")
    assert ran.returncode == 0, ran.stderr
    assert "tensor(" in ran.stdout
    every = "import sharpminima as s; print([getattr(s, name) for name in s.__all__])"
    assert _run(alone, tmp_path, "-c", every).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("plan paper", "config.yaml: there is none here; run this in the checkout's top folder"),
        ("claims", "config.yaml: there is none here; run this in the checkout's top folder"),
        ("provenance fig1", "config.yaml: there is none here; run this in the checkout's top folder"),
        ("track", "dvc.yaml: names no tracked studies; run this in the top folder of the checkout"),
        ("prepare digits --out d", "sklearn is not installed; pip install 'sharpminima[data]' brings it"),
        ("figure notebooks/fig1.ipynb --out f", "is not installed; pip install 'sharpminima[report]' brings it"),
    ],
)
def test_what_the_wheel_lacks_is_said_in_one_line(alone: Path, tmp_path: Path, line: str, says: str) -> None:
    refused = _run(alone, tmp_path, "-m", "sharpminima", *line.split())
    assert refused.returncode == 1
    (said,) = refused.stderr.splitlines()
    assert said.startswith("error: ")
    assert says in said

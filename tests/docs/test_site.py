"""The site is built without a warning, and has each public object with an example, each command and each method."""

import doctest
import importlib
import inspect
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from sphinx.util.inventory import InventoryFile
from typer.main import get_command

import sharpminima
from sharpminima.catalogue.methods import METHODS
from sharpminima.cli import app
from sharpminima.steps.tuning import TuningPlan
from sharpminima.steps.tuning import trials as settings_tried
from sharpminima.study.jobs import Layout
from sharpminima.study.read import load_config, parse_settings, read_config
from sharpminima.study.schema import Study
from site_pages import api, floors, settings, text
from site_pages.methods import formulas, rows

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs/reference"
PAGES = sorted(path.name for path in REFERENCE.glob("*.rst"))
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
ROOMS = ("sharpminima.analysis", "sharpminima.pruning", "sharpminima.models", "sharpminima.data", "sharpminima.testing")


def shown() -> dict[str, str]:
    """Full name of each object that the pages show -> the page."""
    found = {}
    for page in PAGES:
        for line in re.findall(r"^\.\. public:: (.+)$", (REFERENCE / page).read_text(), flags=re.MULTILINE):
            module, *chosen = line.split()
            names = chosen or importlib.import_module(module).__all__
            found |= {f"{module}.{name}": page for name in names}
    return found


def public() -> Iterator[str]:
    """Full name of each public object, as the site should have it."""
    yield from (api.home_of(name) for name in sharpminima.__all__ if name != "__version__")
    for room in ROOMS:
        yield from (f"{room}.{name}" for name in importlib.import_module(room).__all__)


def value_of(full: str) -> Any:
    module, _, name = full.rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    (options,) = re.findall(r"sphinx-build (.+) docs docs/build/html$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert "--fail-on-warning" in options
    line = [sys.executable, "-m", "sphinx", *options.split(), str(ROOT / "docs"), str(folder / "html")]
    built = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (built.returncode, built.stderr) == (0, ""), built.stderr[-3000:]
    return folder / "html"


@pytest.mark.slow
def test_every_public_object_is_on_a_page(site: Path) -> None:
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    objects = {name for kind, items in inventory.data.items() if kind.startswith("py:") for name in items}
    wanted = set(public()) | set(shown())
    assert len(wanted) > 60
    assert wanted - objects == set()


@pytest.mark.slow
def test_every_command_and_every_method_has_a_section_with_its_settings(site: Path) -> None:
    commands = (site / "reference/cli.html").read_text()
    names = list(get_command(app).commands)
    assert len(names) > 20
    assert [name for name in names if f'<section id="{name.replace("_", "-")}">' not in commands] == []
    page = (site / "reference/methods.html").read_text()
    for name, method in METHODS.items():
        (section,) = re.findall(rf'id="method-{name.replace("_", "-")}"(.*?)</section>', page, flags=re.DOTALL)
        plain = re.sub(r"<[^>]+>", "", section).replace("&amp;", "&")
        assert method.paper in plain, name
        assert method.kind in plain, name
        (formula,) = re.findall(r'<span class="formula block"[^>]*><svg[^>]* height="([\d.]+)"', section)
        assert 10 < float(formula) < 90, name  # a bracket that grew without end has shown
        fields = {field.alias or key for key, field in method.settings.model_fields.items()} - {"revision"}
        assert [key for key in fields if f">{key}<" not in section] == [], name


@pytest.mark.parametrize("page", PAGES)
def test_examples_of_the_pages_run(page: str) -> None:
    assert doctest.testfile(str(REFERENCE / page), module_relative=False, optionflags=FLAGS).failed == 0


def examples_of(full: str) -> str:
    """The lines of all examples beside an object: in its module, and on its page."""
    module = inspect.getmodule(value_of(full)) or importlib.import_module(full.rpartition(".")[0])
    tests = doctest.DocTestFinder().find(module)
    parser, page = doctest.DocTestParser(), (REFERENCE / shown()[full]).read_text()
    found = [*(example for test in tests for example in test.examples), *parser.get_examples(page)]
    return "".join(example.source for example in found)


EXAMPLED = set(public()) | {full for full, page in shown().items() if page != "errors.rst"}


@pytest.mark.parametrize("full", sorted(EXAMPLED))
def test_every_public_object_has_an_example(full: str) -> None:
    """Of its name; a class may be what a function with an example returns."""
    name = full.rpartition(".")[2]
    text_of_examples = examples_of(full)
    makers = [
        function.__name__
        for _, function in inspect.getmembers(inspect.getmodule(value_of(full)), inspect.isfunction)
        if re.search(rf"\b{name}\b", str(inspect.signature(function).return_annotation))
    ]
    assert any(re.search(rf"\b{word}\b", text_of_examples) for word in (name, *makers)), f"{full} has no example"


def test_a_method_s_section_says_what_the_page_of_methods_says() -> None:
    assert rows().keys() == METHODS.keys()
    assert formulas().keys() == METHODS.keys()
    sized = [name for name, said in formulas().items() if re.search(r"\\[Bb]ig+[lr]?\\", said["formula"])]
    assert sized == [], "what sets formulas shows \\Big before a command as letters: plain, or \\left and \\right"
    assert rows()["snip"] == "keeps the largest |g w| at initialisation"


def test_settings_are_said_in_words() -> None:
    table = settings.table(Study)
    assert "``seeds``\n     - list of integer ≥ 0, ≤ 9.22337e+18\n     - ``[0]``\n     - whole runs" in table
    assert "``title``\n     - string\n     - *needed*" in table


def test_a_constant_is_said_by_the_text_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert api.constant_doc("sharpminima.pruning", "METHODS") == "Name -> method."
    monkeypatch.setitem(sys.modules, "unsaid", SimpleNamespace(PLUGGED=object()))
    with pytest.raises(LookupError, match="PLUGGED: nothing says what it is"):
        api.constant_doc("unsaid", "PLUGGED")


def test_links_that_leave_the_pages_are_the_site_s() -> None:
    assert text.linked("see [page](docs/methods.md#a), [log](CHANGELOG.md)", "") == (
        "see [page](/methods.md#a), [log](/explanation/changelog.md)"
    )
    assert text.linked("[`a`](../paper/a.csv) [b](#c) [d](https://e.org)", "docs") == (
        "{download}`a </../paper/a.csv>` [b](#c) [d](https://e.org)"
    )
    assert text.prose("|w| of `a_b`, 2*c") == r"\|w\| of ``a_b``, 2\*c"


def test_the_picture_puts_each_part_above_what_it_points_at() -> None:
    drawn = floors.picture("top --> middle\nmiddle --> base\ntop --> base\n")
    heights = {name: int(y) for y, name in re.findall(r'<text x="\d+" y="(\d+)">(\w+)</text>', drawn)}
    assert heights["top"] < heights["middle"] < heights["base"]
    assert drawn.count("marker-end") == 3
    with pytest.raises(ValueError, match="point at each other: a, b"):
        floors.picture("a --> b\nb --> a")
    with pytest.raises(ValueError, match="no line of the form"):
        floors.picture("a - b")


def test_the_study_of_the_guide_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block, cheaper, trials = re.findall(
        r"^```yaml\n(.*?)^```$", (ROOT / "docs/howto/own-study.md").read_text(), re.MULTILINE | re.DOTALL
    )
    plan = parse_settings(TuningPlan, trials, "--plan")
    assert [len(list(settings_tried(each.method, each.grid))) for each in plan.methods] == [3, 3]
    (tmp_path / "own.yaml").write_text(block)
    monkeypatch.chdir(ROOT)
    study = read_config(str(tmp_path / "own.yaml"))[1]
    assert [experiment.method.name for experiment in study.experiments] == ["magnitude", "snip"]
    whole, less = yaml.safe_load(block), yaml.safe_load(cheaper)
    (asked,) = less.pop("experiments")
    whole = {**whole, **less, "experiments": [{**whole["experiments"][0], **asked}]}
    (tmp_path / "cheaper.yaml").write_text(yaml.safe_dump(whole))
    found = Layout(*load_config({"study": str(tmp_path / "cheaper.yaml")}))
    made = Counter(job.rule for job in found.measurements() if job.key["method"] == "snip")
    assert made == {"psp": 8, "hessian": 3, "barrier": 8, "surface": 5, "line": 2}
    assert (ROOT / re.findall(r"\$schema=(\S+)", block)[0]).is_file()

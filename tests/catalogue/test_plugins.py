"""Plug-ins: their entries are known while they are in use, and faults are one line each."""

import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import plugin_page
import pytest
import typer
import yaml
from typer.testing import CliRunner

from sharpminima import cli
from sharpminima.base.errors import ConfigError
from sharpminima.catalogue import plugins
from sharpminima.catalogue.analyses import ANALYSES
from sharpminima.catalogue.brought import BROUGHT
from sharpminima.catalogue.datasets import DATASETS
from sharpminima.catalogue.figures import FIGURES
from sharpminima.catalogue.methods import METHODS
from sharpminima.catalogue.models import MODELS
from sharpminima.report.notebook import _plugged
from sharpminima.study.jobs import Layout
from sharpminima.study.read import load_config
from sharpminima.testing import check_dataset, check_method, check_model

ROOT = Path(__file__).parents[2]
REGISTRIES = (METHODS, MODELS, DATASETS, ANALYSES, FIGURES)
ADDED = [("large_start", "agreement", "swapping"), ("small-net",), ("stripes",), ("norms",), ("norms_drawn",)]
MODEL = "from sharpminima.catalogue.models import Model\n"


@pytest.fixture(autouse=True)
def _none_stays_in_use() -> Iterator[None]:
    before = [tuple(registry) for registry in REGISTRIES]
    yield
    plugins.use([])
    assert [tuple(registry) for registry in REGISTRIES] == before


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The study of the page, its plug-in beside it."""
    monkeypatch.chdir(tmp_path)
    return plugin_page.write_beside_a_study(tmp_path).relative_to(tmp_path)


def added(before: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [tuple(registry)[len(names) :] for registry, names in zip(REGISTRIES, before, strict=True)]


def layout(study: Path) -> Layout:
    return Layout(*load_config({"study": str(study)}))


def test_entries_are_known_while_their_study_is_the_one_that_was_read_last(study: Path) -> None:
    before = [tuple(registry) for registry in REGISTRIES]
    first, again = layout(study), layout(study)
    assert added(before) == ADDED
    assert first.study == again.study
    other = study.with_name("other.yaml")
    settings = yaml.safe_load(study.read_text())
    (study.parent / "other.py").write_text(f"{MODEL}SHARPMINIMA = [Model('other-net', (1, 8, 8), print)]\n")
    other.write_text(yaml.safe_dump(settings | {"plugins": ["other.py"]}))
    with pytest.raises(ConfigError, match=r"model: 'small-net' given, allowed: .*other-net") as caught:
        layout(other)
    assert "method.name: 'large_start' given" in str(caught.value)
    assert "analysis.norms: no such key" in str(caught.value)
    assert added(before) == [(), ("other-net",), (), (), ()]
    assert layout(study).jobs() == first.jobs()


def test_jobs_have_the_files_whose_names_they_use_among_their_settings(study: Path) -> None:
    (study.parent / "drawn.py").write_text(plugin_page.listing("ANALYSIS", "FIGURE"))
    (study.parent / "mine.py").write_text(plugin_page.listing("METHOD", "MODEL", "DATASET"))
    settings = yaml.safe_load(study.read_text())
    (mine,) = settings["experiments"]
    builtin = {"dataset": "digits", "model": "lenet300", "method": {"name": "snip"}, "levels": [0.5]}
    changed = {"plugins": ["mine.py", "drawn.py"], "experiments": [mine, builtin]}
    study.write_text(yaml.safe_dump(settings | changed))
    found = layout(study)
    used: dict[str, list[set[str]]] = {}
    for job in found.jobs():
        used.setdefault(job.rule, []).append(set(job.settings.get("plugins", {})))
    assert used == {
        "prepare": [{"mine.py"}, set()],
        "init": [{"mine.py"}, set()],
        "dense": [{"mine.py"}, set()],
        "prune": [{"mine.py"}, set()],
        "retrain": [{"mine.py"}, {"mine.py"}],
        **{name: [{"mine.py"}] for name in ("psp", "hessian", "barrier")},
        "norms": [{"mine.py", "drawn.py"}],
        "table": [set()],
        "numbers": [{"mine.py", "drawn.py"}],  # it says something of the analysis
    }
    assert {"drawn.py", "norms.ipynb"} <= set(found.figure_job("norms_drawn").inputs)
    assert {"mine.py", "drawn.py"} <= set(found.origins("norms_drawn"))


def test_an_edit_is_another_hash(study: Path) -> None:
    def digests() -> dict[str, str]:
        return next(job for job in layout(study).jobs() if job.rule == "prune").settings["plugins"]

    before = digests()
    with (study.parent / "mine.py").open("a") as file:
        file.write("METHOD.settings.model_fields['epochs'].default = 3\n")  # a line of the same second counts too
    after = digests()
    assert before.keys() == after.keys() == {"mine.py"}
    assert before != after
    plugins.use_stated([f"mine.py@{after['mine.py']}"])
    assert METHODS["large_start"].settings.model_fields["epochs"].default == 3
    with pytest.raises(ConfigError, match=r"--plugin: mine\.py@.* was planned with, and another one is here now"):
        plugins.use_stated([f"mine.py@{before['mine.py']}"])


def test_an_analysis_is_made_where_it_is_named(study: Path) -> None:
    settings = yaml.safe_load(study.read_text())
    del settings["experiments"][0]["analysis"]["norms"]
    study.write_text(yaml.safe_dump(settings))
    with pytest.raises(ConfigError, match=r"focus: a figure shows norms, .* add norms: \{\}"):
        layout(study)
    study.write_text(yaml.safe_dump(settings | {"figures": ["fig1"]}))
    found = layout(study)
    assert "norms" not in {job.rule for job in found.jobs()}
    assert "norms" not in found.facts()["experiments"][0]["analysis"]


def test_an_analysis_is_read_where_it_is_made(study: Path) -> None:
    settings = yaml.safe_load(study.read_text())
    (mine,) = settings["experiments"]
    for other, named in (({}, {0}), ({"norms": {"runs": [2]}}, {0, 2})):
        both = [mine, {**mine, "model": "lenet300", "dataset": "digits", "analysis": other}]
        changed = {
            "seeds": [0, 2],
            "experiments": [{**mine, "seeds": 1}, *both[1:]],
            "figures": ["fig1"],
            "paper": False,
        }
        study.write_text(yaml.safe_dump(settings | changed))
        found = layout(study)
        jobs = found.jobs()
        made = {path for job in jobs for path in job.outputs}
        (numbers,) = [job for job in jobs if job.rule == "numbers"]
        missing = {path for path in numbers.inputs if path.startswith("results/")} - made
        assert not missing, "the numbers would wait for tables that nothing makes"
        assert {job.key["seed"] for job in jobs if job.rule == "norms"} == named


def test_a_setting_of_an_analysis_is_not_taken_for_the_studys(study: Path) -> None:
    code = (study.parent / "mine.py").read_text()
    (study.parent / "mine.py").write_text(
        code.replace("    dense: bool = False\n", "    dense: bool = False\n    runs: int = 3\n")
    )
    with pytest.raises(
        ConfigError, match=r"^the analysis norms has a setting runs, by which .*; give it another name$"
    ):
        layout(study)


def test_a_study_without_plugins_does_not_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = Layout(*load_config({"study": "demo"}))
    assert "plugins" not in found.facts()
    assert all("plugins" not in job.settings for job in found.jobs())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "mine.py: cannot be read (No such file or directory)"),
        ("", "mine.py: has no list SHARPMINIMA, such as SHARPMINIMA = [Method(...)]"),
        ("SHARPMINIMA = 3\n", "mine.py: has no list SHARPMINIMA"),
        ("SHARPMINIMA = ['lobster']\n", "mine.py: SHARPMINIMA holds str 'lobster'; it may hold Method, Model, Dataset"),
        (f"{MODEL}SHARPMINIMA = [Model]\n", "mine.py: SHARPMINIMA holds the class Model; it may hold"),
        ("1 / 0\n", "mine.py: raises ZeroDivisionError: division by zero"),
        ("raise ValueError('one\\ntwo')\n", "mine.py: raises ValueError: one two"),
        ("import sys\nsys.exit(3)\n", "mine.py: raises SystemExit: 3"),
        ("def (\n", "mine.py: raises SyntaxError: invalid syntax"),
        (
            f"{MODEL}SHARPMINIMA = [Model('lenet5', (1, 8, 8), print)]\n",
            "mine.py: model 'lenet5': is a built-in one; choose another name",
        ),
        (
            f"{MODEL}SHARPMINIMA = 2 * [Model('mine', (1, 8, 8), print)]\n",
            "mine.py: model 'mine': is brought by mine.py too; choose another name",
        ),
        (
            f"{MODEL}SHARPMINIMA = [Model('My_Net', (1, 8, 8), print)]\n",
            "mine.py: model 'My_Net': its name stands in paths; it must be of the form [a-z0-9-]+",
        ),
        (
            "from sharpminima.catalogue.figures import Figure\nSHARPMINIMA = [Figure('paper', {})]\n",
            "mine.py: figure 'paper': the name stands for something else; choose another one",
        ),
    ],
)
def test_a_fault_is_one_line(study: Path, text: str | None, says: str) -> None:
    file = study.parent / "mine.py"
    file.unlink() if text is None else file.write_text(text)
    before = [tuple(registry) for registry in REGISTRIES]
    with pytest.raises(ConfigError) as caught:
        layout(study)
    title, line = str(caught.value).splitlines()
    assert title == "the config has faults:"
    assert line.startswith(f"  mine.yaml: plugins: {says}")
    assert added(before) == [(), (), (), (), ()]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("mine.py", "'mine.py' given; a list of files is needed, as in [mine.py]"),
        (None, "None given; a list of files is needed, as in [mine.py]"),
        ({"mine.py": 1}, "{'mine.py': 1} given; a list of files is needed, as in [mine.py]"),
        (3, "3 given; a list of files is needed, as in [mine.py]"),
        ([3], "3 stands in the list; each is the path of a file, as in [mine.py]"),
        ([["mine.py"]], "['mine.py'] stands in the list; each is the path of a file"),
        ([""], "'' stands in the list; each is the path of a file"),
    ],
)
def test_plugins_that_are_no_list_of_files_are_the_one_fault(study: Path, given: object, says: str) -> None:
    """Names that they would bring are no faults of the study's."""
    study.write_text(yaml.safe_dump(yaml.safe_load(study.read_text()) | {"plugins": given}))
    with pytest.raises(ConfigError) as caught:
        layout(study)
    title, line = str(caught.value).splitlines()
    assert title == "the config has faults:"
    assert line.startswith(f"  mine.yaml: plugins: {says}")


def test_names_that_stand_for_something_else_are_reserved() -> None:
    commands = set(typer.main.get_command(cli.app).commands)
    rules = re.findall(
        r"^(?:use )?rule (?:analyse as )?(\w+)",
        "\n".join(path.read_text() for path in [ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk")]),
        flags=re.MULTILINE,
    )
    assert len(rules) > 10
    for kind in ("analysis", "figure"):
        assert commands | {*rules} <= {*plugins.RESERVED[kind], *ANALYSES}


def test_a_command_line_takes_plugins_anywhere(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli._without_plugins(["a", "--plugin", "x", "b", "--plugin=y"]) == (["a", "b"], ["x", "y"])
    with pytest.raises(ConfigError, match="--plugin: a file is missing"):
        cli._without_plugins(["a", "--plugin"])
    plugins.use_stated(["mine.py"])
    listed = CliRunner().invoke(cli.app, ["methods"]).output
    assert "large_start (scored): Zhou" in listed
    (option,) = _plugged()
    assert re.search(r"use_stated\(\['mine\.py@[0-9a-f]{64}'\]\)$", option)


class Installed(Distribution):
    """A distribution of one entry point."""

    name, version = "own", "1.2"

    def read_text(self, filename: str) -> str | None:
        return None

    def locate_file(self, path: Any) -> Any:
        raise AssertionError("its files are not asked for: an entry point is read by its value")


def install(monkeypatch: pytest.MonkeyPatch, group: str, value: str) -> None:
    class Points(list):
        def select(self, *, group: str) -> list[EntryPoint]:
            return [point for point in self if point.group == group]

    point = EntryPoint("own", value, group)
    vars(point).update(dist=Installed())
    monkeypatch.setattr(plugins, "entry_points", lambda: Points([point]))
    plugins._installed.cache_clear()


@pytest.fixture
def _nothing_stays_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    monkeypatch.undo()
    plugins._forget(list(BROUGHT))
    plugins._installed.cache_clear()


@pytest.mark.usefixtures("_nothing_stays_installed")
@pytest.mark.parametrize(
    ("group", "value", "says"),
    [
        ("sharpminima.models", "no_such_module:MODEL", "cannot be loaded (ModuleNotFoundError: No module named"),
        ("sharpminima.models", "json:dumps", "is function <function dumps"),
        ("sharpminima.methods", "own_entry:MODEL", "is Model Model(name='own'"),
    ],
)
def test_a_fault_of_an_installed_one_is_one_line(
    group: str, value: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_entry.py").write_text(f"{MODEL}MODEL = Model('own', (1, 8, 8), print)\n")
    monkeypatch.syspath_prepend(tmp_path)
    install(monkeypatch, group, value)
    with pytest.raises(ConfigError) as caught:
        plugins.use([])
    assert str(caught.value).startswith(f"own 1.2: {group}: own: {says}")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("_nothing_stays_installed")
def test_an_installed_one_is_there_for_every_study(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (study.parent / "mine_installed.py").write_text(plugin_page.entries())
    monkeypatch.syspath_prepend(Path.cwd())
    install(monkeypatch, "sharpminima.analyses", "mine_installed:ANALYSIS")
    plugins.use([])
    assert "norms" in ANALYSES
    with pytest.raises(ConfigError, match="analysis 'norms': is brought by own too"):
        layout(study)
    (study.parent / "mine.py").write_text(plugin_page.listing("METHOD", "MODEL", "DATASET", "FIGURE"))
    (table,) = [job for job in layout(study).jobs() if job.rule == "norms"]
    assert table.settings["plugins"].keys() == {"mine.py", "own"}
    assert table.settings["plugins"]["own"] == "1.2"
    assert table.plugin_files == ["mine.py"]
    plugins.use_stated(["own==1.2"])
    with pytest.raises(ConfigError, match=r"--plugin: own==1\.1 was planned with"):
        plugins.use_stated(["own==1.1"])
    # It is made where it is named: other studies stay as they were.
    monkeypatch.chdir(ROOT)
    found = Layout(*load_config({"study": "demo"}))
    assert "norms" not in {job.rule for job in found.jobs()}
    assert "norms" not in str(found.facts())


def test_the_checks_of_the_page_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = ModuleType("mine")
    mine.__file__ = "mine.py"
    exec(plugin_page.entries(), vars(mine))
    monkeypatch.setitem(sys.modules, "mine", mine)
    names: dict[str, Any] = {}
    exec(plugin_page.blocks()["test_mine.py"][0], names)
    assert {check_method, check_model, check_dataset} <= {value for value in names.values() if callable(value)}

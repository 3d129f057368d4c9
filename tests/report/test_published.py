"""Methods beside what their authors have published, and the study that asks for it."""

import math
import shutil
from pathlib import Path

import pandas as pd
import pytest
from figures import cases
from typer.testing import CliRunner

from sharpminima.catalogue.methods import METHODS
from sharpminima.catalogue.methods.published import PUBLISHED
from sharpminima.catalogue.methods.search import SweepSettings
from sharpminima.cli import app
from sharpminima.report.published import beside_published
from sharpminima.report.tables import read_table
from sharpminima.study.jobs import Layout
from sharpminima.study.paths import MEASURED_BY_PUBLISHED_RECIPES, PUBLISHED_ERRORS
from sharpminima.study.read import load_config

ROOT = Path(__file__).parents[2]
STUDY = "workflow/studies/methods-published.yaml"
THEIRS = ("lenet300", "snip", "Lee et al.", "", "authors' page")


def mnist(method: str, left: float, error: float, **values: object) -> dict[str, object]:
    """A method's own net of LeNet-300, ``left`` percent dense."""
    share = 1 - left / 100
    key = {"dataset": "mnist", "model": "lenet300", "method": method}
    return cases.result(**{"level": share, "sparsity": share, "test_error_percent": error, **key, **values})


def published(*figures: tuple[float, float]) -> pd.DataFrame:
    """A table of published errors: (density, error), percent."""
    columns = ["model", "method", "source", "reference", "certainty", "density_percent", "error_percent"]
    return pd.DataFrame([(*THEIRS, *figure) for figure in figures], columns=columns)


def test_each_published_error_stands_beside_the_nets_of_the_nearest_density() -> None:
    rows = [mnist("snip", 5, 1.8), mnist("snip", 5, 2.0, seed=1), mnist("snip", 2, 3.0)]
    rows += [mnist("snip", 2, 0.1, dataset="digits"), mnist("rigl", 5, 1.0), mnist("rigl", 2, 2.0)]
    found = beside_published(pd.DataFrame(rows), published((5, 1.6), (2, 2.4)))
    snip = found[found["method"] == "snip"]
    assert snip["published_density_percent"].tolist() == [5, 2]
    assert snip["error_mean"].tolist() == pytest.approx([1.9, 3.0])
    assert snip["error_n"].tolist() == [2, 1]
    assert snip["difference_points"].tolist() == pytest.approx([0.3, 0.6])
    assert snip["outcome"].tolist() == ["within 0.3 points", "higher"]
    (rigl,) = found[found["method"] == "rigl"].itertuples()
    assert (rigl.level, rigl.outcome) == (0.98, "not published")


@pytest.mark.parametrize(
    ("net", "error", "outcome"),
    [
        (mnist("snip", 5, 1.2), 1.6, "lower"),
        (mnist("snip", 3, 2.0), 1.6, "sparser"),
        (mnist("snip", 3, 1.7), 1.6, "within 0.3 points"),
        (mnist("snip", 8, 1.6), 1.6, "denser"),
        (mnist("snip", 5, 1.6, reached=False), 1.6, "not reached"),
        (mnist("snip", 5, 90.0, collapsed=True), 1.6, "collapsed"),
        (mnist("snip", 5, 1.6, sparsity=1.0, collapsed=True), 1.6, "collapsed"),
        (mnist("snip", 5, 1.6), math.nan, "no error published"),
    ],
)
def test_errors_are_compared_where_the_nets_can_be(net: dict, error: float, outcome: str) -> None:
    (row,) = beside_published(pd.DataFrame([net]), published((5, error))).itertuples()
    assert row.outcome == outcome


def test_the_list_of_methods_says_what_published_recipes_came_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("config.yaml", STUDY, PUBLISHED_ERRORS):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, path)
    out = Path(Layout(*load_config({"study": "methods-published"})).table("published"))
    assert "published: 1.6 at" not in CliRunner().invoke(app, ["methods"]).output
    rows = [mnist("snip", 5, 1.7), mnist("snip", 5, 1.9, seed=1), mnist("weight_rewinding", 26, 1.4)]
    results = cases.write(tmp_path, "results", rows)
    made = CliRunner().invoke(
        app, ["published", "--results", str(results), "--errors", PUBLISHED_ERRORS, "--out", str(out), "--markdown"]
    )
    assert made.exit_code == 0, made.output
    # As a page shows it.
    assert made.output.splitlines() == [
        "| method | published, % | left, % | ours, % | left, % | runs | outcome |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| `weight_rewinding`, LeNet-300 | – | – | 1.40 | 26 | 1 | not published |",
        "| `snip`, LeNet-300 (Lee et al.) | 1.60 | 5 | 1.80 ± 0.14 | 5 | 2 | within 0.3 points |",
        "| `snip`, LeNet-300 (Lee et al.) | 2.40 | 2 | 1.80 ± 0.14 | 5 | 2 | denser |",
    ]
    said = CliRunner().invoke(app, ["methods"]).output.splitlines()
    at = next(number for number, line in enumerate(said) if line.startswith("snip ("))
    assert said[at + 4].strip() == "1.80 ± 0.14 % error at 5 % left; published: 1.60 at 5, within 0.3 points"
    assert "    1.40 % error at 26 % left; not published" in said
    # Where the study is not done, what it came to elsewhere.
    out.rename(out.parent / "elsewhere.csv")
    assert "published: 1.60 at" not in CliRunner().invoke(app, ["methods"]).output
    Path(MEASURED_BY_PUBLISHED_RECIPES).parent.mkdir(parents=True)
    (out.parent / "elsewhere.csv").rename(MEASURED_BY_PUBLISHED_RECIPES)
    assert CliRunner().invoke(app, ["methods"]).output.splitlines() == said


def test_the_study_asks_for_every_published_recipe_at_the_densities_of_its_figures() -> None:
    _, study = load_config({"study": "methods-published"})
    errors = read_table("published_errors", PUBLISHED_ERRORS).query("model == 'lenet300'")
    of_lenet5 = {"structured_bayesian", "lobster", "dessilbi"}
    assert {experiment.method.name for experiment in study.experiments} == PUBLISHED.keys() - of_lenet5
    for experiment in study.experiments:
        name = experiment.method.name
        assert experiment.method == type(experiment.method)(name=name, recipe="published")
        figures = set(errors[errors["method"] == name]["density_percent"])
        asked = {round(100 * (1 - level), 2) for level in experiment.levels}
        if figures and isinstance(experiment.method, SweepSettings):  # what it finds is not known before
            assert max(figures) <= min(asked) <= 4 * max(figures), name
        elif figures:
            assert asked == figures, name
        _, epochs = experiment.method.planned_epochs(experiment.levels[:1])
        assert (experiment.seeds == "first") == (epochs > 100), name


def test_the_table_is_made_for_studies_of_methods_on_mnist_alone() -> None:
    made = {name: Layout(*load_config({"study": name})).tables() for name in ("methods", "methods-published", "paper")}
    ends = {name: [Path(path).stem for path in paths] for name, paths in made.items()}
    assert ends == {
        "methods": ["results", "measures", "ranking"],
        "methods-published": ["results", "measures", "ranking", "published"],
        "paper": ["results"],
    }


def test_published_errors_are_of_methods_that_we_have_and_say_how_sure_they_are() -> None:
    errors = read_table("published_errors", PUBLISHED_ERRORS)
    assert set(errors["method"].dropna()) <= set(METHODS)
    assert errors[errors["method"].isna()]["density_percent"].eq(100).all()
    assert set(errors["certainty"]) == {"authors' page", "authors' code", "general knowledge"}
    of_source = errors.dropna(subset="method").set_index("source")["method"]
    assert of_source.filter(like="DNS").unique().tolist() == ["network_surgery"]
    assert of_source.filter(like="soft weight").unique().tolist() == ["soft_weight_sharing"]

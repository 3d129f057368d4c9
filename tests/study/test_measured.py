"""The measured numbers in the documentation are those of the tables beside it."""

import re
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from result_pages import methods
from sharpminima.catalogue.columns import KEY_COLUMNS
from sharpminima.cli import app
from sharpminima.study.read import read_config

PRUNING = Path("src/sharpminima/pruning")
PAGE = Path("docs/results/methods.md")
MEASURED = Path("paper/measured")


def test_the_page_is_that_of_the_tables() -> None:
    assert PAGE.read_text("utf-8") == methods.page(), "python docs/results.py"


def test_the_thesis_table_has_five_runs_a_strategy_at_its_level() -> None:
    results = methods.results_of("thesis-table31")
    assert set(results.strategy) - {"dense", "gradual"} == set(methods.published_accuracies().strategy)
    pruned = results[results.strategy != "dense"]
    assert pruned.sparsity.between(0.9599, 0.9601).all()
    assert (pruned.groupby("strategy")["seed"].nunique() == 5).all()


@pytest.mark.parametrize("study", ["methods-mnist", "methods-epochs"])
def test_each_method_of_a_net_is_measured_in_every_run(study: str) -> None:
    """Of a net that is measured at all: whole nets come when their runs have ended."""
    experiments = read_config(study)[1].experiments
    results = methods.results_of(study).query("strategy == 'gradual'")
    for model, nets in results.groupby("model"):
        wanted = {e.method.name: set(e.levels) for e in experiments if e.model == model}
        assert nets.groupby("method")["level"].agg(set).to_dict() == wanted
        assert (nets.groupby(["method", "level"])["seed"].nunique() == 3).all()


def test_epochs_in_all_are_equal() -> None:
    """LOBSTER's schedule ends by itself, the others spend the whole budget."""
    results = methods.results_of("methods-epochs").query("strategy == 'gradual'")
    assert (results[results.method != "lobster"].epochs == 40).all()


def test_measures_are_of_the_same_nets_as_the_results() -> None:
    key = [*KEY_COLUMNS, "test_wrong", "epochs"]
    results, measures = methods.results_of("methods-mnist"), methods.measures_of("methods-mnist")
    pd.testing.assert_frame_equal(results[key], measures[key])


def test_the_page_shows_what_published_recipes_came_to_and_says_why_some_differ() -> None:
    rows = pd.read_csv(MEASURED / "methods-published.csv")
    text = PAGE.read_text("utf-8")
    section = text[text.index("## By published recipes") :].split("\n## ")[0]
    differing = set(rows[~rows.outcome.isin(["within 0.3 points", "not published"])].method)
    assert differing == set(re.findall(r"^- `(\w+)`", section, re.MULTILINE))


def test_methods_say_how_far_published_recipes_agree() -> None:
    said = CliRunner().invoke(app, ["methods"]).output.splitlines()
    came_to: dict[str, list[str]] = {}
    for line in said:
        if match := re.match(r"(\w+) \(", line):
            name = match[1]
        elif re.match(r"    .* % error at .* % left; ", line):
            came_to.setdefault(name, []).append(line.strip())
    assert set(came_to) == set(pd.read_csv(MEASURED / "methods-published.csv").method)
    sources = " ".join(" ".join(path.read_text("utf-8").split()) for path in PRUNING.rglob("*.py"))
    assert all(". ".join(lines) in sources for lines in came_to.values())


def test_the_epoch_of_resnet32_is_that_of_its_study() -> None:
    measured = pd.read_csv(MEASURED / "resnet32-epoch.csv").set_index("run")
    assert list(measured.index) == ["dense", "lobster"]
    assert (measured.epochs == 1).all()
    text = " ".join(Path("docs/results/paper.md").read_text().split())
    dense, lobster = measured.test_error_percent
    assert f"{dense:.1f} % test error dense, {lobster:.1f} % with LOBSTER" in text

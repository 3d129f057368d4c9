"""The measured numbers in the documentation are those of the tables beside it."""

import re
from pathlib import Path

import pandas as pd
import pytest
from awaited import methods_measured
from typer.testing import CliRunner

from sharpminima.cli import app
from sharpminima.report.methods_table import published_as_markdown

PRUNING = Path("src/sharpminima/pruning")
DOCS = Path("docs/methods.md")
MEASURED = Path("paper/measured")


def _table(title: str) -> list[list[str]]:
    """Cells of the table that starts with ``title``: its header, then its rows."""
    text = DOCS.read_text("utf-8")
    lines = text[text.index(f"| {title} |") :].split("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [rows[0], *rows[2:]]


def test_the_thesis_table_is_that_of_the_runs() -> None:
    results = pd.read_csv(MEASURED / "thesis-table31.csv")
    published = pd.read_csv("paper/published/mikler-table31.csv").set_index("strategy")
    accuracy = 100 - results.set_index("strategy")["test_error_percent"]
    _, *lines = _table("strategy | thesis")
    rows = {name.strip("`"): [float(v) for cell in cells for v in cell.split(" ± ")] for name, *cells in lines}
    assert set(rows) == set(published.index)
    for name, row in rows.items():
        ours = accuracy[name]
        assert len(ours) == 5
        assert row[:2] == published.loc[name, ["accuracy_percent", "spread_percent"]].tolist()
        assert row[2:] == pytest.approx([ours.mean(), ours.std()], abs=5e-4), name
    # Each net is at the level, and each strategy's of another seed.
    pruned = results[results.strategy != "dense"]
    assert pruned.sparsity.between(0.9599, 0.9601).all()
    assert (pruned.groupby("strategy")["seed"].nunique() == 5).all()


_CELL = re.compile(r"([\d.]+)(?: ± ([\d.]+))?(?: \(([\d.]+) % left\))?( ‡)?( †)?")
_NET = re.compile(r"(LeNet-300|LeNet-5), (\d+) %")


def _matches(cell: str, row: pd.Series, level: float, name: object) -> None:
    error, spread, left, collapsed, missed = _CELL.fullmatch(cell).groups()
    assert float(error) == pytest.approx(row.error_mean, abs=6e-3), name
    assert (spread is None) == (row.error_n == 1), name
    assert spread is None or float(spread) == pytest.approx(row.error_sd, abs=6e-3), name
    # What is left is said where it is not what was asked for.
    assert float(left or 100 * (1 - level)) == pytest.approx(row.density_mean, rel=0.06), name
    assert (missed is None) == row.reached, name
    assert (collapsed is not None) == row.get("collapsed", False), name  # ‡; older tables do not say


def test_the_table_of_methods_is_that_of_the_runs() -> None:
    ranked = pd.read_csv(MEASURED / "methods-mnist.csv").set_index(["model", "level", "method"]).sort_index()
    header, *rows = _table("method | LeNet-300, 95 %")
    nets = [_NET.fullmatch(name).groups() for name in header[1:-1]]
    keys = [(model.lower().replace("-", ""), int(level) / 100) for model, level in nets]
    assert set(keys) == {key[:2] for key in ranked.index}
    assert {row[0].strip("`") for row in rows} == methods_measured() == set(ranked.index.unique("method"))
    for name, *errors, _ in rows:
        for key, cell in zip(keys, errors, strict=True):
            _matches(cell, ranked.loc[(*key, name.strip("`"))], key[1], (name, key))


def test_the_table_of_equal_epochs_is_that_of_the_runs() -> None:
    ranked = pd.read_csv(MEASURED / "methods-epochs.csv").set_index(["model", "method"])
    assert set(ranked.index.unique("method")) == methods_measured()
    # LOBSTER's schedule ends by itself, the others spend the whole budget.
    assert (ranked.drop("lobster", level="method").epochs_mean == 40).all()
    assert (ranked.error_n == 3).all()
    _, *rows = _table("test error, % | LeNet-300, digits")
    assert rows
    for name, *errors in rows:
        for model, cell in zip(("lenet300", "lenet5"), errors, strict=True):
            _matches(cell, ranked.loc[(model, name.strip("`"))], 0.98, (name, model))


def test_published_errors_stand_beside_those_of_the_runs() -> None:
    published = pd.read_csv("paper/published/mnist-pruned.csv")
    ranked = pd.read_csv(MEASURED / "methods-mnist.csv")
    _, *rows = _table("method | published error, %")
    assert rows
    for name, theirs, left, ours in rows:
        method, source, model = re.fullmatch(r"`(\w+)` \((.+)\), (LeNet-\d+)", name).groups()
        found = published[(published.method == method) & (published.source == source)]
        found = found[found.model == model.lower().replace("-", "")]
        assert [float(theirs), float(left)] in found[["error_percent", "density_percent"]].to_numpy().tolist(), name
        nets = ranked[(ranked.method == method) & (ranked.model == found.model.iloc[0])]
        assert any(f"{row.error_mean:.2f}" == ours.split(" ")[0] for row in nets.itertuples()), name


def test_the_page_shows_what_published_recipes_came_to_and_says_why_some_differ() -> None:
    rows = pd.read_csv(MEASURED / "methods-published.csv")
    text = DOCS.read_text("utf-8")
    section = text[text.index("### By published recipes") :].split("\n### ")[0]
    assert published_as_markdown(rows) in section
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


def test_the_errors_by_the_authors_recipe_are_those_of_the_trials() -> None:
    trials = pd.read_csv(MEASURED / "authors-recipe.csv").query("initialisation == 'default'")
    published = pd.read_csv("paper/published/mnist-pruned.csv").query("model == 'lenet300'")
    published = published.set_index(["method", "density_percent"]).error_percent
    _, *rows = _table("method at | published | as above")
    shown = {}
    for name, *errors in rows:
        method, left = re.fullmatch(r"`(\w+)`, (\d+) %", name).groups()
        theirs, *ours = map(float, errors)
        assert theirs == published[method, int(left)]
        shown[method, 100 - int(left)] = ours
    # In the order of the columns: plain, with momentum, with weight decay too.
    trials = trials.sort_values(["momentum", "weight_decay"])
    found = trials.groupby([trials.method, (100 * trials.sparsity).round()]).test_error_percent.apply(list)
    assert shown == found.to_dict()


def test_the_epoch_of_resnet32_is_that_of_its_study() -> None:
    measured = pd.read_csv(MEASURED / "resnet32-epoch.csv").set_index("run")
    assert list(measured.index) == ["dense", "lobster"]
    assert (measured.epochs == 1).all()
    text = " ".join(Path("docs/results/paper.md").read_text().split())
    dense, lobster = measured.test_error_percent
    assert f"{dense:.1f} % test error dense, {lobster:.1f} % with LOBSTER" in text

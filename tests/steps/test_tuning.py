"""Trials of settings, called as the command line does, on the real digits."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from sharpminima.base.errors import ConfigError
from sharpminima.base.files import write_text
from sharpminima.cli import app
from sharpminima.data import prepare_dataset
from sharpminima.nets.checkpoint import read_metadata
from sharpminima.pruning import METHODS
from sharpminima.steps import init, tuning
from sharpminima.steps.job import Runtime
from sharpminima.study.read import parse_settings, read_config
from sharpminima.study.schema import MethodChoice

BASE = {"name": "lobster", "batch_size": 50, "lambda": 4e-3, "pwe": 2, "max_epochs": 12}


@pytest.fixture
def start(digits: Path, tmp_path: Path) -> Path:
    path = tmp_path / "init.safetensors"
    arguments = ["init", "--data", digits, "--model", "lenet300", "--seed", 9, "--out", path]
    assert CliRunner().invoke(app, [str(a) for a in arguments]).exit_code == 0
    return path


def test_each_combination_is_a_trial_and_nothing_of_the_test_split_is_shown(
    digits: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "trials"
    arguments = ["tune", "--data", digits, "--init", start, "--settings", json.dumps(BASE), "--device", "cpu"]
    arguments += ["--grid", "{twt: [0.3, 0.6], pwe: [1, 2]}", "--level", 0.2, "--level", 0.9999, "--out", out]
    first = CliRunner().invoke(app, [str(a) for a in arguments])
    assert first.exit_code == 0, first.output
    table = pd.read_csv(out / "trials.csv")
    assert len(table) == 2 * 2 * 2
    assert sorted({(row.twt, row.pwe) for row in table.itertuples()}) == [(0.3, 1), (0.3, 2), (0.6, 1), (0.6, 2)]
    assert not [name for name in table.columns if "test" in name]
    row = table[(table.twt == 0.6) & (table.pwe == 1) & (table.level == 0.2)].iloc[0]
    facts = read_metadata(out / "twt=0.6,pwe=1/level-20/gradual/seed-9/checkpoint.safetensors")
    assert facts["settings"]["twt"] == 0.6
    assert row.validation_error_percent == pytest.approx(
        100 * facts["metrics"][0]["validation_wrong"] / facts["metrics"][0]["validation_images"]
    )
    # What is done is not done again.
    monkeypatch.setattr(tuning, "prune", lambda *_: pytest.fail("trained again"))
    again = CliRunner().invoke(app, [str(a) for a in arguments])
    assert again.exit_code == 0, again.output
    pd.testing.assert_frame_equal(pd.read_csv(out / "trials.csv"), table)


def test_a_trial_is_not_taken_for_one_of_other_settings_data_w0_or_levels(
    digits: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one folder, with one grid: whatever a trial depends on makes it anew."""
    method = MethodChoice.model_validate({"name": "snip", "recipe": {"max_epochs": 1}}).root
    grid, out, calls = {"samples_per_class": [10]}, tmp_path / "trials", []
    prune = tuning.prune
    monkeypatch.setattr(tuning, "prune", lambda *given: (calls.append(given), prune(*given)))
    usual: dict[str, Any] = {"data": digits, "start": start, "levels": [0.5], "runtime": Runtime("cpu", 1)}
    prepare_dataset("digits", tmp_path / "other", seed=1, progress=lambda _: None)
    for data, seed, place in ((digits, 8, "w0"), (tmp_path / "other", 9, "w0-other")):
        init.init(data, "lenet300", seed, tmp_path / place)
    given = [
        usual,
        usual | {"levels": [0.4, 0.5]},
        usual | {"runtime": Runtime("cpu", 1, compaction=False)},
        usual | {"start": tmp_path / "w0"},
        usual | {"data": tmp_path / "other", "start": tmp_path / "w0-other"},
    ]
    for number, changed in enumerate(given, start=1):
        for _ in range(2):
            tuning.Tuning(out=out, **changed).one(method, grid)
            assert len(calls) == number
    again = method.model_copy(update={"recipe": method.recipe.model_copy(update={"lr": 0.2})})
    tuning.Tuning(out=out, **given[-1]).one(again, grid)
    assert len(calls) == len(given) + 1
    write_text(out / "samples_per_class=10/trial.json", "{")
    tuning.Tuning(out=out, **given[-1]).one(again, grid)
    assert len(calls) == len(given) + 2


def test_a_plan_has_its_own_grids(digits: Path, start: Path, tmp_path: Path) -> None:
    arguments = ["tune", "--data", digits, "--init", start, "--level", 0.5, "--out", tmp_path, "--plan", "{}"]
    for option in ("--grid", "--settings"):
        done = CliRunner().invoke(app, [*map(str, arguments), option, "{twt: [0.1]}"])
        assert isinstance(done.exception, ConfigError)
        assert str(done.exception).startswith(f"{option} beside --plan")


@pytest.mark.parametrize(
    ("grid", "said"), [({}, "--grid"), ({"twt": 0.5}, "list of values"), ({"twt": [-1.0]}, "--grid: twt")]
)
def test_a_grid_that_makes_no_sense(grid: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        list(tuning.trials(MethodChoice.model_validate(BASE).root, grid))


def test_a_plan_gives_each_method_the_same_number_of_trials_and_marks_the_best(
    digits: Path, start: Path, tmp_path: Path
) -> None:
    search = {"batch_size": 50, "epochs": 2, "recipe": {"batch_size": 50, "max_epochs": 2}}
    plan = {
        "trials": 2,
        "methods": [
            {"method": {"name": "l1", **search}, "grid": {"strength": [1e-4, 10.0]}},
            {"method": {"name": "dst", **search}, "grid": {"strengths": [[1e-3], [3e-1]]}},
        ],
    }
    out = tmp_path / "trials"
    arguments = ["tune", "--data", digits, "--init", start, "--plan", json.dumps(plan), "--device", "cpu"]
    arguments += ["--level", 0.3, "--level", 0.9, "--out", out]
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    table = pd.read_csv(out / "trials.csv")
    assert table.groupby("method")["trial"].nunique().to_dict() == {"l1": 2, "dst": 2}
    assert not [name for name in table.columns if "test" in name]
    dial = table[table.method == "l1"]
    means = dial.groupby("tried")["validation_error_percent"].mean()
    assert set(dial[dial.chosen].tried) == {means.idxmin()} == {'{"strength": 0.0001}'}
    assert dial.chosen.sum() == 2
    assert dial[dial.tried == '{"strength": 10.0}'].fault.str.contains("diverged").all()
    swept = table[table.method == "dst"]
    for level, rows in swept.groupby("level"):
        (best,) = rows[rows.chosen].itertuples()
        able = rows[rows.reached]
        expected = able.validation_error_percent.min() if len(able) else None
        assert best.validation_error_percent == expected if len(able) else best.sparsity == rows.sparsity.max(), level


def test_an_unfair_plan_is_refused() -> None:
    plan = {"trials": 3, "methods": [{"method": {"name": "l1"}, "grid": {"strength": [1e-4, 1e-3]}}]}
    with pytest.raises(ConfigError, match="l1 has 2 trials, 3 are planned for each method"):
        parse_settings(tuning.TuningPlan, json.dumps(plan), "--plan")


def test_the_study_on_mnist_has_the_settings_that_its_trials_chose() -> None:
    """Of `methods-mnist`, all that was tuned: paper/tuning/methods.csv holds the trials of methods.yaml."""
    plan = parse_settings(tuning.TuningPlan, "paper/tuning/methods.yaml", "--plan")
    table = pd.read_csv("paper/tuning/methods.csv")
    tried = table[["method", "trial", "tried"]].drop_duplicates()
    expected = {}
    for planned in plan.methods:
        found = [chosen for chosen, _ in tuning.trials(planned.method, planned.grid)]
        expected[planned.method.name] = [json.dumps(chosen, sort_keys=True) for chosen in found]
    assert tried.groupby("method")["tried"].apply(list).to_dict() == expected
    study = read_config("methods-mnist")[1]
    assert not set(table["seed"]) & set(study.seeds)
    assert {e.method.name for e in study.experiments} == set(METHODS)
    for experiment in study.experiments:
        name = experiment.method.name
        if name not in expected:
            continue
        chosen = [json.loads(text) for text in table[(table.method == name) & table.chosen]["tried"]]
        settings = experiment.method.model_dump(mode="json", by_alias=True)
        if "strengths" in settings:
            assert settings["strengths"] == sorted({one for each in chosen for one in each["strengths"]})
        else:
            assert any(each.items() <= settings.items() for each in chosen), name

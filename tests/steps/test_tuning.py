"""Trials of settings, called as the command line does, on the real digits."""

import itertools
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from sharpminima.base.errors import ConfigError, TrainingError
from sharpminima.base.files import read_json, sha256_file, write_json, write_text
from sharpminima.catalogue.methods import METHODS
from sharpminima.catalogue.recipes import RecipeSettings
from sharpminima.cli import app
from sharpminima.data import load_prepared, prepare_dataset
from sharpminima.nets.checkpoint import read_metadata
from sharpminima.steps import entropy_trials, init, tuning
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_trial_is_not_taken_for_one_of_other_settings_data_w0_or_levels(
    digits: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one folder, with one grid: whatever a trial depends on makes it anew."""
    method = MethodChoice.model_validate({"name": "snip", "recipe": {"max_epochs": 1}}).root
    grid, out, calls = {"samples_per_class": [10]}, tmp_path / "trials", []
    prune = tuning.prune
    monkeypatch.setattr(tuning, "prune", lambda *given: (calls.append(given), prune(*given)))
    usual: dict[str, Any] = {"data": digits, "w0": start, "levels": [0.5], "runtime": Runtime("cpu", 1)}
    prepare_dataset("digits", tmp_path / "other", seed=1, progress=lambda _: None)
    for data, seed, place in ((digits, 8, "w0"), (tmp_path / "other", 9, "w0-other")):
        init.init(data, "lenet300", seed, tmp_path / place)
    given = [
        usual,
        usual | {"levels": [0.4, 0.5]},
        usual | {"runtime": Runtime("cpu", 1, compaction=False)},
        usual | {"w0": tmp_path / "w0"},
        usual | {"data": tmp_path / "other", "w0": tmp_path / "w0-other"},
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_net_that_has_collapsed_is_not_chosen(digits: Path, start: Path, tmp_path: Path) -> None:
    """At .3 every gate closes: the level is reached by a constant, which says nothing of a strength."""
    search = {"batch_size": 50, "epochs": 8, "gate_lr": 0.05, "recipe": {"batch_size": 50, "max_epochs": 1}}
    grid = {"strengths": [[0.01], [0.03], [1.0]]}
    plan = {"trials": 3, "methods": [{"method": {"name": "l0", **search}, "grid": grid}]}
    tuning.Tuning(digits, start, [0.98], tmp_path, Runtime("cpu", 1)).all(tuning.TuningPlan.model_validate(plan))
    table = pd.read_csv(tmp_path / "trials.csv")
    assert list(table.reached) == list(table.collapsed) == [False, False, True]
    assert list(table.chosen) == [False, True, False]
    assert table.sparsity[1] > table.sparsity[0], "else the sparsest of the others is not seen"


def test_an_unfair_plan_is_refused() -> None:
    plan = {"trials": 3, "methods": [{"method": {"name": "l1"}, "grid": {"strength": [1e-4, 1e-3]}}]}
    with pytest.raises(ConfigError, match="l1 has 2 trials, 3 are planned for each method"):
        parse_settings(tuning.TuningPlan, json.dumps(plan), "--plan")


def planned(name: str) -> dict[str, list[Any]]:
    """Method -> its trials' settings, of a plan in paper/tuning, which is a fair one."""
    plan = parse_settings(tuning.TuningPlan, f"paper/tuning/{name}.yaml", "--plan")
    found = {each.method.name: [method for _, method in tuning.trials(each.method, each.grid)] for each in plan.methods}
    assert len(found) == len(plan.methods)
    return found


#: By its defaults gimp is weight_rewinding; the others do nothing of their own in linear layers.
TWICE = {"lenet300": {"kernels", "intra_kernel", "shift_attention"}, "lenet5": {"gimp"}}
#: Plans, and tables of trials, that chose a net's settings.
CHOSEN_BY = {"lenet300": ("methods", "second-shelf"), "lenet5": ("lenet5",)}


def strengths_of(trials: pd.DataFrame) -> list[float]:
    """Those chosen at the levels tried; of trials at 98 % alone, beside it the best of what leaves 5 % or less."""
    taken = [json.loads(text) for text in trials[trials.chosen]["tried"]]
    if set(trials["level"]) == {0.98}:
        able = trials[~trials.collapsed & (trials.sparsity >= 0.95)]
        taken.append(json.loads(able.loc[able.validation_error_percent.idxmin(), "tried"]))
    return sorted({one for each in taken for one in each["strengths"]})


@pytest.mark.parametrize("model", ["lenet300", "lenet5"])
def test_the_study_on_mnist_has_the_settings_that_its_trials_chose(model: str) -> None:
    """Of `methods-mnist`, all that was tuned: methods.csv holds the trials of methods.yaml, and so on."""
    names = CHOSEN_BY[model]
    table = pd.concat([pd.read_csv(f"paper/tuning/{name}.csv") for name in names])
    plans = [parse_settings(tuning.TuningPlan, f"paper/tuning/{name}.yaml", "--plan") for name in names]
    assert len({plan.trials for plan in plans}) == 1
    tried = table[["method", "trial", "tried"]].drop_duplicates()
    expected = {}
    for each in itertools.chain.from_iterable(plan.methods for plan in plans):
        found = [chosen for chosen, _ in tuning.trials(each.method, each.grid)]
        expected[each.method.name] = [json.dumps(chosen, sort_keys=True) for chosen in found]
    assert tried.groupby("method")["tried"].apply(list).to_dict() == expected
    study = read_config("methods-mnist")[1]
    assert not set(table["seed"]) & set(study.seeds)
    experiments = [e for e in study.experiments if e.model == model]
    assert {e.method.name for e in experiments} == METHODS.keys() - TWICE[model]
    for experiment in experiments:
        name = experiment.method.name
        if name not in expected:
            continue
        mine = table[table.method == name]
        chosen = [json.loads(text) for text in mine[mine.chosen]["tried"]]
        settings = experiment.method.model_dump(mode="json", by_alias=True)
        if "strengths" in settings:
            assert settings["strengths"] == strengths_of(mine), name
        else:
            assert any(each.items() <= settings.items() for each in chosen), name


def test_lenet5_has_trials_of_every_method_with_something_to_choose_within_eight_hours() -> None:
    free = {"strength", "strengths", "mu", "lambda_", "nu", "rate", "alpha", "attention_lr"}
    tunable = {name for name, method in METHODS.items() if free & method.settings.model_fields.keys()}
    trials = planned("lenet5")
    assert trials.keys() == tunable | {"global_sparse_momentum"}
    first, second = planned("methods").keys(), planned("second-shelf").keys()
    assert not first & second
    assert trials.keys() == first | second | {"shift_attention"}  # which has nothing to attend to in LeNet-300
    epochs = sum(method.planned_epochs((0.98,))[1] for methods in trials.values() for method in methods)
    assert epochs == 1330  # as the plan's comment says
    assert 20 * epochs < 8 * 3600  # seconds, at 20 an epoch
    # A strength acts on the steps of a search: they are those of the study.
    searches = {e.method.name: e.method for e in read_config("methods-mnist")[1].experiments if e.model == "lenet5"}
    for name in trials.keys() & searches.keys() - {"lobster", "supermask", "edge_popup", "obs"}:  # obs has none
        assert {method.epochs for method in trials[name]} == {searches[name].epochs}, name


@pytest.mark.slow
def test_entropy_trials_choose_by_the_validation_loss_and_are_not_run_again(
    digits: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "trials"
    arguments = ["tune-entropy", "--data", digits, "--init", start, "--device", "cpu", "--out", out]
    arguments += ["--settings", "{batch_size: 50, max_epochs: 3}", "--grid", "{beta: [0, 0.1, -0.1]}"]
    first = CliRunner().invoke(app, [str(a) for a in arguments])
    assert first.exit_code == 0, first.output
    table = pd.read_csv(out / "trials.csv")
    assert list(table["beta"]) == [0, 0.1, -0.1]
    assert not [column for column in table if "test" in column]
    able = table[table["beta"] != 0]
    assert list(table["chosen"]) == list(table["validation_loss_nats"] == able["validation_loss_nats"].min())
    low, plain, high = (table.set_index("beta")["entropy_1_bits"][beta] for beta in (-0.1, 0, 0.1))
    assert low < plain < high
    monkeypatch.setattr(entropy_trials, "dense", lambda *_, **__: pytest.fail("a trial that is done was run again"))
    again = CliRunner().invoke(app, [str(a) for a in arguments])
    assert again.exit_code == 0, again.output
    pd.testing.assert_frame_equal(pd.read_csv(out / "trials.csv"), table)


def test_an_entropy_trial_is_not_taken_for_one_of_another_w0_or_another_runtime(
    digits: Path, start: Path, tmp_path: Path
) -> None:
    """In one folder, with one grid: whatever a trial depends on makes it anew."""
    init.init(digits, "lenet3", 8, tmp_path / "w0")
    recipe, grid = RecipeSettings(batch_size=500, max_epochs=1), entropy_trials.EntropyGrid(beta=(0.1,))
    found = []
    for w0, compaction in ((start, True), (tmp_path / "w0", True), (tmp_path / "w0", False)):
        runtime = Runtime("cpu", 1, compaction)
        entropy_trials.entropy_trials(digits, w0, recipe, grid, tmp_path / "trials", runtime)
        (row,) = pd.read_csv(tmp_path / "trials/trials.csv").itertuples()
        metadata = read_metadata(tmp_path / "trials/beta=0.1,tau=1/checkpoint.safetensors")
        found.append((row.model, row.seed, metadata["runtime"]["compaction"]))
    assert found == [("lenet300", 9, True), ("lenet3", 8, True), ("lenet3", 8, False)]


def test_a_trial_that_diverged_is_not_run_again(
    digits: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def diverge(step: str) -> Any:
        def run(*_: Any, **__: Any) -> None:
            calls.append(step)
            raise TrainingError("the training diverged")

        return run

    monkeypatch.setattr(tuning, "prune", diverge("prune"))
    monkeypatch.setattr(entropy_trials, "dense", diverge("dense"))
    method, runtime = MethodChoice.model_validate({"name": "snip"}).root, Runtime("cpu", 1)
    grid = entropy_trials.EntropyGrid(beta=(0.1,))
    for _ in range(2):
        tuning.Tuning(digits, start, [0.5], tmp_path / "a", runtime).one(method, {"samples_per_class": [10]})
        entropy_trials.entropy_trials(digits, start, RecipeSettings(), grid, tmp_path / "b", runtime)
        assert calls == ["prune", "dense"]
        for folder in ("a", "b"):
            assert list(pd.read_csv(tmp_path / folder / "trials.csv")["fault"]) == ["the training diverged"]


def test_a_stored_trial_is_still_taken_as_done(
    digits: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record has the keys of those of the trials in paper/tuning, and no others."""
    method = MethodChoice.model_validate({"name": "snip", "recipe": {"max_epochs": 1}}).root
    trials = tuning.Tuning(digits, start, [0.5], tmp_path, Runtime("cpu", 1))
    trials.one(method, {"samples_per_class": [10]})
    (path,) = tmp_path.glob("*/trial.json")
    stored = {
        "data_sha256": load_prepared(digits).sha256,
        "levels": [0.5],
        "runtime": {
            "compaction": True,
            "device": "cpu",
            "precision": "float32",
            "replica_strategy": "auto",
            "threads": 1,
        },
        "settings": method.model_dump(mode="json", by_alias=True) | {"samples_per_class": 10},
        "w0_sha256": sha256_file(start),
    }
    assert read_json(path) == stored
    write_json(path, stored)
    monkeypatch.setattr(tuning, "prune", lambda *_: pytest.fail("trained again"))
    trials.one(method, {"samples_per_class": [10]})


@pytest.mark.parametrize(
    ("option", "said"), [(["--device", "cuda"], "cuda asked for"), (["--precision", "tf32"], "tf32 asked for")]
)
@pytest.mark.parametrize(("command", "grid"), [("tune-entropy", "{beta: [0.1]}"), ("tune", "{twt: [0.3]}")])
def test_a_machine_that_cannot_compute_so_is_no_result_of_a_trial(
    digits: Path,
    start: Path,
    tmp_path: Path,
    option: list[str],
    said: str,
    command: str,
    grid: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    arguments = [command, "--data", digits, "--init", start, "--grid", grid, "--out", tmp_path / "out", *option]
    arguments += ["--level", 0.5] if command == "tune" else []
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert isinstance(done.exception, TrainingError)
    assert said in str(done.exception)
    assert not (tmp_path / "out/trials.csv").exists()

"""Paths and jobs of a study."""

from pathlib import Path

import pytest
import yaml

from sharpminima.base.errors import ConfigError
from sharpminima.study.costs import Costs
from sharpminima.study.jobs import Layout
from sharpminima.study.plan import all_steps
from sharpminima.study.read import load_config
from sharpminima.study.schema import Config


def layout(study: str) -> Layout:
    return Layout(*load_config({**yaml.safe_load(Path("config.yaml").read_text(encoding="utf-8")), "study": study}))


def test_below_a_level_replicas_keep_no_weights() -> None:
    found = layout("paper")
    experiment = found.study.experiments[0]
    levels = {name: found.weights(experiment, name, 0) for name in found.level_names(experiment)}
    assert [name for name, kept in levels.items() if kept == "first"] == ["70", "80"]
    jobs = {job.outputs[0]: job.settings for job in found.training_jobs() if job.rule == "retrain"}
    of_first = {path: value for path, value in jobs.items() if "/lenet300/" in path and "/seed-0/" in path}
    settings = {path.split("/level-")[1][:2]: value for path, value in of_first.items()}
    assert settings["80"]["weights"] == "first"
    assert "weights" not in settings["90"]


def test_an_experiment_may_train_in_a_precision_of_its_own() -> None:
    config, study = load_config({"study": "demo"})
    asked = [e.model_copy(update={"precision": "bfloat16"} if e.model == "lenet5" else {}) for e in study.experiments]
    mixed = Layout(config, study.model_copy(update={"experiments": tuple(asked)}))
    trained = [job for job in mixed.training_jobs() if job.rule in ("dense", "prune", "retrain", "transfer")]
    assert {job.rule for job in trained} == {"dense", "prune", "retrain", "transfer"}
    for job in trained:
        assert job.settings.get("precision") == ("bfloat16" if job.key["model"] == "lenet5" else None)
    everywhere = layout("demo").config.model_copy(update={"precision": "bfloat16"})
    jobs = Layout(everywhere, study).training_jobs()
    assert {job.rule for job in jobs if "precision" in job.settings} == {"dense", "prune", "retrain", "transfer"}


def test_dvc_looks_at_each_entry_of_the_config_on_which_trainings_depend() -> None:
    (settings, _) = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]["settings"]["params"]
    assert set(settings["config.yaml"]) == set(Config.model_fields) - {"study", "data", "results"}


def test_a_study_may_keep_the_weights_of_the_highest_level_alone() -> None:
    found = layout("paper")
    settings = {job.outputs[0].removeprefix("results/paper/runs/"): job.settings for job in found.training_jobs()}
    run = "mnist/lenet5/lobster"
    assert settings["mnist/lenet5/dense/seed-3/checkpoint.safetensors"]["weights"] == "none"
    assert settings[f"{run}/level-80/gradual/seed-3/checkpoint.safetensors"]["weights"] == "highest"
    assert settings[f"{run}/level-99.3/rewind/seed-3/checkpoint.safetensors"]["weights"] == "none"
    assert "weights" not in settings[f"{run}/level-99.57/rewind/seed-3/checkpoint.safetensors"]
    moved = {seed: {key["strategy"] for key, *_ in found.transfers() if key["seed"] == seed} for seed in (2, 3)}
    assert moved[2] - moved[3] == {"dense"}, "runs 0 to 2 keep all"
    assert "weights" not in settings["mnist/lenet5/dense/seed-2/checkpoint.safetensors"]
    assert Costs(found).disk_mb()[0] < 200


def test_one_study_may_hold_runs_of_two_policies(tmp_path: Path) -> None:
    """Three runs, seven more of which less is drawn and kept, and both as one study: so that none is done again."""
    text = Path("workflow/studies/paper.yaml").read_text(encoding="utf-8")
    once = {"seeds": "all", "levels": "highest"}
    later = {"rewind": {"seeds": "all"}, "rewind-long": once, "reinit": once, "random-structure": once}
    found = {}
    for name, seeds in (("first", range(3)), ("later", range(3, 10)), ("both", range(10))):
        study = yaml.safe_load(text)
        study["seeds"] = list(seeds)
        for experiment in study["experiments"]:
            fashion = experiment["dataset"] == "fashion-mnist"
            drawn = {"replicas": 10, **({"others": {"levels": "highest"}} if name == "both" else {})}
            for key in ("weights", "keep_all", "seeds"):
                experiment.pop(key, None)
            experiment["maps"] = {"first": [0], "later": [3, 4], "both": [0, 3, 4]}[name]
            experiment["analysis"] = {"line": {"images": 10000}}
            experiment["strategies"] = experiment["strategies"] | {"reinit": drawn, "random-structure": drawn}
            if name == "later":
                experiment |= {"weights": "highest", "strategies": later, "seeds": 5 if fashion else "all"}
                del experiment["weights_from"]
            if name == "both":
                experiment |= {"weights": "highest", "keep_all": 3, "seeds": 8 if fashion else "all"}
        study |= {"figures": ["fig1"], "paper": False, "focus": None}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
        found[name] = jobs_of(layout(str(tmp_path / f"{name}.yaml")))
    parts, whole = found["first"] | found["later"], found["both"]
    assert {files: whole[files] for files in parts} == parts
    more = sorted(whole.keys() - parts.keys())
    draws = [files for files in more if "/reinit/seed-" in files or "/random-structure/seed-" in files]
    assert {path.split("seed-")[1][0] for path in draws} == {"1", "2"}, "draws at the masks of runs 1 and 2"
    assert more == draws


def jobs_of(found: Layout) -> dict[str, dict]:
    """Files -> settings of the jobs up to the checkpoints and analyses, without the study's name."""
    jobs = [job for job in found.jobs() if job.rule not in ("table", "numbers")]
    return {" ".join(job.outputs).replace(found.root, ""): job.settings for job in jobs}


def test_the_focus_is_an_experiment_with_an_analysis(tmp_path: Path) -> None:
    one = {"dataset": "digits", "model": "lenet300", "levels": [0.5]}
    analysed = {"strategies": {"rewind": {"seeds": "all"}}, "analysis": {}}
    experiments = [{**one, "method": {"name": "snip"}}, {**one, "method": {"name": "lobster"}, **analysed}]
    focus = {"dataset": "digits", "model": "lenet300"}
    study = tmp_path / "two.yaml"
    study.write_text(yaml.safe_dump({"title": "t", "experiments": experiments, "figures": ["fig2"], "focus": focus}))
    found = Layout(*load_config({"study": str(study)}))
    assert found.focus()[0].method.name == "lobster"
    assert [job.key["method"] for job in found.measurements()] == ["lobster"] * 5
    assert "method" not in found.facts()["focus"], "the settings of studies that do not choose are what they were"


def test_the_focus_chooses_among_methods(tmp_path: Path) -> None:
    one = {"dataset": "digits", "model": "lenet300", "levels": [0.5]}
    one |= {"strategies": {"rewind": {"seeds": "all"}}, "analysis": {}}
    experiments = [{**one, "method": {"name": name}} for name in ("snip", "lobster")]
    focus = {"dataset": "digits", "model": "lenet300"}
    study = tmp_path / "two.yaml"
    for chosen, shown in (({}, "snip"), ({"method": "lobster"}, "lobster")):
        said = {"title": "t", "experiments": experiments, "figures": ["fig2"], "focus": focus | chosen}
        study.write_text(yaml.safe_dump(said))
        found = Layout(*load_config({"study": str(study)}))
        assert found.focus()[0].method.name == shown
        assert all(f"/{shown}/" in path for path in found.tables_of("fig2"))


def test_an_analysis_measures_the_dense_net_where_it_is_asked_to(tmp_path: Path) -> None:
    one = {"dataset": "digits", "model": "lenet300", "method": {"name": "lobster"}, "levels": [0.5]}
    experiment = {**one, "strategies": {"rewind": {"seeds": "all"}}, "analysis": {"psp": {"dense": True}}}
    study = tmp_path / "dense.yaml"

    def found(**more: object) -> Layout:
        said = {"title": "t", "experiments": [{**experiment, **more}], "figures": ["fig1"], "paper": False}
        study.write_text(yaml.safe_dump(said))
        return layout(str(study))

    jobs = {job.rule: job for job in found().measurements()}
    dense = found().dense(dataset="digits", model="lenet300", seed=0)
    assert jobs["psp"].inputs[-1] == dense
    assert dense not in jobs["hessian"].inputs
    assert jobs["psp"].settings["dense"] is True
    assert "dense" not in jobs["hessian"].settings  # older records are without
    costs, plain = (Costs(one) for one in (found(), found(analysis={})))
    key = {"dataset": "digits", "model": "lenet300", "method": "lobster"}
    assert costs.analyse("psp", **key).expected_s > plain.analyse("psp", **key).expected_s
    with pytest.raises(
        ConfigError, match=r"analysis\.psp\.dense: the dense net of run 0 keeps no weights; .*keep_all: 1"
    ):
        found(weights="highest")
    assert len(list(found(weights="highest", keep_all=1).measurements())) == len(jobs)


def test_methods_share_the_dense_nets_of_their_dataset_and_model() -> None:
    paths = layout("criteria").checkpoints()
    assert len(paths) == len(set(paths)) == 1 + 3 * 4 * 4  # dense; 3 methods, 4 levels, the method and 3 strategies


def test_transfers_are_of_the_highest_level_and_of_the_runs_there_are() -> None:
    found = layout("demo")
    runs, cells = "results/demo/runs/digits-low/lenet300", "lobster/level-95"
    cell = f"{runs}/{cells}/{{}}/seed-{{}}/{{}}"
    dense = f"{runs}/dense/seed-{{}}/{{}}"
    expected = [
        *(dense.format(seed, "transfer-digits-high.csv") for seed in (0, 1, 2)),
        *(cell.format("gradual", seed, "transfer-digits-high.csv") for seed in (0, 1, 2)),
        *(cell.format("rewind", seed, "transfer-digits-high.csv") for seed in (0, 1, 2)),
        cell.format("random-structure", 0, "transfer-digits-high.csv"),  # its replicas are of one run
    ]
    assert found.transfer_tables() == expected
    jobs = {job.outputs[0]: job for job in found.training_jobs() if job.rule == "transfer"}
    assert list(jobs) == expected
    assert jobs[expected[3]].inputs == (
        "results/demo/data/digits-high.safetensors",
        cell.format("gradual", 0, "checkpoint.safetensors"),
    )
    # The recipe of fine-tuning is that of the experiment's dense training.
    assert jobs[expected[0]].settings["finetune"]["max_epochs"] == 20
    assert found.datasets() == ["digits", "digits-high", "digits-low"]


def test_maps_are_made_where_figures_show_them_and_where_an_experiment_asks(tmp_path: Path) -> None:
    def made(analysis: dict[str, dict] | None = None, **runs: int | str | list[int]) -> Layout:
        study = yaml.safe_load(Path("workflow/studies/demo.yaml").read_text())
        assert study["focus"]["model"] == "lenet5"
        for experiment in study["experiments"]:
            experiment["analysis"] = analysis or {}
            if experiment["model"] in runs:
                experiment["maps"] = runs[experiment["model"]]
        path = tmp_path / "mapped.yaml"
        path.write_text(yaml.safe_dump({**study, "seeds": [6, 2, 4]}))
        return layout(str(path))

    def runs(paths: list[str]) -> list[tuple[str, str]]:
        return [(path.split("/")[5], path.partition("seed-")[2][0]) for path in paths]

    def measured(found: Layout, name: str) -> list[tuple[str, str]]:
        return runs([job.outputs[0] for job in found.measurements() if job.rule == name])

    of_focus = [("lenet5", "6"), ("lenet5", "2"), ("lenet5", "4")]
    found = made()
    assert runs(found.map_tables("surface")) == measured(found, "surface") == of_focus[:1]
    assert measured(found, "line") == of_focus
    assert set(runs(found.map_tables("line"))) == set(of_focus)
    found = made(lenet5=2, lenet300="first")
    assert found.figure_tables("fig3") == {"surface": found.map_tables("surface")[0]}
    read = set(found.analysis_jobs()[-1].inputs)  # the numbers of the paper
    assert {*found.map_tables("surface"), *found.map_tables("line")} <= read
    assert set(runs(found.map_tables("surface"))) == {*of_focus[:2], ("lenet300", "6")}
    assert set(measured(found, "surface")) == set(runs(found.map_tables("surface")))
    assert set(measured(found, "line")) == {*of_focus[:2], ("lenet300", "6")}, "lines are dear too"
    assert measured(found, "neurons") == of_focus[:1]
    assert runs(made(lenet5="all").map_tables("surface")) == of_focus
    # Lines of some of the mapped runs; of none but those, whatever the figures show of all.
    found = made({"line": {"runs": 1}}, lenet5=[2, 4], lenet300="all")
    assert set(measured(found, "line")) == {("lenet5", "2"), ("lenet300", "6")}
    assert runs(found.figure_tables("fig2")["line"]) == [("lenet5", "2")]
    assert set(measured(found, "surface")) == {*of_focus, *(("lenet300", run) for run in "624")}
    assert measured(made({"line": {"runs": [4, 2]}}), "line") == of_focus[1:], "without maps of those that figures show"
    with pytest.raises(ConfigError, match=r"analysis.line.runs: run 6 wanted; the setting maps has \[2, 4\]"):
        made({"line": {"runs": [6]}}, lenet5=[2, 4])
    with pytest.raises(ConfigError, match=r"analysis.surface.runs: a figure shows the first run of the focus"):
        made({"surface": {"runs": [2]}}, lenet5=[2, 4])


def test_an_analysis_may_be_made_in_some_of_the_runs(tmp_path: Path) -> None:
    study = yaml.safe_load(Path("workflow/studies/demo.yaml").read_text(encoding="utf-8"))
    experiment = next(e for e in study["experiments"] if e["model"] == study["focus"]["model"])
    path = tmp_path / "some.yaml"

    def found(**analysis: dict) -> Layout:
        experiment["analysis"] = analysis
        path.write_text(yaml.safe_dump({**study, "seeds": [6, 2, 4]}), encoding="utf-8")
        return layout(str(path))

    whole, some = found(), found(hessian={"runs": 2}, psp={"runs": "first"}, barrier={"runs": [4]})
    jobs = [
        {job.outputs: job for job in each.measurements() if job.key["model"] == experiment["model"]}
        for each in (whole, some)
    ]
    assert jobs[1].items() <= jobs[0].items(), "of the same settings, so that nothing is made anew"
    seeds = {
        rule: [job.key["seed"] for job in jobs[1].values() if job.rule == rule]
        for rule in ("hessian", "psp", "barrier")
    }
    assert seeds == {"hessian": [6, 2], "psp": [6], "barrier": [4]}
    made = {path for each in (some.training_jobs(), some.measurements()) for job in each for path in job.outputs}
    numbers = some.analysis_jobs()[-1]
    tables = {name: [path for path in numbers.inputs if f"/{name}/" in path] for name in ("hessian", "psp", "barrier")}
    assert {path for paths in tables.values() for path in paths} <= made
    assert some.figure_tables("fig2")["hessian"] == tables["hessian"]
    assert len(jobs[0]) - len(jobs[1]) == 1 + 2 + 2


def test_an_experiment_has_the_first_so_many_runs(tmp_path: Path) -> None:
    experiment = {
        "dataset": "digits",
        "model": "lenet300",
        "method": {"name": "lobster"},
        "levels": [0.9],
        "strategies": {"rewind": {"seeds": "all"}, "reinit": {"seeds": 2}, "rewind-long": {"seeds": 4}},
        "analysis": {},
    }
    study = {
        "title": "Some",
        "seeds": [7, 5, 6, 8],
        "experiments": [experiment, {**experiment, "model": "lenet5", "seeds": 3}],
        "focus": {"dataset": "digits", "model": "lenet5"},
    }
    path = tmp_path / "some.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    found = layout(str(path))
    first, second = found.study.experiments
    assert (found.seeds(first), found.seeds(second)) == ((7, 5, 6, 8), (7, 5, 6))
    retrained = {
        (e.model, name): tuple(dict.fromkeys(cell.seed for cell in found.cells(e) if cell.strategy == name))
        for e in (first, second)
        for name in e.strategies
    }
    assert retrained == {
        ("lenet300", "rewind"): (7, 5, 6, 8),
        ("lenet300", "reinit"): (7, 5),
        ("lenet300", "rewind-long"): (7, 5, 6, 8),
        ("lenet5", "rewind"): (7, 5, 6),
        ("lenet5", "reinit"): (7, 5),
        ("lenet5", "rewind-long"): (7, 5, 6),
    }


def test_an_experiment_of_the_first_seed_has_one_run_of_everything(tmp_path: Path) -> None:
    experiment = {
        "dataset": "digits",
        "model": "lenet300",
        "method": {"name": "lobster"},
        "levels": [0.9, 0.98],
        "strategies": {"rewind": {"seeds": "all"}, "reinit": {"seeds": "all", "replicas": 2}},
        "analysis": {},
    }
    short = {**experiment, "model": "lenet5", "seeds": "first"}
    same_net = {**experiment, "method": {"name": "snip"}, "seeds": "first", "strategies": {}, "analysis": None}
    study = {
        "title": "Short",
        "seeds": [4, 5, 6],
        "experiments": [experiment, short, same_net],
        "focus": {"dataset": "digits", "model": "lenet5"},
    }
    path = tmp_path / "short.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    found = layout(str(path))

    def seeds(paths: list[str], part: str) -> list[str]:
        return sorted(path.rsplit("seed-", 1)[1][0] for path in paths if part in path)

    checkpoints = [path.removesuffix("/checkpoint.safetensors") for path in found.checkpoints()]
    for part, expected in {
        "/lenet300/dense/": ["4", "5", "6"],  # of the experiment that has all
        "/lenet300/snip/level-90/gradual/": ["4"],
        "/lenet5/dense/": ["4"],
        "/lenet5/lobster/level-98/reinit/": ["4"],
        "/lenet300/lobster/level-98/reinit/": ["4", "5", "6"],
    }.items():
        assert seeds(checkpoints, part) == expected, part
    trained = {job.rule: 0 for job in found.training_jobs()}
    for job in found.training_jobs():
        trained[job.rule] += 1
    # Runs: LOBSTER on LeNet-300 three, on LeNet-5 one, SNIP one; two levels and two strategies where there are any.
    assert trained == {"prepare": 1, "init": 4, "dense": 4, "prune": 5, "retrain": 3 * 4 + 4}
    assert seeds(found.analysis_tables("psp"), "/lenet5/") == ["4"]
    assert seeds(found.figure_tables("fig2")["hessian"], "") == ["4"]
    steps = [step.kind for step in all_steps(found, Costs(found))]
    assert [steps.count(kind) for kind in ("dense", "prune", "retrain")] == [4, 5, 16]


def test_what_a_study_has_not_is_named_with_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(
        yaml.safe_dump(
            {
                "title": "One",
                "experiments": [
                    {
                        "dataset": "digits",
                        "model": "lenet300",
                        "method": {"name": "lobster"},
                        "levels": [0.9],
                        "strategies": {"rewind": {}},
                    }
                ],
                "figures": ["fig1"],
                "paper": False,
            }
        )
    )
    found = layout(str(tmp_path / "one.yaml"))
    net = {"dataset": "digits", "model": "lenet300", "method": "lobster"}
    with pytest.raises(ConfigError, match="no lenet5 on digits by snip; it has lenet300 on digits by lobster"):
        found.experiment("digits", "lenet5", "snip")
    with pytest.raises(ConfigError, match=r"not retrained by reinit; add it to the experiment's strategies: rewind$"):
        found.retraining(found.experiment(**net), "reinit", 0)
    with pytest.raises(ConfigError, match=r"no hessian of lenet300 on digits by lobster: add to the experiment"):
        found.analysis_settings(**net, analysis="hessian")
    assert layout("demo").analysis_settings("digits", "lenet5", "lobster", "hessian").images == 200

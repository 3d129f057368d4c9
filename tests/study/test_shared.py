"""Experiments of one dataset and model: what they share is that of all, wherever it is asked for."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from sharpminima.base.errors import ConfigError
from sharpminima.study.costs import Costs
from sharpminima.study.jobs import Job, Layout
from sharpminima.study.plan import all_steps
from sharpminima.study.read import load_config

BASE = {"dataset": "digits", "model": "lenet300", "levels": [0.8, 0.95], "dense": {"max_epochs": 3}}
STRATEGIES = {"rewind": {"seeds": "all"}}


def layout(tmp_path: Path, *experiments: dict[str, Any], seeds: tuple[int, ...] = (0, 1, 2)) -> Layout:
    """Of a study whose experiments differ in their methods, and in what is given."""
    named = zip(("magnitude", "snip", "lobster"), experiments, strict=False)
    listed = [{**BASE, "method": {"name": name}, **own} for name, own in named]
    study = {"title": "t", "seeds": list(seeds), "experiments": listed, "figures": [], "paper": False}
    path = tmp_path / "shared.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return Layout(*load_config({"study": str(path)}))


def dense_jobs(found: Layout) -> dict[int, Job]:
    return {job.key["seed"]: job for job in found.training_jobs() if job.rule == "dense"}


def test_what_is_kept_is_of_the_runs_of_all_experiments_of_a_net(tmp_path: Path) -> None:
    kept = {"weights": "highest", "keep_all": [2]}
    dense = {"psp": {"dense": True, "runs": [2]}}
    first = {**kept, "seeds": [0, 1], "transfer": {"to": "digits-high", "sources": ["dense"]}}
    second = {**kept, "seeds": "all", "strategies": STRATEGIES, "analysis": dense}
    found = layout(tmp_path, first, second)
    assert {seed: job.settings.get("weights") for seed, job in dense_jobs(found).items()} == {
        **{0: "none", 1: "none"},
        2: None,
    }
    for experiment in found.study.experiments:  # the rules of a dense net, which name no method, take the first
        assert [found.kept_weights(experiment, seed) for seed in (0, 1, 2)] == ["highest", "highest", "all"]
    assert found.transfer_tables() == [], "the first has no run whose dense net is kept"


def test_a_dense_net_that_is_measured_has_its_weights(tmp_path: Path) -> None:
    """Each run's own first is not the net's: of runs 1 and 2 alone, run 1 would be kept."""
    kept = {"weights": "highest", "keep_all": "first"}
    dense = {"psp": {"dense": True, "runs": [1]}}
    with pytest.raises(ConfigError, match=r"analysis\.psp\.dense: the dense net of run 1 keeps no weights"):
        layout(tmp_path, kept, {**kept, "seeds": [1, 2], "strategies": STRATEGIES, "analysis": dense})


def test_a_transfer_of_dense_nets_may_stand_in_the_second_experiment_alone(tmp_path: Path) -> None:
    transfer = {"to": "digits-high", "sources": ["dense", "gradual"], "probe": {"max_epochs": 7, "lr": 1.0}}
    found = layout(tmp_path, {}, {"transfer": transfer})
    wildcards = {"dataset": "digits", "model": "lenet300", "seed": "0", "to": "digits-high"}
    assert found.transfer_settings(**wildcards).probe.max_epochs == 7
    costs = Costs(found)
    asked = costs.transfer(**wildcards)
    planned = [step.cost for step in all_steps(found, costs) if step.kind == "transfer"]
    assert planned == [asked] * 6


def test_two_recipes_for_the_transfer_of_one_dense_net_are_refused(tmp_path: Path) -> None:
    def transfer(lr: float, *sources: str, to: str = "digits-high") -> dict[str, Any]:
        return {"transfer": {"to": to, "sources": list(sources), "probe": {"lr": lr}}}

    said = r"experiments\.1: transfer: \('digits', 'lenet300'\) has two to digits-high; its experiments share"
    with pytest.raises(ConfigError, match=said):
        layout(tmp_path, transfer(1.0, "dense"), transfer(5.0, "dense", "gradual"))
    # Of tables of their own, they may have any.
    layout(tmp_path, transfer(1.0, "dense"), transfer(5.0, "gradual"))
    layout(tmp_path, transfer(1.0, "dense"), transfer(1.0, "dense", "gradual"))


def test_faults_across_experiments_are_reported_together_with_their_places(tmp_path: Path) -> None:
    first = {"strategies": {"rewind": {"seeds": [7]}}, "keep_all": [8]}
    second = {"maps": [9], "analysis": {}, "strategies": STRATEGIES, "dense": {"max_epochs": 4}}
    with pytest.raises(ConfigError) as caught:
        layout(tmp_path, first, {**second, "keep_all": [8]}, {"seeds": 4, "keep_all": [8]})
    lines = [line.removeprefix(f"  {tmp_path}/shared.yaml: ") for line in str(caught.value).splitlines()[1:]]
    assert [": ".join(line.split(": ")[:2]) for line in lines] == [
        "experiments.0: strategies.rewind.seeds",
        "experiments.0: keep_all",
        "experiments.1: dense",
        "experiments.1: keep_all",
        "experiments.1: maps",
        "experiments.2: seeds",
    ]

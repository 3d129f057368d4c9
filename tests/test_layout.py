"""Paths and jobs of a study."""

from pathlib import Path

import yaml

from sharpminima.config import load_config
from sharpminima.layout import Layout


def layout(study: str) -> Layout:
    return Layout(*load_config({**yaml.safe_load(Path("config.yaml").read_text(encoding="utf-8")), "study": study}))


def test_below_a_level_replicas_keep_no_weights() -> None:
    found = layout("paper")
    experiment = found.study.experiments[0]
    levels = {level: found.weights(experiment, level) for level in found.levels(experiment)}
    assert [level for level, kept in levels.items() if kept == "first"] == ["70", "80"]
    jobs = {job.outputs[0]: job.settings for job in found.training_jobs() if job.rule == "retrain"}
    settings = {path.split("/level-")[1][:2]: value for path, value in jobs.items() if "/lenet300/" in path}
    assert settings["80"]["weights"] == "first"
    assert "weights" not in settings["90"]


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

"""The tables of results: one row a net, and none of a net that is not the one its path names."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from sharpminima.base.errors import CheckpointError
from sharpminima.nets.checkpoint import save_checkpoint
from sharpminima.nets.counts import count_net
from sharpminima.nets.initial import save_initial
from sharpminima.nets.models import build_model
from sharpminima.steps import tables

FOLDER = Path("results/s/runs/digits/lenet300/lobster/level-90/rewind/seed-0")
COUNTS = {
    **dict.fromkeys(("parameters", "nonzero", "effective", "prunable"), 4),
    **dict.fromkeys(("compression", "flops_dense", "flops_effective", "flops_nonzero"), 1),
    "density_per_layer": {"w": 1.0},
}
LOSSES = {f"{part}_loss": 0.5 for part in ("training", "validation", "test")}
METRICS = {"sparsity": 0.9, "measures": COUNTS, "test_wrong": 3, "test_images": 100, "epoch": 1, "epochs": 2} | LOSSES


def save(path: Path, **other: Any) -> Path:
    facts = {"dataset": "digits", "model": "lenet300", "method": "lobster", "strategy": "rewind", "level": 0.9}
    save_checkpoint(path, [{"w": torch.ones(4)}], metadata=facts | {"seed": 0, "metrics": [METRICS]} | other)
    return path


def make(*paths: Path) -> list[str]:
    tables.results(paths, paths[0].parent / "r.csv", paths[0].parent / "d.csv")
    return (paths[0].parent / "r.csv").read_text().splitlines()


def test_a_net_in_its_place_has_a_row_wherever_the_study_lies(tmp_path: Path) -> None:
    assert len(make(save(tmp_path / FOLDER / "checkpoint.safetensors"))) == 2
    assert len(make(save(tmp_path / "mine" / "checkpoint.safetensors"))) == 2


@pytest.mark.parametrize(("flops", "collapsed"), [(2, "False"), (0, "True"), (None, "")])
def test_a_net_through_which_nothing_leads_has_collapsed(tmp_path: Path, flops: int | None, collapsed: str) -> None:
    metrics = METRICS | {"measures": COUNTS | {"flops_effective": flops}}
    header, row = make(save(tmp_path / FOLDER / "checkpoint.safetensors", metrics=[metrics]))
    assert dict(zip(header.split(","), row.split(","), strict=True))["collapsed"] == collapsed


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"seed": 1}, "lies where the net of seed 0 should, and is of 1; remove it"),
        ({"strategy": "reinit"}, "of strategy rewind should, and is of reinit"),
        ({"level": 0.95}, "of level 90 should, and is of 95"),
        ({"method": "gimp"}, "of method lobster should, and is of gimp"),
        ({"model": "lenet5"}, "of model lenet300 should, and is of lenet5"),
        ({"dataset": "mnist"}, "of dataset digits should, and is of mnist"),
    ],
)
def test_a_copied_cell_has_no_row(tmp_path: Path, other: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        make(save(tmp_path / FOLDER / "checkpoint.safetensors", **other))
    assert not (tmp_path / FOLDER / "r.csv").exists()


def test_a_dense_net_of_another_seed_has_no_row(tmp_path: Path) -> None:
    path = tmp_path / "digits/lenet300/dense/seed-1/checkpoint.safetensors"
    facts = {"dataset": "digits", "model": "lenet300", "strategy": "dense", "seed": 0, "metrics": [METRICS]}
    save_checkpoint(path, [{"w": torch.ones(4)}], metadata=facts)
    with pytest.raises(CheckpointError, match="of seed 1 should, and is of 0"):
        make(path)


def test_a_net_stands_once(tmp_path: Path) -> None:
    first = save(tmp_path / "a.safetensors")
    shutil.copy(first, tmp_path / "b.safetensors")
    with pytest.raises(
        CheckpointError, match=r"b.safetensors: holds the same nets as .*a.safetensors; give each net once"
    ):
        make(first, tmp_path / "b.safetensors")
    with pytest.raises(CheckpointError, match=r"a.safetensors: stands twice"):
        make(first, Path(str(first)))
    with pytest.raises(CheckpointError, match=r"a.safetensors: stands twice"):
        tables.measures([first, Path(str(first))], tmp_path / "m.csv")


def test_w0_has_no_row(tmp_path: Path) -> None:
    save_initial(tmp_path / "w0", {"model": "lenet300", "num_classes": 10, "seed": 0, "dataset": "digits"})
    with pytest.raises(CheckpointError, match="w0: is W0, or a net that nobody has measured; give trained nets"):
        make(tmp_path / "w0")


@pytest.mark.parametrize("recorded", [{}, {"num_classes": 5, "dataset": "of-a-plug-in"}])
def test_measures_are_those_of_a_net_of_as_many_classes(tmp_path: Path, recorded: dict[str, Any]) -> None:
    """Of digits-low, which has five, or as the net's record says."""
    net = build_model("lenet3", num_classes=5)
    counts = count_net(net, (1, 28, 28))
    weights = [parameter for parameter in net.parameters() if parameter.dim() > 1]
    facts = {"dataset": "digits-low", "model": "lenet3", "seed": 0, "metrics": [METRICS | {"measures": asdict(counts)}]}
    facts |= recorded
    masks = [{name: torch.ones_like(value, dtype=torch.bool) for name, value in net.named_parameters()}]
    facts |= {"strategy": "rewind", "method": "lobster", "level": 0.9}
    save_checkpoint(tmp_path / "pruned.safetensors", [net.state_dict()], masks=masks, metadata=facts | {"settings": {}})
    save_checkpoint(
        tmp_path / "dense.safetensors",
        [net.state_dict()],
        metadata=facts | {"settings": {}, "strategy": "dense", "method": "dense", "level": 0.0},
    )
    tables.measures([tmp_path / "dense.safetensors", tmp_path / "pruned.safetensors"], tmp_path / "m.csv")
    for row in pd.read_csv(tmp_path / "m.csv").itertuples():
        assert row.kernels == row.nonzero_kernels == sum(weight.numel() for weight in weights)
        assert row.stored_bytes == 4 * counts.parameters == 4 * row.parameters


def test_a_net_of_an_unknown_dataset_has_no_measures(tmp_path: Path) -> None:
    net = save(tmp_path / "net.safetensors", dataset="of-a-plug-in", settings={})
    with pytest.raises(
        CheckpointError, match=r"of dataset 'of-a-plug-in', which this version does not know; .*--plugin"
    ):
        tables.measures([net], tmp_path / "m.csv")


@pytest.mark.parametrize("name", ["dataset", "model", "strategy", "seed"])
def test_a_net_that_does_not_say_what_it_is_has_no_row(tmp_path: Path, name: str) -> None:
    facts = {"dataset": "digits", "model": "lenet300", "strategy": "dense", "seed": 0, "metrics": [METRICS]}
    del facts[name]
    save_checkpoint(tmp_path / "net", [{"w": torch.ones(4)}], metadata=facts)
    with pytest.raises(CheckpointError, match=f"net: its metadata lack {name}; state them where it is saved"):
        make(tmp_path / "net")


def test_a_net_whose_metrics_are_not_those_of_a_row_has_none(tmp_path: Path) -> None:
    metrics = {name: value for name, value in METRICS.items() if name not in ("measures", "epoch")}
    with pytest.raises(CheckpointError, match="net: its metadata lack measures, epoch; "):
        make(save(tmp_path / "net", metrics=[metrics]))
    with pytest.raises(CheckpointError, match="net: its metadata lack settings; "):
        tables.measures([save(tmp_path / "net")], tmp_path / "m.csv")
